"""A window of nights as one result, from the sums that its nights left behind.

Tables that need the showers themselves (contrasts of types and residuals in bins, threshold scan)
are not in it. The result says so, and passes on what nights have found in them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl

from arraycal.calib.checks.curve_table import with_curves
from arraycal.calib.checks.judged_parts import NIGHTS
from arraycal.calib.checks.parts import (
    CONSTANCY_DEVIATIONS,
    CONSTANCY_PARTS,
    Family,
    Setting,
    with_parts,
)
from arraycal.calib.errors import CannotCompute, NothingToDo, WrongUsage
from arraycal.calib.fit.options import fit_options
from arraycal.calib.gauge.references import check_references
from arraycal.calib.history.window import LEFT_OUT, NO_RUN, USED
from arraycal.calib.observables import TIMING_CROSS
from arraycal.calib.pairs.matching import merge_rejected
from arraycal.calib.result.assemble import assemble
from arraycal.calib.result.verdict import with_remarks
from arraycal.calib.schema import NOTES
from arraycal.calib.types import joint as cross
from arraycal.calib.windows.fit import merged_fit
from arraycal.calib.windows.nights import (
    inherited,
    left_out,
    stability_table,
    unsettled,
    window_table,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from arraycal.calib.fit.loop import Fit
    from arraycal.calib.fit.sums.kept import Sums
    from arraycal.calib.history.window import WindowNight
    from arraycal.calib.observables import Observable
    from arraycal.calib.result.result import CalibrationResult
    from arraycal.calib.subarray import Subarray
    from arraycal.config.models import Configuration

__all__ = ["refuse_unmergeable", "solve_window"]

#: What a result of a window lacks, of every calibration and of some.
NOT_MERGED = "threshold scan, histograms of pairs, comparison of blocks"
MORE_NOT_MERGED = {
    "energy-cross": "contrasts in bins of energy, distance, zenith angle and offset",
    "image-inter": "residuals in bins of distance and size, saturation, comparison with energies",
}


def refuse_unmergeable(observable: Observable, configuration: Configuration | None = None) -> None:
    """Raise for a calibration whose nights have no common solution.

    Parameters
    ----------
    observable : Observable
        The calibration.
    configuration : Configuration, optional
        Its options, where they are known.

    Raises
    ------
    WrongUsage
        With the reason.
    """
    if observable.name == TIMING_CROSS.name:
        raise WrongUsage(
            f"{observable.name} cannot be merged: clocks drift, jump and are set anew between "
            "nights, so one offset of several nights means nothing. `arraycal history` shows them "
            "night by night."
        )
    if configuration is None or observable.scope != "any":
        return
    options = configuration.CalculateCrossCalibration
    if options.method == "three_step":
        raise WrongUsage(
            f"{observable.name} by method three_step cannot be merged: it divides the energies by "
            "the inter-calibration of each night before it adds them up. Nights of method joint "
            "can be."
        )
    if options.simulation_reference is not None:
        raise WrongUsage(
            f"{observable.name} with a simulation_reference cannot be merged: contrasts in bins of "
            "energy, which it corrects, are not among the sums. Nights without one can be."
        )


def solve_window(
    nights: Sequence[WindowNight],
    observable: Observable,
    configuration: Configuration,
    provenance: dict[str, Any] | None = None,
) -> CalibrationResult:
    """Solve the array from the sums of several nights.

    Parameters
    ----------
    nights : sequence of WindowNight
        All nights of the window in order, those without a run included.
    observable : Observable
        The calibration.
    configuration : Configuration
        Under which all of them were calibrated.
    provenance : dict, optional
        Passed on into the result.

    Returns
    -------
    CalibrationResult
        As of a night, with the tables `WINDOW` and `STABILITY` and a remark where nights
        were left out or disagree.

    Raises
    ------
    WrongUsage
        See `refuse_unmergeable`.
    NothingToDo
        If no night has a run.
    CannotCompute
        If no run can be used, or the nights are of different arrays.
    """
    refuse_unmergeable(observable, configuration)
    used = _used(nights)
    sums = [sums for _, sums in used]
    _refuse_unlike(used)
    subarray = sums[-1].subarray
    check_references(subarray, configuration)
    options = fit_options(configuration, subarray)
    fitted = merged_fit(sums, options)
    tables = _merged_tables(sums) | {"provenance": provenance or {}}
    solved = _within_types if observable.scope == "same_type" else _across_types
    result = solved(fitted, subarray, observable, configuration, tables)
    notes = [night.tables[NOTES] for night in sums if NOTES in night.tables]
    if notes:
        result = replace(result, extras=result.extras | {NOTES: pl.concat(notes)})
    setting = Setting(
        subarray=subarray,
        options=options,
        response_slope=configuration.RelativeThroughputFitter.response_slope,
        joint=observable.scope != "same_type",
    )
    return _with_nights(result, nights, used, setting)


def _used(nights: Sequence[WindowNight]) -> list[tuple[WindowNight, Sums]]:
    used = [(night, night.sums) for night in nights if night.sums is not None]
    if used:
        return used
    span = f"{nights[0].night} to {nights[-1].last}" if nights else "no night"
    reasons = [f"  {night.night}: {night.reason}" for night in nights if night.status == LEFT_OUT]
    if not reasons:
        raise NothingToDo(f"the history has no run in the window ({span})")
    listed = "\n".join(reasons)
    raise CannotCompute(f"none of the {len(reasons)} runs of the window can be used:\n{listed}")


def _refuse_unlike(used: Sequence[tuple[WindowNight, Sums]]) -> None:
    """Raise where nights have other telescopes or another model of the distance or the energy."""
    (first, usual), *others = used
    for night, sums in others:
        difference = usual.subarray.difference(sums.subarray)
        if difference is not None:
            raise CannotCompute(
                f"the array of {night.night} is not that of {first.night}: {difference}. One "
                "solution needs one array; choose a window on one side of the change."
            )
        mine, theirs = usual.model.now, sums.model.now
        if (mine.knots, mine.slope) != (theirs.knots, theirs.slope):
            raise CannotCompute(
                f"the distance curves or energy slopes of {night.night} are not supported like "
                f"those of {first.night}, although the configuration is the same. Calibrate the "
                "nights again with one version of arraycal."
            )


def _merged_tables(sums: Sequence[Sums]) -> dict[str, Any]:
    blocks = pl.concat([night.tables["blocks"] for night in sums])
    sound = blocks.filter(pl.col("status") == "ok")
    obs_ids = {int(text) for cell in sound["obs_ids"] for text in cell.split()}
    return {
        # No file was touched: what is known of the blocks comes from the history.
        "blocks": blocks.with_columns(cached=pl.lit(value=True)),
        "rejected": merge_rejected(night.tables["rejected"] for night in sums),
        "obs_ids": tuple(sorted(obs_ids)),
    }


def _within_types(
    fitted: Fit,
    subarray: Subarray,
    observable: Observable,
    configuration: Configuration,
    tables: Mapping[str, Any],
) -> CalibrationResult:
    """Every type in a gauge of its own."""
    result = assemble(fitted, subarray, observable, configuration, **tables)
    return with_curves(result, fitted, subarray)


def _across_types(
    fitted: Fit,
    subarray: Subarray,
    observable: Observable,
    configuration: Configuration,
    tables: Mapping[str, Any],
) -> CalibrationResult:
    """All types in one gauge."""
    reference = configuration.CalculateCrossCalibration.reference_subsystem
    joint = cross.joint_scale(fitted, subarray, configuration)
    result = assemble(fitted, subarray, observable, configuration, **tables, scaled=joint.scaled)
    types = cross.type_table(joint, fitted, subarray, reference)
    return cross.with_types(result, types, joint, fitted, subarray, reference)


def _with_nights(
    result: CalibrationResult,
    nights: Sequence[WindowNight],
    used: Sequence[tuple[WindowNight, Sums]],
    setting: Setting,
) -> CalibrationResult:
    """Add what became of the nights, and how well they agree."""
    days = [night.text for night, _ in used]
    nights_in_use = Family([sums.summary for _, sums in used], lambda start, _: days[start])
    compared = with_parts(result, {NIGHTS: [nights_in_use] if len(used) > 1 else []}, setting)
    table = compared.extras.get("constancy_parts", CONSTANCY_PARTS.to_frame())
    deviations = compared.extras.get("constancy_deviations", CONSTANCY_DEVIATIONS.to_frame())
    counts = {
        status: sum(n.n_nights for n in nights if n.status == status)
        for status in (USED, LEFT_OUT, NO_RUN)
    }
    facts: dict[str, Any] = {
        "window": f"{nights[0].night} to {nights[-1].last}",
        "nights_used": counts[USED],
        "nights_left_out": counts[LEFT_OUT],
        "nights_without_run": counts[NO_RUN],
        "not_in_a_window": ", ".join(
            [NOT_MERGED, *filter(None, [MORE_NOT_MERGED.get(result.calibration)])]
        ),
    }
    extras = {
        "window": window_table(nights, table),
        "stability": stability_table(deviations),
    }
    remarks = [
        *left_out(nights),
        *unsettled(used),
        *inherited(used),
    ]
    return replace(
        compared,
        fit=compared.fit | facts,
        extras=compared.extras | extras,
        verdict=with_remarks(compared.verdict, remarks),
    )
