"""Configuration and block to `PairRules`: which columns, which selection, which pairs.

This is where names of reconstructors become columns of a particular file, and values by
telescope pattern become values by telescope id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from calib.criteria import Criterion, compile_criteria
from calib.errors import CannotCompute
from calib.pairs import PairRules
from calib.subarray import allowed_pairs
from config.models import ToolOptions
from config.telescope import TelescopeParameter, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from calib.dl2 import Block
    from calib.observables import Observable
    from calib.subarray import Subarray
    from config.models import Configuration, EnergyEventFilters

__all__ = ["pair_configuration", "pair_rules", "pairs_to_form", "value_by_telescope"]

#: Keys of the asymmetry section that do not change which pairs come out: where a tool writes and
#: logs, how much it reads at a time, and a spelling that has been translated.
IRRELEVANT = {*ToolOptions.model_fields, "chunk_size", "reconstruction_algorithm"}


def pair_configuration(observable: Observable, configuration: Configuration) -> dict[str, Any]:
    """Return the part of the configuration that decides PAIRS, as plain data for a cache key."""
    sections = (observable.section, "QualityQuery", "PairFinder")
    dumped = configuration.model_dump(mode="json", include=set(sections))
    section = {k: v for k, v in dumped[observable.section].items() if k not in IRRELEVANT}
    return {**dumped, observable.section: section, "observable": observable.name}


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
    calib.criteria.CriterionError
        If a criterion does not fit the columns of the file.
    """
    section = getattr(configuration, observable.section)
    names = {
        "energy": section.energy_reconstructor,
        "geometry": section.geometry_reconstructor,
        "gammaness": section.gammaness_reconstructor,
    }
    value, uncertainty, impact = (
        template.format(**names)
        for template in (observable.value, observable.uncertainty, observable.impact)
    )
    _require(block, value, observable.unit, "the value to compare")
    filters = section.event_filters
    if filters.max_distance_asymmetry is not None:
        _require(block, impact, "m", "needed by the event filter max_distance_asymmetry")
    criteria = compile_criteria(configuration.QualityQuery.quality_criteria, block.catalog)
    return PairRules(
        value=value,
        uncertainty=_if_there(block, uncertainty, observable.unit),
        impact=_if_there(block, impact, "m"),
        criteria=(
            *criteria,
            *_at_least(block, f"{names['gammaness']}_tel_prediction", "", filters, "min_gammaness"),
            *_at_least(block, value, observable.unit, filters, "min_energy"),
        ),
        statistic=observable.statistic,
        max_distance_asymmetry=None
        if filters.max_distance_asymmetry is None
        else value_by_telescope(filters.max_distance_asymmetry, block.subarray),
    )


def pairs_to_form(
    observable: Observable, configuration: Configuration, subarray: Subarray
) -> npt.NDArray[Any]:
    """Allowed pairs of the array, see `calib.subarray.allowed_pairs`."""
    reach = value_by_telescope(configuration.PairFinder.max_impact_distance, subarray)
    return allowed_pairs(subarray, reach, observable.scope)


def value_by_telescope(
    parameter: TelescopeParameter[float], subarray: Subarray
) -> dict[int, float]:
    """Value of a telescope parameter for every telescope id."""
    return resolve(
        parameter, subarray.tel_ids, dict(zip(subarray.tel_ids, subarray.descriptions, strict=True))
    )


def _require(block: Block, column: str, unit: str, purpose: str) -> None:
    """Raise `CannotCompute` unless the block has a column of numbers in `unit`."""
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


def _if_there(block: Block, column: str, unit: str) -> str | None:
    if column not in block.columns:
        return None
    _require(block, column, unit, "kept beside the value")
    return column


def _at_least(
    block: Block, column: str, unit: str, filters: EnergyEventFilters, name: str
) -> tuple[Criterion, ...]:
    """Event filter ``column >= threshold of the telescope`` as a criterion."""
    parameter = getattr(filters, name)
    if parameter is None:
        return ()
    _require(block, column, unit, f"needed by the event filter {name}")
    thresholds = value_by_telescope(parameter, block.subarray)
    measured = pl.col(column)
    # NaN compares as the largest number in polars; it must fail here.
    passes = (measured.is_finite() & (measured >= _by_telescope(thresholds))).fill_null(value=False)
    return (Criterion(name, f"{column} >= {parameter}", frozenset({column}), passes),)


def _by_telescope(values: Mapping[int, float]) -> pl.Expr:
    if len(set(values.values())) == 1:
        return pl.lit(next(iter(values.values())))
    return pl.col("tel_id").replace_strict(
        list(values), list(values.values()), return_dtype=pl.Float64
    )
