"""What a calibration can be told: one frozen model per section of the YAML files.

Sections and keys are those of ctao-calibpipe, whose files run unchanged; keys of our own
live beside them and are marked as such in the class they belong to. Every model refuses
unknown keys. Quantities are kept in the unit named in the field's description.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from arraycal.config.errors import ConfigurationError, shown
from arraycal.config.fields import (
    CoreResolution,
    DistanceM,
    DistanceScale,
    EnergyTeV,
    Fraction,
    IdPerType,
    NonNegative,
    PairOfNumbers,
    ScalePerType,
    Threshold,
    lowercase,
    uppercase_subsystem,
)
from arraycal.config.spellings import (
    NEWER_SPELLING,
    OLDER_SPELLING,
    TOLD_ELSEWHERE,
    canonical,
)
from arraycal.config.telescope import PerType, TelescopeEntry, TelescopeParameter

__all__ = [
    "CalculateAsymmetryOptions",
    "CalculateCrossCalibrationOptions",
    "CalculateImageAsymmetryOptions",
    "CalculateInterCalibrationOptions",
    "CalculateTimingCalibrationOptions",
    "Configuration",
    "DistanceCurveOptions",
    "EnergyEventFilters",
    "ImageEventFilters",
    "Options",
    "PairFinderOptions",
    "QualityQueryOptions",
    "RelativeThroughputFitterOptions",
    "ShowerSelectionOptions",
    "ThroughputConstraint",
    "ToolOptions",
    "TrendMonitorOptions",
]

Gauge = Literal["reference", "geometric_mean", "arithmetic_mean"]
Name = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(strict=True)]

#: The peer's own: a pair is worth comparing up to the sum of the two radii of the light pool.
PEER_IMPACT_DISTANCE_M = TelescopeParameter(
    (
        TelescopeEntry("type", "LST*", 125.0),
        TelescopeEntry("type", "MST*", 125.0),
        TelescopeEntry("type", "SST*", 225.0),
    )
)


class Options(BaseModel):
    """Base of all sections: immutable, hashable, and no key passes unknown.

    A key whose value is null has its default.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _null_means_default(cls, raw: object) -> object:
        # In YAML a key with only comments below it is null.
        if not isinstance(raw, dict):
            return raw
        return {
            key: value
            for key, value in raw.items()
            if value is not None or key not in cls.model_fields
        }


class ToolOptions(Options):
    """Keys that every tool of the peer takes and that the command line decides here."""

    input_url: str | None = Field(None, description="Accepted and not used: blocks are arguments.")
    output_url: str | None = Field(None, description="Accepted and not used: see --output.")
    overwrite: bool = Field(
        default=False,
        description="Replace results that exist; read for the tool that publishes them.",
    )
    log_level: str | int | None = Field(None, description="Accepted and not used: see settings.")
    log_file: str | None = Field(None, description="Accepted and not used.")
    log_file_level: str | int | None = Field(None, description="Accepted and not used.")
    quiet: bool = Field(default=False, description="Accepted and not used.")
    provenance_log: str | None = Field(None, description="Accepted and not used.")


class _EventReading(ToolOptions):
    chunk_size: Count = Field(
        100_000, gt=0, description="Showers to hold in memory at a time; a hint."
    )
    geometry_reconstructor: Name = Field(
        "HillasReconstructor", description="Algorithm that gives direction and impact distance."
    )


class EnergyEventFilters(Options):
    """Cuts on a telescope event or on a pair of them, by telescope; none by default."""

    min_gammaness: Fraction | None = Field(
        None, description="Least gammaness of the telescope event, 0 to 1."
    )
    min_energy: EnergyTeV | None = Field(
        None, description="Least energy of the telescope event [TeV]; or text: 50 GeV."
    )
    max_distance_asymmetry: DistanceScale | None = Field(
        None, description="Limit of |d1 - d2| / (d1 + d2) of the impact distances; above 0."
    )


