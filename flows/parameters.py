"""Parameters of the flows: what the form of the Prefect UI asks for.

Limits are those of single fields, because Prefect checks nothing else before a run starts.
"""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from calib.observables import OBSERVABLES
from config.loading import available_presets
from config.messages import did_you_mean

__all__ = ["AUTOMATIC", "NO_PRESET", "CalibrateParameters"]

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


class CalibrateParameters(BaseModel):
    """One calibration of an array from its observation blocks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    preset: Preset = Field(
        AUTOMATIC,
        description="Settings to start from. automatic: the recommended ones of the calibration, "
        "unless configuration files are given; none: the documented defaults.",
    )
    config: list[Text] = Field(
        default_factory=list,
        description="YAML configuration files; a later one wins over an earlier one.",
    )
    overrides: list[Override] = Field(
        default_factory=list,
        description="Single settings, SECTION.KEY=VALUE; they win over everything else.",
    )
    inter: Text | None = Field(
        None,
        description="energy-cross by method three_step: monitoring file with the inter-calibration "
        "to start from; by default it is made of the same blocks.",
    )
    simulation_reference: Text | None = Field(
        None,
        description="energy-cross: result.json of the same calibration of simulated blocks, whose "
        "contrasts between types are subtracted.",
    )
    overwrite: bool = Field(default=False, description="Replace results that exist.")
