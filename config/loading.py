"""From YAML, JSON or TOML files, a preset and overrides to one `Configuration`.

Precedence, strongest first: overrides, later files, earlier files, preset, defaults. It is
decided key by key within a section; a mapping *inside* a section (``event_filters``,
``reference_telescopes``) is one value and replaced whole by a later file, so that a file can
also take something away. Only an override reaches inside it.

A preset for the comparison with the peer selects what the peer's user guide selects, until a file
configures a tool of the peer that selects: then the selection is that of the files alone, as it is
for the peer.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from arraycal.config import plain_yaml
from arraycal.config.errors import ConfigurationError, shown
from arraycal.config.messages import Origins, did_you_mean, explain
from arraycal.config.models import Configuration
from arraycal.config.spellings import (
    ALIASES,
    NEWER_SPELLING,
    OLDER_SPELLING,
    TOLD_ELSEWHERE,
    WRAPPER,
    canonical,
    canonical_path,
)

__all__ = [
    "available_presets",
    "load_configuration",
    "load_preset",
    "preset_path",
]

PRESETS = Path(__file__).parent / "presets"
#: What the name of a preset for the comparison with the peer ends in.
PEER = "-peer"
#: Tools of the peer that select; each has event filters of its own, the criteria are common.
SELECTING = ("CalculateAsymmetry", "CalculateImageAsymmetry", "CalculateCrossCalibration")
CRITERIA = ("QualityQuery", "quality_criteria")


@dataclass
class _Layers:
    """Settings put on top of each other, and where each one came from."""

    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    origins: Origins = field(default_factory=dict)

    def add_file(self, content: Mapping[str, object], source: str) -> None:
        _refuse_unknown_sections(content, source)
        try:
            layer = canonical(content)
        except ConfigurationError as error:
            raise ConfigurationError(f"{source}: {error}") from None
        for section, settings in layer.sections.items():
            self.sections.setdefault(section, {}).update(settings)
            for key in settings:
                self.origins[section, key] = (source, layer.written[section, key])

    def leave_selection_to_files(self, preset: str) -> None:
        """Take the preset's selection out for the tools that files configure."""
        given = {path[0] for path, (source, _) in self.origins.items() if source != preset}
        for tool in SELECTING:
            if tool in given:
                self.forget((tool, "event_filters"), preset)
                self.forget(CRITERIA, preset)

    def forget(self, path: tuple[str, str], source: str) -> None:
        """Take a setting out if it comes from this source."""
        if self.origins.get(path, ("",))[0] == source:
            section, key = path
            del self.sections[section][key], self.origins[path]

    def add_override(self, override: _Override) -> None:
        section, *between, key = override.path
        target = self.sections.setdefault(section, {})
        for name in between:
            inner = target.get(name)
            if inner is not None and not isinstance(inner, Mapping):
                raise ConfigurationError(
                    f"{override.source}: {name} holds {shown(inner)}, which has no keys"
                )
            # a copy: YAML aliases let two settings share one mapping
            target[name] = dict(inner or {})
            target = target[name]
        target[key] = override.value
        self.origins[override.path] = (override.source, override.written)
        if override.path == OLDER_SPELLING:
            self.sections[section][NEWER_SPELLING[1]] = override.value
            self.origins[NEWER_SPELLING] = self.origins[OLDER_SPELLING]


@dataclass(frozen=True)
class _Override:
    """One ``--set``, with its name in the canonical spelling."""

    path: tuple[str, ...]
    value: object
    written: str
    source: str

    @classmethod
    def parse(cls, text: str) -> _Override:
        source = f"--set {text}"
        written, equals, value = text.partition("=")
        names = tuple(name.strip() for name in written.split("."))
        _refuse_unknown_sections({names[0]: None}, source)
        path = canonical_path(names)
        if not equals or len(path) < 2 or not all(path) or path[0] == WRAPPER:  # noqa: PLR2004
            raise ConfigurationError(f"{source}: expected Section.key=value")
        return cls(path, _parse_yaml(value, source), written.strip(), source)