class ImageEventFilters(Options):
    """Cuts on telescope events and on pairs of them; none by default.

    All but the first two keys are our own. Except for minimum_individual_intensity none looks at
    the size of one image, which would bias the comparison.
    """

    minimum_individual_intensity: NonNegative | None = Field(
        None, description="Least size of each of the two images [p.e.]."
    )
    equidistant_event_selection: PairOfNumbers | None = Field(
        None,
        description="[A, B]: |d1 - d2| / (d1 + d2) of the impact distances below A + B cos(alt).",
    )
    max_leakage: Fraction | None = Field(
        None,
        description="Largest share of the size in the two outermost rings of pixels, 0 to 1.",
    )
    max_radius_fraction: Fraction | None = Field(
        None,
        description="Largest distance of the image from the camera centre [camera radius], 0 to 1.",
    )
    min_pixels: NonNegative | None = Field(
        None, description="Least number of pixels left by the image cleaning."
    )
    min_telescopes: Count = Field(
        2, ge=2, le=100, description="Selected telescopes of one type that a shower needs."
    )


class _EnergyReading(_EventReading):
    energy_reconstructor: Name = Field(
        "RandomForestRegressor", description="Algorithm that gives the energy."
    )
    gammaness_reconstructor: Name = Field(
        "RandomForestClassifier", description="Algorithm that gives the gammaness."
    )
    event_filters: EnergyEventFilters = Field(
        EnergyEventFilters(), description="Cuts on telescope events and pairs."
    )


class CalculateAsymmetryOptions(_EnergyReading):
    """Energies of telescope events and the pairs formed of them."""

    reconstruction_algorithm: Name | None = Field(
        None, description="Older spelling of energy_reconstructor, which wins if both are given."
    )

    @model_validator(mode="before")
    @classmethod
    def _accept_older_spelling(cls, raw: object) -> object:
        if isinstance(raw, dict) and raw.get(OLDER_SPELLING[1]) is not None:
            return {NEWER_SPELLING[1]: raw[OLDER_SPELLING[1]], **raw}
        return raw


class CalculateImageAsymmetryOptions(_EventReading):
    """Image sizes of telescope events and the pairs formed of them."""

    image_reconstructor: Name = Field(
        "hillas_intensity", description="Column of the image parameters with the size."
    )
    event_filters: ImageEventFilters = Field(
        ImageEventFilters(), description="Cuts on the images of a pair."
    )


class QualityQueryOptions(Options):
    """Cuts on telescope events, written as expressions of the columns."""

    quality_criteria: tuple[tuple[Name, Name], ...] = Field(
        (), description='[name, expression] pairs, e.g. ["energy", "X_tel_energy > 50 * u.GeV"].'
    )


class PairFinderOptions(Options):
    """Which telescopes are compared with each other."""

    max_impact_distance: DistanceM = Field(
        default_factory=lambda: PEER_IMPACT_DISTANCE_M,
        description="Two telescopes pair up to the sum of their values [m], at least 0; "
        "by default 125 for LST and MST, 225 for SST.",
    )


class CalculateInterCalibrationOptions(ToolOptions):
    """The comparison of telescopes of one type."""

    asymmetry_label: Annotated[
        Literal["energy_asymmetry", "image_asymmetry"], BeforeValidator(lowercase)
    ] = Field("energy_asymmetry", description="Quantity the telescopes are compared by.")
    reconstruction_algorithm: Name | None = Field(
        None,
        description="Algorithm of the energies that are compared, where "
        "CalculateAsymmetry.energy_reconstructor is not given; both must agree.",
    )
    compare: Name | None = Field(
        None,
        description="image-inter: result.json of energy-inter or energy-cross, or the folder that "
        "holds it, whose coefficients are compared with those of the sizes; our own.",
    )


