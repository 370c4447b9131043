"""Parameters of the flows: what the form of the Prefect UI asks for.

Limits are those of single fields, because Prefect checks nothing else before a run starts.
"""

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Literal, Protocol, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from arraycal.calib.observables import OBSERVABLES
from arraycal.config.loading import available_presets
from arraycal.config.messages import did_you_mean

__all__ = [
    "AUTOMATIC",
    "NO_PRESET",
    "BackfillParameters",
    "CalibrateParameters",
    "NightCalibration",
    "NightOptions",
    "NightlyParameters",
    "in_order",
]

AUTOMATIC = "automatic"
NO_PRESET = "none"
PRESET_CHOICES = (AUTOMATIC, NO_PRESET, *available_presets())

Text = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Override = Annotated[str, StringConstraints(pattern=r"^[^=]+\.[^=]+=", max_length=4096)]


def _known_calibration(name: str) -> str:
    if name not in OBSERVABLES:
        raise ValueError(f"there is no calibration {name!r}{did_you_mean(name, OBSERVABLES)}")
    return name


def _known_preset(name: str) -> str:
    if name not in PRESET_CHOICES:
        raise ValueError(f"there is no preset {name!r}{did_you_mean(name, PRESET_CHOICES)}")
    return name


# An `enum` in the schema, not in Python, so that a new observable is one line in its registry.
Calibration = Annotated[
    str, AfterValidator(_known_calibration), Field(json_schema_extra={"enum": list(OBSERVABLES)})
]
Preset = Annotated[
    str, AfterValidator(_known_preset), Field(json_schema_extra={"enum": list(PRESET_CHOICES)})
]


#: A date of this century as the form takes it: the schema's own format is checked by nobody.
DATE_PATTERN = (
    r"^20\d\d-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)"
    r"|02-(0[1-9]|[12]\d))$"
)
Night = Annotated[date, Field(json_schema_extra={"pattern": DATE_PATTERN})]

# Settings of a calibration, run by itself or as one of a night's.
ChosenPreset = Annotated[
    Preset,
    Field(
        description="Settings to start from. automatic: the recommended ones of the calibration, "
        "unless configuration files are given; none: the documented defaults."
    ),
]
ConfigurationFiles = Annotated[
    list[Text],
    Field(description="YAML configuration files; a later one wins over an earlier one."),
]
Overrides = Annotated[
    list[Override],
    Field(description="Single settings, SECTION.KEY=VALUE; they win over everything else."),
]
InterFile = Annotated[
    Text | None,
    Field(
        description="energy-cross by method three_step: monitoring file with the inter-calibration "
        "to start from; by default it is made of the same blocks."
    ),
]
SimulationReference = Annotated[
    Text | None,
    Field(
        description="energy-cross: result.json of the same calibration of simulated blocks, whose "
        "contrasts between types are subtracted."
    ),
]
ComparedResult = Annotated[
    Text | None,
    Field(
        description="image-inter: result.json of energy-inter or energy-cross, or the folder that "
        "holds it, to compare the coefficients with."
    ),
]


class CalibrateParameters(BaseModel):
    """One calibration of an array from its observation blocks."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Calibration")

    calibration: Calibration = Field("energy-inter", description="Which calibration to run.")
    blocks: list[Text] = Field(
        min_length=1,
        description="DL2 block files, folders of them, or patterns such as night/*.dl2.h5. "
        "Relative ones start from the data folder of the machine (ARRAYCAL_DATA_ROOT).",
    )
    output: Text = Field(
        description="Folder for the results; created if missing. "
        "A relative one starts from the output folder of the machine (ARRAYCAL_OUTPUT_ROOT).",
    )
    preset: ChosenPreset = AUTOMATIC
    config: ConfigurationFiles = Field(default_factory=list)
    overrides: Overrides = Field(default_factory=list)
    inter: InterFile = None
    simulation_reference: SimulationReference = None
    compare: ComparedResult = None
    overwrite: bool = Field(default=False, description="Replace results that exist.")
    record: Literal["automatic", "yes", "no"] = Field(
        "automatic",
        description="Whether the result goes into the history. automatic: if the machine has a "
        "database for it (ARRAYCAL_DATABASE_URL).",
    )
    night: Night | None = Field(
        None,
        description="Night under which the history keeps the result, the date of its evening. "
        "By default that of the observations.",
    )


#: What a night is calibrated for, in this order: a cross-calibration stands on the
#: inter-calibration before it.
NIGHTLY_ORDER = ("energy-inter", "energy-cross", "image-inter", "timing-cross")
#: Folders of nights are named by strftime in `NightOptions.blocks`; nothing else is filled in.
BLOCK_PATTERN = r"^([^{}]|\{night:[^{}!]+\})+$"
#: Nights of one backfill; more is a mistake in a year.
MAX_NIGHTS = 1000


class NightCalibration(BaseModel):
    """One of the calibrations of a night, with its settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Calibration with its settings")

    calibration: Calibration = Field(description="Which calibration to run.")
    preset: ChosenPreset = AUTOMATIC
    config: ConfigurationFiles = Field(default_factory=list)
    overrides: Overrides = Field(default_factory=list)
    inter: InterFile = None
    simulation_reference: SimulationReference = None
    compare: ComparedResult = None


