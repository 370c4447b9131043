"""Which calibration is wanted, with all its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from arraycal.calib.observables import OBSERVABLES, Observable
from arraycal.config.dumping import to_yaml
from arraycal.config.errors import ConfigurationError
from arraycal.config.loading import preset_path
from arraycal.config.messages import did_you_mean
from arraycal.config.settings import load_settings
from arraycal.flows.jobs.job import configured
from arraycal.flows.jobs.parameters import NightCalibration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from arraycal.config.models import Configuration

__all__ = ["Calibration", "as_calibration", "preset"]


@dataclass(frozen=True)
class Calibration:
    """A calibration with all its options; `preset` makes one.

    Parameters
    ----------
    name : str
        ``energy-inter``, ``energy-cross``, ``image-inter`` or ``timing-cross``.
    configuration : Configuration
        All options.

    Raises
    ------
    ConfigurationError
        If there is no calibration of this name.
    """

    name: str
    configuration: Configuration

    def __post_init__(self) -> None:
        """Refuse a name that is none."""
        if self.name not in OBSERVABLES:
            raise ConfigurationError(
                f"there is no calibration {self.name!r}{did_you_mean(self.name, OBSERVABLES)}"
            )

    @property
    def observable(self) -> Observable:
        """What the calibration compares, and how."""
        return OBSERVABLES[self.name]

    @property
    def yaml(self) -> str:
        """All options as the text of a configuration file."""
        return to_yaml(self.configuration)

    def __repr__(self) -> str:
        return f"<Calibration {self.name}; its options: .yaml>"


def preset(
    name: str,
    options: Mapping[str, object] | None = None,
    *,
    files: Sequence[str | Path] = (),
    **sections: Mapping[str, object],
) -> Calibration:
    """Choose a calibration, with options that come with arraycal, and change some.

    Parameters
    ----------
    name : str
        A preset, see ``arraycal presets``: ``energy-inter``, ``image-inter-peer`` and so on.
    options : mapping of str to object, optional
        Values by ``Section.key``; deeper names reach into a mapping:
        ``{"CalculateAsymmetry.event_filters.min_energy": "50 GeV"}``.
    files : sequence of str or Path
        Configuration files on top of the preset, also those of ctao-calibpipe; a later one wins.
    **sections : mapping
        Values by key, under the name of their section. Stronger than files, like `options`.

    Returns
    -------
    Calibration
        Complete and checked.

    Raises
    ------
    ConfigurationError
        If anything is unknown or out of range, or a file cannot be read.

    Examples
    --------
    >>> chosen = preset("energy-inter", RelativeThroughputFitter={"min_events": 50})
    >>> chosen.configuration.RelativeThroughputFitter.min_events
    50
    """
    preset_path(name)  # says what there is if this is not
    asked = NightCalibration(
        calibration=_calibration_of(name),
        preset=name,
        config=[str(path) for path in files],
        overrides=[*_overrides(options or {}), *_of_sections(sections)],
    )
    # Folders that a machine allows bind what others may start there, not who is at home on it.
    free = load_settings().model_copy(update={"data_root": None})
    return Calibration(asked.calibration, configured(asked, free))


def as_calibration(chosen: Calibration | str) -> Calibration:
    """Take a calibration, or the preset of a name.

    Raises
    ------
    TypeError
        If it is neither.
    """
    if isinstance(chosen, str):
        return preset(chosen)
    if not isinstance(chosen, Calibration):
        raise TypeError(
            f"expected a calibration as arraycal.preset gives it, or the name of a preset, found "
            f"{type(chosen).__name__}. A Configuration does not say which calibration it is for: "
            "arraycal.Calibration('energy-inter', configuration) does."
        )
    return chosen


def _calibration_of(preset_name: str) -> str:
    """Presets bear the name of their calibration, and perhaps an addition."""
    return next(name for name in OBSERVABLES if preset_name.startswith(name))


def _of_sections(sections: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    for section, values in sections.items():
        if not isinstance(values, Mapping):
            raise ConfigurationError(
                f"{section}={values!r}: expected a mapping of the keys of a section, such as "
                "RelativeThroughputFitter={'min_events': 50}"
            )
        yield from _overrides({f"{section}.{key}": value for key, value in values.items()})


def _overrides(options: Mapping[str, object]) -> Iterator[str]:
    for name, value in options.items():
        if "." not in name:
            raise ConfigurationError(f"option {name!r}: expected Section.key")
        try:
            text = yaml.safe_dump(value, default_flow_style=True, width=2**20)
        except yaml.YAMLError:
            raise ConfigurationError(
                f"option {name}: a {type(value).__name__} is no value of a configuration; expected "
                "numbers, texts such as '50 GeV', lists and mappings"
            ) from None
        bare = text.removesuffix("...\n").strip()
        yield f"{name}={bare}"