class CalculateCrossCalibrationOptions(_EnergyReading):
    """The comparison of telescopes of different types. The keys from `method` on are our own."""

    input_data_url: str | None = Field(None, description="Accepted and not used.")
    min_triggered_telescopes_per_subsystem: Count = Field(
        2, ge=1, description="Telescopes of each type that a shower needs."
    )
    reference_subsystem: Annotated[Name, BeforeValidator(uppercase_subsystem)] = Field(
        "MST", description="Telescope type to which the others are compared."
    )
    method: Literal["joint", "three_step"] = Field(
        "joint",
        description="joint: all telescopes of all types in one solution; three_step: the peer's "
        "ratios of energies corrected by an inter-calibration.",
    )
    participation_factor: bool = Field(
        default=True,
        description="three_step: multiply scaling factors by the mean coefficient of the reference "
        "telescopes, weighted with their showers, as the peer does.",
    )
    inter_calibration: Name | None = Field(
        None,
        description="three_step: monitoring file with the inter-calibration to start from; by "
        "default it is made of the same blocks.",
    )
    allow_other_observations: bool = Field(
        default=False,
        description="three_step: accept an inter-calibration of other observations.",
    )
    simulation_reference: Name | None = Field(
        None,
        description="joint: result.json of the same calibration on simulations, whose contrasts "
        "are subtracted bin by bin of energy.",
    )
    energy_slope: bool = Field(
        default=False,
        description="joint: fit along how the energies of each type rise with energy relative to "
        "those of the reference type.",
    )
    energy_pivot: float = Field(
        1.0, gt=0, description="Energy at which factors and coefficients hold with a slope [TeV]."
    )

    @model_validator(mode="after")
    def _slope_is_alone(self) -> CalculateCrossCalibrationOptions:
        if not self.energy_slope:
            return self
        if self.method != "joint":
            raise ConfigurationError("energy_slope needs method: joint")
        if self.simulation_reference is not None:
            raise ConfigurationError(
                "energy_slope and simulation_reference both describe the dependence on energy: "
                "use one of them"
            )
        return self

    @model_validator(mode="after")
    def _keys_of_the_method(self) -> CalculateCrossCalibrationOptions:
        foreign = {"joint": "inter_calibration", "three_step": "simulation_reference"}[self.method]
        if getattr(self, foreign) is not None:
            needed = {"joint": "three_step", "three_step": "joint"}[self.method]
            raise ConfigurationError(
                f"{foreign} is not used by method {self.method!r}: set method: {needed}, or leave "
                "it out"
            )
        return self