def load_configuration(
    paths: Sequence[Path] = (),
    *,
    preset: str | None = None,
    overrides: Sequence[str] = (),
) -> Configuration:
    """Read a configuration.

    Parameters
    ----------
    paths : sequence of Path
        YAML files, or JSON and TOML by their suffix; a later one wins over an earlier one, key
        by key.
    preset : str, optional
        Name of a preset that lies below the files; none by default.
    overrides : sequence of str
        ``Section.key=value`` with the value in YAML. Deeper names reach into a mapping:
        ``CalculateAsymmetry.event_filters.min_energy=50 GeV``.

    Returns
    -------
    Configuration
        Complete and checked.

    Raises
    ------
    ConfigurationError
        If anything cannot be read, is unknown or out of range. The message names the file
        or override, the key, what was found and what was expected.
    """
    layers = _Layers()
    files = [*([preset_path(preset)] if preset is not None else []), *map(Path, paths)]
    for path in files:
        layers.add_file(_read_file(path), str(path))
    if preset is not None and preset.endswith(PEER):
        layers.leave_selection_to_files(str(files[0]))
    # The older spelling first, so that it implies the newer one only where that is not given.
    parsed = [_Override.parse(text) for text in overrides]
    for override in sorted(parsed, key=lambda item: item.path != OLDER_SPELLING):
        layers.add_override(override)
    if preset is not None and TOLD_ELSEWHERE in layers.origins:
        layers.forget(NEWER_SPELLING, str(files[0]))
    try:
        return Configuration.model_validate(layers.sections)
    except ValidationError as error:
        raise ConfigurationError(explain(error, Configuration, layers.origins)) from None


def available_presets() -> tuple[str, ...]:
    """Name the presets that come with arraycal.

    Examples
    --------
    >>> "energy-inter" in available_presets()
    True
    """
    return tuple(sorted(path.stem for path in PRESETS.glob("*.yaml")))


def preset_path(name: str) -> Path:
    """Find the file of a preset.

    Raises
    ------
    ConfigurationError
        If there is no preset of this name.
    """
    presets = available_presets()
    if name not in presets:
        raise ConfigurationError(f"there is no preset {name!r}{did_you_mean(name, presets)}")
    return PRESETS / f"{name}.yaml"


def load_preset(name: str) -> Configuration:
    """Read a preset alone: `load_configuration` without files or overrides."""
    return load_configuration(preset=name)


def _read_file(path: Path) -> Mapping[str, object]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(f"there is no configuration file {path}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not a text file in UTF-8: {error.reason}") from None
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    parse = FORMATS.get(path.suffix.lower(), _parse_yaml)
    content = parse(text, str(path))
    if content is None:  # empty, or nothing but comments
        return {}
    if not isinstance(content, Mapping):
        raise ConfigurationError(
            f"{path} holds {shown(content)}, expected sections such as 'PairFinder:'"
        )
    return content


def _parse_yaml(text: str, source: str) -> object:
    try:
        return plain_yaml.parse_yaml(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigurationError(
            f"{source}{where}: not valid YAML: {error.problem or error.context}"
        ) from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{source}: not valid YAML: {error}") from None


def _parse_json(text: str, source: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_without_repeated_keys)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{source}: not valid JSON: {error}") from None


def _without_repeated_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {shown(key)} is given twice")
        found[key] = value
    return found


def _parse_toml(text: str, source: str) -> object:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{source}: not valid TOML: {error}") from None


def _refuse_program(_: str, source: str) -> object:
    raise ConfigurationError(
        f"{source} is a program, which is not run to read settings from it; expected YAML "
        "(.yaml, .yml), JSON (.json) or TOML (.toml)"
    )


#: How to read a file, by suffix; YAML otherwise.
FORMATS = {".json": _parse_json, ".toml": _parse_toml, ".py": _refuse_program}


def _refuse_unknown_sections(content: Mapping[str, object], source: str) -> None:
    known = (*Configuration.model_fields, *ALIASES, WRAPPER)
    for name in content:
        if name not in known:
            raise ConfigurationError(
                f"{source}: unknown section {shown(name)}{did_you_mean(str(name), known)}"
            )
