"""Configuration and block to `PairRules`: which columns, which selection, which pairs.

This is where names of reconstructors become columns of a particular file, and values by
telescope pattern become values by telescope id.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import polars as pl

from arraycal.calib.criteria import Criterion, compile_criteria
from arraycal.calib.dl2.columns import TIME_KIND, TRIGGER_TIME
from arraycal.calib.dl2.pointing import ALTITUDE, POINTING
from arraycal.calib.errors import CannotCompute
from arraycal.calib.observables.filters import ColumnTemplate, PairFilter
from arraycal.calib.pairs.saturation import UNCHECKED
from arraycal.calib.pairs.selection import TWO, PairRules, PairTest
from arraycal.calib.schema import TIME
from arraycal.calib.subarray import allowed_pairs, refuse_unlike, value_by_telescope
from arraycal.config.errors import ConfigurationError
from arraycal.config.models import ToolOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from arraycal.calib.dl2.block import Block
    from arraycal.calib.observables import Observable
    from arraycal.calib.observables.filters import EventFilter
    from arraycal.calib.subarray import Subarray
    from arraycal.config.models import Configuration, Options
    from arraycal.config.telescope import TelescopeParameter

__all__ = [
    "forming_pairs",
    "inter_first",
    "pair_configuration",
    "pair_rules",
    "pairs_to_form",
    "reconstructors",
    "row_configuration",
    "rows_suffice",
]

V = TypeVar("V")

#: Keys of the asymmetry section that do not change which pairs come out: where a tool writes and
#: logs, how much it reads at a time, a spelling that has been translated, and what is done with the
#: pairs afterwards.
IRRELEVANT = {
    *ToolOptions.model_fields,
    *("chunk_size", "input_data_url", "reconstruction_algorithm", "reference_subsystem", "method"),
    *("participation_factor", "inter_calibration", "allow_other_observations"),
    *("simulation_reference", "energy_slope", "energy_pivot"),
}


#: Key of a section with the telescopes of each type that a shower needs.
MIN_PER_TYPE = "min_triggered_telescopes_per_subsystem"


def pair_configuration(observable: Observable, configuration: Configuration) -> dict[str, Any]:
    """Return the part of the configuration that decides PAIRS, as plain data for a cache key."""
    sections = {observable.section, "QualityQuery", "PairFinder"}
    if configuration.DistanceCurve.knots is not None:
        sections.add("DistanceCurve")
    dumped = configuration.model_dump(mode="json", include=sections)
    dumped.get("DistanceCurve", {}).pop("knots", None)
    if _finds_saturation(observable, configuration):
        dumped["ShowerSelection"] = {"ceiling": "auto"}
    section = {k: v for k, v in dumped[observable.section].items() if k not in IRRELEVANT}
    return {**dumped, observable.section: section, "observable": observable.name}


def row_configuration(observable: Observable, configuration: Configuration) -> dict[str, Any]:
    """Return the part of the configuration that decides what of a block is kept, as a cache key."""
    alike = _compares_alike(observable, configuration)
    return {**pair_configuration(observable, configuration), "rows": alike}


def rows_suffice(observable: Observable, configuration: Configuration, subarray: Subarray) -> bool:
    """Whether the ROWS of a block say all that its PAIRS would.

    They do if the solution takes every shower once, no selection looks at pairs, and each
    telescope that has a position may be compared with all others (of its type).
    """
    if not _compares_alike(observable, configuration):
        return False
    everywhere = dict.fromkeys(subarray.tel_ids, math.inf)
    return np.array_equal(
        pairs_to_form(observable, configuration, subarray),
        allowed_pairs(subarray, everywhere, observable.scope),
    )


def _compares_alike(observable: Observable, configuration: Configuration) -> bool:
    """Whether all telescopes of a shower are compared alike, as far as they may be at all."""
    section = getattr(configuration, observable.section)
    looks_at_pairs = any(
        isinstance(filter_, PairFilter) and getattr(section.event_filters, filter_.key) is not None
        for filter_ in observable.filters
    )
    return (
        configuration.RelativeThroughputFitter.estimator == "event"
        and not looks_at_pairs
        and getattr(section, MIN_PER_TYPE, 1) == 1
        and not inter_first(observable, configuration)
    )


def inter_first(observable: Observable, configuration: Configuration) -> bool:
    """Whether a calibration starts from an inter-calibration."""
    method = configuration.CalculateCrossCalibration.method
    return observable.scope == "any" and method == "three_step"


def forming_pairs(configuration: Configuration) -> Configuration:
    """Return the configuration with the estimator of pairs, for who wants to see them."""
    fitter = configuration.RelativeThroughputFitter.model_copy(update={"estimator": "pair"})
    return configuration.model_copy(update={"RelativeThroughputFitter": fitter})


def pair_rules(observable: Observable, configuration: Configuration, block: Block) -> PairRules:
    """Resolve the configuration for one block.

    Parameters
    ----------
    observable : Observable
        The calibration.
    configuration : Configuration
        All options.
    block : Block
        The file.

    Returns
    -------
    PairRules
        Columns and selection.

    Raises
    ------
    CannotCompute
        If the file lacks the value column or what a filter needs, or has it in another unit.
    arraycal.calib.criteria.CriterionError
        If a criterion does not fit the columns of the file.
    """
    section = getattr(configuration, observable.section)
    names = reconstructors(section)
    value = observable.value.format(**names)
    _require(block, value, observable.unit, "the value to compare")
    criteria = list(compile_criteria(configuration.QualityQuery.quality_criteria, block.catalog))
    if configuration.DistanceCurve.knots is not None:
        criteria.append(_on_curve(observable, configuration, block, names))
    tests, notes = [], []
    for filter_ in observable.filters:
        setting = getattr(section.event_filters, filter_.key)
        if setting is None:
            continue
        if isinstance(filter_, PairFilter):
            tests.append(_pair_test(filter_, setting, block, names))
            continue
        compiled = _criterion(filter_, setting, block, names)
        if isinstance(compiled, str):
            notes.append((filter_.key, compiled))
        else:
            criteria.append(compiled)
    shower = tuple(
        (name, column)
        for name, quantity in (*observable.shower, (TIME, ColumnTemplate(TRIGGER_TIME, TIME_KIND)))
        if (column := _if_there(block, quantity.column, names, quantity.unit)) is not None
    )
    notes += _pointing_notes(observable, block, tests, shower)
    impact = _if_there(block, observable.impact, names, "m")
    comparable = [_measurable(observable, value)]
    if impact is not None and _compares_alike(observable, configuration):
        comparable.append(_at_a_distance(impact))
    is_blind = impact is None and observable.scope != "same_type"
    brightest = None
    if observable.brightest and _finds_saturation(observable, configuration):
        brightest = _if_there(block, observable.brightest.column, names, observable.brightest.unit)
        notes += [] if brightest else [UNCHECKED]
    return PairRules(
        value=value,
        uncertainty=_if_there(block, observable.uncertainty, names, observable.unit),
        impact=impact,
        criteria=tuple(criteria),
        statistic=observable.statistic,
        tests=tuple(tests),
        min_telescopes=getattr(section.event_filters, "min_telescopes", TWO),
        notes=tuple(notes),
        min_per_type=getattr(section, MIN_PER_TYPE, None),
        shower=shower,
        brightest=brightest,
        comparable=tuple(comparable),
        remarks=(NO_DISTANCES,) if is_blind else (),
    )


def _finds_saturation(observable: Observable, configuration: Configuration) -> bool:
    """Whether saturated images are to be looked for."""
    return observable.brightest is not None and configuration.ShowerSelection.ceiling == "auto"


def _pointing_notes(
    observable: Observable,
    block: Block,
    tests: Sequence[PairTest],
    shower: Sequence[tuple[str, str]],
) -> list[tuple[str, str]]:
    """Where the pointing comes from, or that a shower has none."""
    read = {*(column for _, column in shower), *(c for test in tests for c in test.columns)}
    if ALTITUDE in read:
        return [(POINTING, f"taken from {block.columns[ALTITUDE].group}")]
    if any(quantity.column == ALTITUDE for _, quantity in observable.shower):
        return [(POINTING, "not in the file: its showers have no offset from the pointing")]
    return []


def reconstructors(section: Options) -> dict[str, str]:
    """Names of the algorithms a section chooses: ``energy_reconstructor`` under ``energy``.

    Examples
    --------
    >>> from arraycal.config.models import CalculateImageAsymmetryOptions
    >>> reconstructors(CalculateImageAsymmetryOptions())
    {'geometry': 'HillasReconstructor', 'image': 'hillas_intensity'}
    """
    return {
        key.removesuffix(RECONSTRUCTOR): getattr(section, key)
        for key in type(section).model_fields
        if key.endswith(RECONSTRUCTOR)
    }


#: What keys that choose an algorithm end in.
RECONSTRUCTOR = "_reconstructor"


def pairs_to_form(
    observable: Observable, configuration: Configuration, subarray: Subarray
) -> npt.NDArray[Any]:
    """Allowed pairs of the array, see `arraycal.calib.subarray.allowed_pairs`."""
    reach = value_by_telescope(configuration.PairFinder.max_impact_distance, subarray)
    return allowed_pairs(subarray, reach, observable.scope)


NO_DISTANCE = "distance to the shower axis is missing"
NO_DISTANCES = (
    "it has no distances to the shower axis, along which thresholds differ: factors between types "
    "may be 5 % off. Process it with distances (dl2/event/telescope/impact)"
)
#: What to do about a file that does not say where the telescopes pointed.
NO_POINTING = (
    "the event filter equidistant_event_selection needs the altitude of the telescopes, and the "
    "file has neither a monitored pointing (/dl1 or /dl0/monitoring/telescope/pointing), nor a "
    "fixed one (/configuration/telescope/pointing), nor one of the observation block in the "
    "horizontal frame. Leave the filter out, or fit DistanceCurve in its place."
)


def _require(block: Block, column: str, unit: str, purpose: str) -> None:
    """Raise `CannotCompute` unless the block has a column of numbers in `unit`."""
    if column == ALTITUDE and column not in block.columns:
        raise CannotCompute(f"{block.path}: {NO_POINTING}")
    if column not in block.columns:
        ending = column[max(column.find("_tel_"), 0) :]
        similar = sorted(name for name in block.columns if name.endswith(ending))
        raise CannotCompute(
            f"{block.path}: column {column} ({purpose}) does not exist. "
            f"The file has {', '.join(similar) if similar else 'none of that kind'}; "
            "check the names of the reconstructors."
        )
    kind = block.columns[column].kind
    # Files that state no unit have ctapipe's own.
    if kind not in ("", unit):
        raise CannotCompute(
            f"{block.path}: column {column} ({purpose}) is in {kind}, "
            f"expected {unit or 'a plain number'}. Convert it first."
        )


def _if_there(
    block: Block, template: str | None, names: Mapping[str, str], unit: str
) -> str | None:
    column = None if template is None else template.format(**names)
    if column is None or column not in block.columns:
        return None
    _require(block, column, unit, "kept beside the value")
    return column


def _needed(
    block: Block, quantity: ColumnTemplate, names: Mapping[str, str], key: str
) -> tuple[str, str]:
    """Column of a filter and its unit."""
    column = quantity.column.format(**names)
    _require(block, column, quantity.unit, f"needed by the event filter {key}")
    return column, quantity.unit


def _pair_test(
    filter_: PairFilter,
    setting: TelescopeParameter[Any],
    block: Block,
    names: Mapping[str, str],
) -> PairTest:
    needed = [_needed(block, quantity, names, filter_.key)[0] for quantity in filter_.quantities]
    limits = {
        tel_id: tuple(limit) if isinstance(limit, tuple) else (limit,)
        for tel_id, limit in value_by_telescope(setting, block.subarray).items()
    }
    return PairTest(filter_.key, tuple(needed), limits, filter_.passes)


def _measurable(observable: Observable, column: str) -> Criterion:
    """Keep values that a telescope can measure."""
    low, high = observable.measurable
    unit = observable.unit or "p.e."
    name = f"value outside what a telescope can measure ({low:g} to {high:g} {unit})"
    inside = pl.col(column).is_between(low, high).fill_null(value=False)
    return Criterion(name, f"{column} in {observable.measurable}", frozenset({column}), inside)


def _at_a_distance(column: str) -> Criterion:
    """Keep telescope events at a known distance, by which resolutions and thresholds go."""
    known = pl.col(column).is_finite().fill_null(value=False)
    return Criterion(NO_DISTANCE, f"{column} is finite", frozenset({column}), known)


def _on_curve(
    observable: Observable, configuration: Configuration, block: Block, names: Mapping[str, str]
) -> Criterion:
    """Keep telescope events at distances the curve covers."""
    if observable.impact is None:
        raise ConfigurationError(f"DistanceCurve: {observable.name} does not look at distances")
    column = observable.impact.format(**names)
    _require(block, column, "m", "needed by DistanceCurve")
    ranges = value_by_telescope(configuration.DistanceCurve.range, block.subarray)
    low, high = (
        _by_telescope({tel_id: limits[side] for tel_id, limits in ranges.items()})
        for side in (0, 1)
    )
    inside = pl.col(column).is_between(low, high).fill_null(value=False)
    text = f"{column} in {configuration.DistanceCurve.range}"
    return Criterion("distance in the range of DistanceCurve", text, frozenset({column}), inside)


def _criterion(
    filter_: EventFilter,
    setting: Any,  # noqa: ANN401  what the filter makes of it is its own affair
    block: Block,
    names: Mapping[str, str],
) -> Criterion | str:
    """Event filter as a criterion, or why the block does not allow it."""
    present = [q for q in filter_.quantities if q.column.format(**names) in block.columns]
    quantity = (present or filter_.quantities)[0]
    column, unit = _needed(block, quantity, names, filter_.key)
    values: Mapping[int, float] = value_by_telescope(setting, block.subarray)
    refuse_unlike(f"event_filters.{filter_.key}", values, block.subarray)
    limits = values if filter_.limits is None else filter_.limits(values, block, unit)
    if isinstance(limits, str):
        return f"not applied: {limits}"
    measured, limit = pl.col(column).cast(pl.Float64), _by_telescope(limits)
    # NaN compares as the largest number in polars; it must fail here.
    passes = measured.is_finite() & COMPARISONS[filter_.sense](measured, limit)
    return Criterion(
        filter_.key,
        f"{column} {filter_.sense} {setting}",
        frozenset({column}),
        passes.fill_null(value=False),
    )


COMPARISONS = {">=": operator.ge, "<=": operator.le, "<": operator.lt}


def _by_telescope(values: Mapping[int, float]) -> pl.Expr:
    if len(set(values.values())) == 1:
        return pl.lit(next(iter(values.values())))
    return pl.col("tel_id").replace_strict(
        list(values), list(values.values()), return_dtype=pl.Float64
    )