class CalculateTimingCalibrationOptions(ToolOptions):
    """The comparison of telescope clocks by the time stamps of common showers; our own."""

    geometry_reconstructor: Name = Field(
        "HillasReconstructor", description="Algorithm that gives direction, core and h_max."
    )
    image_size: Name = Field(
        "hillas_intensity", description="Column of the image parameters with the size [p.e.]."
    )
    time_convention: Literal["raw", "pointing_compensated"] | None = Field(
        None,
        description="What the stamps are. raw: as observed; pointing_compensated: the plane wave "
        "of the pointing is already subtracted, as in simulations by sim_telarray. By default what "
        "the process type of the file implies.",
    )
    min_telescopes: Count = Field(3, ge=3, description="Telescopes a shower needs, at least 3.")
    max_angular_uncertainty: float = Field(
        0.2, gt=0, description="Largest uncertainty of the direction, where it is known [deg]."
    )
    max_pointing_offset: float = Field(
        3.0, gt=0, le=90, description="Largest angle between shower and pointing [deg]."
    )
    max_core_distance: float = Field(
        250.0, gt=0, description="Largest distance of a telescope from the shower axis [m]."
    )
    size_threshold: NonNegative | None = Field(
        None,
        description="Image size at which the telescope triggers [p.e.], by telescope; images below "
        "twice of it are left out. None by default.",
    )
    min_h_max: float = Field(
        5000.0, gt=0, description="Lowest credible shower maximum above sea level [m]."
    )
    max_h_max: float = Field(
        15000.0, gt=0, description="Highest credible shower maximum above sea level [m]."
    )
    usual_maximum: float = Field(
        8000.0,
        gt=0,
        description="Height of the shower maximum above the telescopes for showers without a "
        "credible one [m].",
    )
    observatory_altitude: float | None = Field(
        None,
        gt=-500,
        lt=9000,
        description="Height of the array above sea level [m]; by default what the file says.",
    )
    fit_curvature: bool = Field(
        default=True, description="Fit the scale of the front's radius; otherwise it is fixed."
    )
    curvature_scale: float = Field(
        1.0, gt=0.2, lt=10, description="Radius over distance to the shower maximum, to start from."
    )
    fit_walk: bool = Field(
        default=True, description="Fit a delay of faint images, proportional to 1/size, by type."
    )
    core_resolution: CoreResolution = Field(
        None,
        description="Error of the reconstructed core along x and y [m], as simulations show it "
        "after these cuts, or file: that of the columns core_uncert_x and core_uncert_y. Front and "
        "walk are freed of what it does to them; without it the walk is a part of the systematic "
        "error.",
    )
    clip: float = Field(
        5.0, ge=3, description="Stamps further off than this many sigma are left out."
    )
    max_clock_offset: float = Field(
        100.0, gt=0, le=500, description="Largest clock offset that is believed [ms]."
    )
    max_residual_rms: float = Field(
        20.0,
        gt=0,
        description="Stamps of a telescope that scatter more around the front come from no clock, "
        "and give no offset [ns].",
    )
    max_error: float = Field(
        10.0, gt=0, description="Offsets with a larger statistical error are not given [ns]."
    )
    chunk_duration: float = Field(
        60.0, gt=0, description="Least duration of a chunk of the offset history [s]."
    )
    chunk_showers: Count = Field(
        200, ge=10, description="Least number of showers in a chunk of the offset history."
    )
    step_probability: float = Field(
        1e-3, gt=0, le=0.1, description="Chance of finding any step where there is none."
    )
    reference_telescope: Count | None = Field(
        None, ge=0, description="Telescope whose offset is 0; by default the mean is."
    )
    min_events: Count = Field(50, ge=2, description="Showers a telescope needs to get an offset.")
    min_common_events: Count = Field(
        20, ge=2, description="Common showers that make two telescopes neighbours."
    )

    @model_validator(mode="after")
    def _maximum_has_a_range(self) -> CalculateTimingCalibrationOptions:
        if self.min_h_max >= self.max_h_max:
            raise ConfigurationError(
                f"min_h_max {self.min_h_max:g} m must lie below max_h_max {self.max_h_max:g} m"
            )
        return self


class ThroughputConstraint(Options):
    """What is known of one telescope's throughput from elsewhere, such as muon rings."""

    tel_id: Count = Field(ge=0, description="Telescope.")
    value: float = Field(gt=0, description="Its relative throughput, above 0.")
    error: float = Field(ge=0, description="Standard error of the value; 0 fixes the telescope.")