class OfCalibration(Protocol):
    """What belongs to a calibration."""

    @property
    def calibration(self) -> str:
        """Its name."""


Ordered = TypeVar("Ordered", bound=OfCalibration)


def _default_calibrations() -> list[NightCalibration]:
    return [NightCalibration(calibration=name) for name in NIGHTLY_ORDER if name in OBSERVABLES]


def in_order(items: Sequence[Ordered]) -> list[Ordered]:
    """Sort what belongs to calibrations in the order of `NIGHTLY_ORDER`."""
    order = {name: index for index, name in enumerate(NIGHTLY_ORDER)}
    return sorted(items, key=lambda item: order.get(item.calibration, len(order)))


def _each_once(items: list[NightCalibration]) -> list[NightCalibration]:
    names = [item.calibration for item in items]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} is there twice; each has one result per night")
    return in_order(items)


class NightOptions(BaseModel):
    """What is done with a night, whichever it is."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Options of a night")

    blocks: Annotated[str, StringConstraints(pattern=BLOCK_PATTERN, max_length=4096)] = Field(
        "**/*.dl2.h5",
        description="Where block files are: a pattern, relative to the data folder of the machine "
        "(ARRAYCAL_DATA_ROOT). {night:%Y/%m/%d} stands for the date of the night and narrows the "
        "search. Of the files found, those observed from noon to noon are taken.",
    )
    output: Text = Field(
        ".",
        description="Folder that gets a folder per night with one per calibration. "
        "A relative one starts from the output folder of the machine (ARRAYCAL_OUTPUT_ROOT).",
    )
    settle_s: float = Field(
        120.0,
        title="Settling time [s]",
        ge=0,
        le=86_400,
        description="A file that changed during the last so many seconds [s] is still being "
        "written, and left for the next run.",
    )
    again: Literal["changed", "always"] = Field(
        "changed",
        description="Results that exist. changed: replace them where blocks, settings or the "
        "version have changed; always: compute and replace them all. Cached blocks are used "
        "either way.",
    )
    # Last: boxes of seven fields each, below which nobody looks for more.
    calibrations: Annotated[list[NightCalibration], AfterValidator(_each_once)] = Field(
        default_factory=_default_calibrations,
        min_length=1,
        description="Calibrations to run. A cross-calibration runs after the inter-calibration.",
    )


class NightlyParameters(BaseModel):
    """The calibrations of one night, and of earlier ones that are not complete."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Night")

    night: Night | None = Field(
        None,
        description="Date of the evening. By default the night that ended last before the "
        "scheduled start.",
    )
    look_back: int = Field(
        3,
        ge=0,
        le=60,
        description="Without a night: so many nights before it are completed too, if blocks came "
        "late or a run was lost.",
    )
    options: NightOptions = Field(default_factory=NightOptions, description="What is done with it.")


class BackfillParameters(BaseModel):
    """The calibrations of a range of nights."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Range of nights")

    first: Night = Field(description="Date of the first evening.")
    last: Night = Field(description="Date of the last evening, included.")
    options: NightOptions = Field(
        default_factory=NightOptions, description="What is done with every night."
    )

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        n_nights = (self.last - self.first).days + 1
        if not 1 <= n_nights <= MAX_NIGHTS:
            raise ValueError(
                f"from {self.first} to {self.last} are {n_nights} nights; expected 1 to "
                f"{MAX_NIGHTS}, the earlier date first"
            )
        return self
