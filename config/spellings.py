"""The spellings a configuration file may use, reduced to one.

The peer's tools are configured by traitlets, where a component may be nested in the tool
that owns it, and its names changed between versions. Here every setting ends up as
``Section.key``:

* ``CalculateEnergyAsymmetry`` is `CalculateAsymmetry`;
* ``PairFinder``, ``QualityQuery``, ``RelativeThroughputFitter`` nested in a tool (or, for
  the criteria, in its ``EventPreprocessor``) come to the top level;
* ``throughput_normalization`` is ``throughput_normalisation``;
* ``reconstruction_algorithm`` is also the ``energy_reconstructor``, unless that is given. Of
  ``CalculateInterCalibration`` it names the energies behind the asymmetries: the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from arraycal.config.errors import ConfigurationError, shown

__all__ = [
    "ALIASES",
    "NESTED",
    "NEWER_SPELLING",
    "OLDER_SPELLING",
    "TOLD_ELSEWHERE",
    "WRAPPER",
    "Canonical",
    "canonical",
    "canonical_path",
]

#: Accepted name of a section → ours.
ALIASES = {"CalculateEnergyAsymmetry": "CalculateAsymmetry"}
#: Sections that traitlets files may nest inside another one.
NESTED = ("PairFinder", "QualityQuery", "RelativeThroughputFitter", "EventPreprocessor")
#: Accepted name of a key → ours, by section.
KEY_ALIASES = {("RelativeThroughputFitter", "throughput_normalization"): "throughput_normalisation"}
#: The older spelling implies the newer one; the newer one wins where both are given.
OLDER_SPELLING = ("CalculateAsymmetry", "reconstruction_algorithm")
NEWER_SPELLING = ("CalculateAsymmetry", "energy_reconstructor")
#: The same, said to the tool that compares; whoever says both must say the same.
TOLD_ELSEWHERE = ("CalculateInterCalibration", "reconstruction_algorithm")
#: A wrapper without settings of its own: only what is nested in it is read.
WRAPPER = "EventPreprocessor"
#: YAML aliases can make a section contain itself.
MAX_NESTING = 8


@dataclass
class Canonical:
    """One file's settings under their canonical names.

    Attributes
    ----------
    sections : dict
        Section → key → value.
    written : dict
        ``(section, key)`` → the dotted name the file used, for messages.
    """

    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    written: dict[tuple[str, str], str] = field(default_factory=dict)

    def put(self, section: str, key: str, value: object, written: str) -> None:
        """Add one setting; the same one in two spellings must have the same value."""
        known = self.sections.setdefault(section, {})
        if key in known and known[key] != value:
            raise ConfigurationError(
                f"{self.written[section, key]} = {shown(known[key])} and "
                f"{written} = {shown(value)} are two spellings of one setting; keep one of them"
            )
        known[key] = value
        self.written.setdefault((section, key), written)


def canonical(raw: Mapping[str, object]) -> Canonical:
    """Reduce one file's content to canonical sections and keys.

    Parameters
    ----------
    raw : mapping
        What the YAML file says. Unknown sections and keys pass unchanged.

    Returns
    -------
    Canonical
        The settings; ``raw`` is not modified.

    Raises
    ------
    ConfigurationError
        If a section is no mapping or two spellings contradict each other.
    """
    result = Canonical()
    for name, content in raw.items():
        _collect(result, str(name), content, str(name))
    _name_energy_reconstructor(result)
    return result


def _collect(result: Canonical, name: str, content: object, written: str) -> None:
    section = ALIASES.get(name, name)
    if written.count(".") > MAX_NESTING:
        raise ConfigurationError(f"section {written[:80]} is nested in itself")
    if content is None:  # a heading with nothing, or only comments, below it
        content = {}
    if not isinstance(content, Mapping):
        raise ConfigurationError(
            f"section {written} holds {shown(content)}, expected keys and values"
        )
    if section != WRAPPER:
        result.sections.setdefault(section, {})
    for key, value in content.items():
        _collect_key(result, section, str(key), value, f"{written}.{key}")


def _collect_key(result: Canonical, section: str, key: str, value: object, written: str) -> None:
    if key in NESTED:
        _collect(result, key, value, written)
    elif section == WRAPPER:
        raise ConfigurationError(
            f"{written} has no meaning here: of {WRAPPER} only a nested QualityQuery is read"
        )
    else:
        result.put(section, KEY_ALIASES.get((section, key), key), value, written)


def _name_energy_reconstructor(result: Canonical) -> None:
    # Done for each file: a later file's older spelling must win over an earlier file's newer one.
    section, newer = NEWER_SPELLING
    settings = result.sections.get(section, {})
    older = settings.get(OLDER_SPELLING[1])
    if older is not None and settings.get(newer) is None:
        settings[newer] = older
        result.written[NEWER_SPELLING] = result.written[OLDER_SPELLING]


def canonical_path(path: tuple[str, ...]) -> tuple[str, ...]:
    """Reduce a dotted name, split at its dots, in the same way.

    Examples
    --------
    >>> canonical_path(("CalculateEnergyAsymmetry", "PairFinder", "max_impact_distance"))
    ('PairFinder', 'max_impact_distance')
    """
    while len(path) > 1 and path[1] in NESTED:
        path = path[1:]
    section, *keys = path
    section = ALIASES.get(section, section)
    if keys:
        keys[0] = KEY_ALIASES.get((section, keys[0]), keys[0])
    return (section, *keys)