class RelativeThroughputFitterOptions(Options):
    """How coefficients are found from the pairs. All but the first two keys are our own."""

    throughput_normalisation: ScalePerType = Field(
        default_factory=PerType[float],
        description="Overall scale by telescope type, above 0; 1 where missing.",
    )
    reference_telescopes: IdPerType = Field(
        default_factory=PerType[int],
        description="Telescope by type whose coefficient is the normalisation; none by default.",
    )
    estimator: Literal["event", "pair"] = Field(
        "event",
        description="event: each shower counts once; pair: the peer's chi-square of pair means.",
    )
    gauge: Gauge | None = Field(
        None,
        description="What is set to the normalisation; by default the reference telescopes "
        "if there are any, else the geometric mean of each type.",
    )
    robust: Literal["auto", "none", "huber", "tukey"] = Field(
        "auto",
        description="Weighting of outlying telescope events. auto: tukey where values of a "
        "telescope do not fit their showers, else none.",
    )
    min_events: Count = Field(
        50, ge=2, description="Showers a telescope needs to get a coefficient."
    )
    min_common_events: Count = Field(
        20, ge=2, description="Common showers that make two telescopes neighbours."
    )
    histogram_pairs: Count = Field(
        12,
        ge=0,
        le=500,
        description="Pairs of each type, or combination of types, whose histograms are kept.",
    )
    constraints: tuple[ThroughputConstraint, ...] = Field(
        (), description="Outside knowledge of single telescopes."
    )
    response_slope: float = Field(
        1.0, ge=0.1, le=10, description="d ln(energy) / d ln(throughput); 1 if proportional."
    )

    @property
    def effective_gauge(self) -> Gauge:
        """The gauge in force: the one given, or the one the references imply."""
        if self.gauge is not None:
            return self.gauge
        return "reference" if self.reference_telescopes else "geometric_mean"

    @model_validator(mode="after")
    def _gauge_has_references(self) -> RelativeThroughputFitterOptions:
        if self.gauge == "reference" and not self.reference_telescopes:
            raise ConfigurationError(
                "gauge 'reference' needs reference_telescopes, e.g. {LST: 1, MST: 5}"
            )
        return self

    @model_validator(mode="after")
    def _one_constraint_per_telescope(self) -> RelativeThroughputFitterOptions:
        tel_ids = [constraint.tel_id for constraint in self.constraints]
        if len(set(tel_ids)) < len(tel_ids):
            raise ConfigurationError(f"constraints name a telescope twice: {sorted(tel_ids)}")
        return self


class ShowerSelectionOptions(Options):
    """The selection that keeps a threshold from biasing the comparison; a section of our own."""

    threshold: Threshold | None = Field(
        None,
        description="Energy [TeV] or size [p.e.] above which telescopes see a shower whatever its "
        "fluctuation; the largest of a type counts for all of it; "
        "'auto' to read it from the data, null for no selection.",
    )
    ceiling: Threshold | None = Field(
        None,
        description="Energy [TeV] or size [p.e.] above which telescopes saturate; the smallest of "
        "a type counts for all of it; 'auto' to find it in the brightest pixels of images, null "
        "for no limit.",
    )
    margin: float = Field(
        2.5,
        ge=0,
        description="Distance kept from threshold and ceiling [sigma of the telescope event].",
    )
    scan: tuple[Annotated[float, Field(ge=0, le=20)], ...] = Field(
        (0.0, 1.0, 2.0, 2.5, 3.0, 4.0),
        max_length=20,
        description="Other margins at which the solution is compared with that at the margin in "
        "use; [] for none.",
    )
    max_iterations: Count = Field(
        40, ge=8, le=50, description="Rounds of selection and estimate, 8 to 50."
    )
    resolution: Literal["telescope", "binned"] = Field(
        "telescope",
        description="Variance of each telescope as a whole, or in bins of distance and energy.",
    )


class DistanceCurveOptions(Options):
    """The dependence on the impact distance that is fitted along; a section of our own.

    With knots, telescope events outside the range are left out.
    """

    knots: Count | None = Field(
        None, ge=3, le=20, description="Knots of the spline of each type, 3 to 20; null for none."
    )
    range: PairOfNumbers = Field(
        default_factory=lambda: TelescopeParameter((TelescopeEntry("type", "*", (20.0, 200.0)),)),
        description="[nearest, farthest] impact distance [m]; by default [20, 200].",
    )

    @model_validator(mode="after")
    def _range_is_rising(self) -> DistanceCurveOptions:
        for entry in self.range.entries:
            low, high = entry.value
            if not 0 <= low < high:
                raise ConfigurationError(
                    f"range [{low:g}, {high:g}] m: expected two distances, the nearer one first"
                )
        return self


class TrendMonitorOptions(Options):
    """How the history of published results is judged; a section of our own.

    It changes no result. Sizes are relative for throughputs, and in ns for clocks.
    """

    look_back: Count = Field(
        90, ge=2, description="How far back from the last night the nights count [days]."
    )
    min_nights: Count = Field(
        3, ge=3, description="Nights of a telescope, at least 3, before a change gets a flag."
    )
    false_alarm_probability: float = Field(
        0.01, gt=0, le=0.1, description="Chance that a steady telescope gets any flag."
    )
    min_odds: float = Field(
        20.0,
        ge=1,
        description="How much more probable step or ageing must be for the other one to be ruled "
        "out; otherwise both flags are given.",
    )
    min_change: float = Field(
        0.01, ge=0, description="Smallest step, or total change by ageing, that gets a flag."
    )
    min_clock_change: float = Field(1.0, ge=0, description="The same for clocks [ns].")
    min_outlier: float = Field(
        0.03, ge=0, description="Smallest deviation of a single night that gets a flag."
    )
    min_clock_outlier: float = Field(3.0, ge=0, description="The same for clocks [ns].")
    tolerance: float = Field(
        0.02, gt=0, description="Change by ageing after which a validity interval ends."
    )
    clock_tolerance: float = Field(2.0, gt=0, description="The same for clocks [ns].")
    night_scatter: float | None = Field(
        None,
        ge=0,
        description="Scatter from night to night beyond the stated errors of throughputs; null to "
        "find it from the steady telescopes.",
    )
    clock_night_scatter: float | None = Field(None, ge=0, description="The same for clocks [ns].")


class Configuration(Options):
    """Everything a calibration can be told; the fields are the sections of the YAML files."""

    CalculateAsymmetry: CalculateAsymmetryOptions = CalculateAsymmetryOptions()
    CalculateImageAsymmetry: CalculateImageAsymmetryOptions = CalculateImageAsymmetryOptions()
    QualityQuery: QualityQueryOptions = QualityQueryOptions()
    PairFinder: PairFinderOptions = PairFinderOptions()
    CalculateInterCalibration: CalculateInterCalibrationOptions = CalculateInterCalibrationOptions()
    CalculateCrossCalibration: CalculateCrossCalibrationOptions = CalculateCrossCalibrationOptions()
    CalculateTimingCalibration: CalculateTimingCalibrationOptions = (
        CalculateTimingCalibrationOptions()
    )
    RelativeThroughputFitter: RelativeThroughputFitterOptions = RelativeThroughputFitterOptions()
    ShowerSelection: ShowerSelectionOptions = ShowerSelectionOptions()
    DistanceCurve: DistanceCurveOptions = DistanceCurveOptions()
    TrendMonitor: TrendMonitorOptions = TrendMonitorOptions()

    @model_validator(mode="before")
    @classmethod
    def _accept_spellings(cls, raw: object) -> object:
        # Sections that are models already come from Python, not from a file.
        if not isinstance(raw, dict) or any(isinstance(v, BaseModel) for v in raw.values()):
            return raw
        sections = canonical(raw).sections
        told = sections.get(TOLD_ELSEWHERE[0], {}).get(TOLD_ELSEWHERE[1])
        if told is not None:
            energies = sections.setdefault(NEWER_SPELLING[0], {})
            energies[NEWER_SPELLING[1]] = energies.get(NEWER_SPELLING[1]) or told
        return sections

    @model_validator(mode="after")
    def _one_energy_reconstructor(self) -> Configuration:
        told = self.CalculateInterCalibration.reconstruction_algorithm
        energies = self.CalculateAsymmetry.energy_reconstructor
        if told not in (None, energies):
            raise ConfigurationError(
                f"{'.'.join(TOLD_ELSEWHERE)} = {shown(told)} and {'.'.join(NEWER_SPELLING)} = "
                f"{shown(energies)} name the energies to compare: give one of them, or both alike"
            )
        return self
