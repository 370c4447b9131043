"""Answer to result: tables, reasons for every telescope without an offset, verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from arraycal.calib.pairs.matching import TELESCOPE_LEVEL, merge_rejected
from arraycal.calib.result.result import CLOCK_OFFSET, CalibrationResult
from arraycal.calib.result.verdict import judge, with_untested
from arraycal.calib.schema import REJECTED
from arraycal.calib.stamps.front import C_M_PER_NS
from arraycal.calib.timing.reasons import no_reference, reason_of, strange_clocks
from arraycal.calib.timing.shapes import CURVATURE_BIAS
from arraycal.calib.timing.steps import MIN_DRIFT_Z
from arraycal.calib.timing.tables import (
    distance_table,
    history_table,
    intervals_table,
    pairs_table,
    pointing_table,
    residuals_table,
    steps_table,
    walk_table,
)
from arraycal.calib.timing.trust import residual_rms_ns
from arraycal.calib.wording import readable_ns
from arraycal.config.dumping import to_yaml

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.observables import Observable
    from arraycal.calib.subarray import Subarray
    from arraycal.calib.timing.answer import Answer
    from arraycal.calib.timing.convention.choice import Convention
    from arraycal.config.models import CalculateTimingCalibrationOptions, Configuration

    Floats = npt.NDArray[np.float64]

__all__ = ["CLIPPED", "assemble_clocks"]

#: Name of the rule by which the fit itself leaves stamps out.
CLIPPED = "stamp contradicts its shower (clip)"
#: Bias of the pointing whose effect is quoted.
POINTING_BIAS_DEG = 0.01
#: As many jumps, telescopes that jumped, or that are no part of the mean, are named.
LISTED = 3


def assemble_clocks(  # noqa: PLR0913
    found: Answer,
    subarray: Subarray,
    observable: Observable,
    configuration: Configuration,
    *,
    convention: Convention,
    blocks: pl.DataFrame,
    rejected: pl.DataFrame,
    obs_ids: tuple[int, ...],
    provenance: dict[str, Any],
    remarks: tuple[str, ...] = (),
) -> CalibrationResult:
    """Put the result together.

    Parameters
    ----------
    found : Answer
        The solution.
    subarray : Subarray
        The telescopes.
    observable, configuration
        What was asked for.
    convention : Convention
        What the stamps were taken for.
    blocks, rejected, obs_ids, provenance
        To pass on.
    remarks : tuple of str
        What else a reader must know.

    Returns
    -------
    CalibrationResult
        The result, judged.
    """
    options = configuration.CalculateTimingCalibration
    telescopes = _telescopes(found, subarray, options)
    known = np.flatnonzero(np.isfinite(telescopes["value"].to_numpy()))
    known = known[np.argsort(np.asarray(subarray.tel_ids)[known], kind="stable")]
    nodes = found.nodes.newest[known]
    extras = {
        "intervals": intervals_table(found, subarray),
        "steps": steps_table(found, subarray),
        "history": history_table(found, subarray),
        "residual_distance": distance_table(found, subarray),
        "walk": walk_table(found, subarray),
        "pointings": pointing_table(found),
    }
    return CalibrationResult(
        calibration=observable.name,
        telescopes=telescopes,
        pairs=pairs_table(found, subarray),
        blocks=blocks,
        rejected=_with_clipped(rejected, found),
        tel_ids=tuple(subarray.tel_ids[node] for node in known),
        covariance=found.covariance[np.ix_(nodes, nodes)],
        obs_ids=obs_ids,
        positions_m=dict(zip(subarray.tel_ids, subarray.positions_m, strict=True)),
        fit=_facts(found, subarray, convention, options),
        residuals=residuals_table(found, subarray),
        verdict=with_untested(
            judge(telescopes, blocks, (*remarks, *_remarks(found, subarray, options))),
            _untested(found, options),
        ),
        configuration=to_yaml(configuration),
        provenance=provenance,
        extras=extras,
        published={observable.monitoring_path: _published(telescopes)},
        quantity=CLOCK_OFFSET,
    )


def _published(telescopes: pl.DataFrame) -> pl.DataFrame:
    """Telescopes with an offset, as the table of other programs has them."""
    known = telescopes.filter(pl.col("value").is_finite()).sort("tel_type", "tel_id")
    return known.select("tel_type", "tel_id", pl.col("value").alias("offset"), "error")


def _telescopes(
    found: Answer, subarray: Subarray, options: CalculateTimingCalibrationOptions
) -> pl.DataFrame:
    newest = found.nodes.newest
    value = found.offset_ns[newest]
    error = np.sqrt(np.diag(found.covariance))[newest]
    sums = found.detail.sums
    known = np.isfinite(value)
    # Halves of the data can be too few to tell; tilt, bowl and walk are then all there is.
    shapes = np.hypot(_tilt_ns(found, subarray, options), found.bowl_ns)
    shapes = np.hypot(shapes, found.walk_shift_ns)
    systematic = np.hypot(np.nan_to_num(found.systematic_ns), shapes)
    verdicts = [reason_of(found, subarray, tel, options) for tel in range(len(subarray))]
    nothing = np.full(len(subarray), np.nan)
    return pl.DataFrame(
        {
            "tel_type": list(subarray.types),
            "tel_id": list(subarray.tel_ids),
            "value": value,
            "error": error,
            "systematic": np.where(known, systematic, np.nan),
            "n_events": found.n_events[newest].astype(np.int64),
            "n_candidates": sums.n_all.sum(axis=0).astype(np.int64),
            "n_partners": ((found.common + found.common.T)[newest] > 0).sum(axis=1),
            "component": found.component[newest].astype(np.int64),
            "deviation": nothing,
            "z": nothing,
            "flag": [flag for flag, _ in verdicts],
            "reason": [reason for _, reason in verdicts],
            "residual_rms": residual_rms_ns(sums, found.model.sigma_ns),
            "drift": [drift.slope for drift in found.drift],
            "drift_error": [drift.error for drift in found.drift],
        }
    )


def _tilt_ns(
    found: Answer, subarray: Subarray, options: CalculateTimingCalibrationOptions
) -> Floats:
    """Offsets that a bias of the pointing of POINTING_BIAS_DEG makes, by telescope, at most."""
    positions = np.asarray(subarray.positions_m)
    aims = found.plan.pointing[np.isfinite(found.plan.pointing).all(axis=1)]
    aim = aims.mean(axis=0) / np.linalg.norm(aims.mean(axis=0)) if len(aims) else np.eye(3)[2]
    reference = options.reference_telescope
    middle = (
        positions[subarray.index[reference]]
        if reference is not None and reference in subarray.index
        else positions.mean(axis=0)
    )
    arm = positions - middle
    across = arm - np.outer(arm @ aim, aim)
    bias: Floats = np.radians(POINTING_BIAS_DEG) * np.linalg.norm(across, axis=1) / C_M_PER_NS
    return bias


def _facts(
    found: Answer,
    subarray: Subarray,
    convention: Convention,
    options: CalculateTimingCalibrationOptions,
) -> dict[str, Any]:
    sums = found.detail.sums
    used = sums.n_rows.sum()
    largest = float(np.max(_tilt_ns(found, subarray, options)))
    ndf = _degrees_of_freedom(found)
    rms = float(np.sqrt(found.square_ns2.sum() / max(sums.expected.sum(), 1.0)))
    return {
        "gauge": _gauge(found, subarray, options.reference_telescope),
        "time_convention": convention.name,
        "convention_from": convention.reason,
        **_front(found, subarray),
        # As many parameters as stamps fit anything.
        "residual_rms_ns": rms if ndf > 0 else float("nan"),
        "chi2": float(sums.square.sum()),
        "ndf": ndf,
        "n_showers": int(sums.n_showers.sum()),
        "n_telescope_events": int(used),
        "n_outliers": int(sums.n_all.sum() - used),
        "n_chunks": len(found.plan),
        "n_steps": sum(map(len, found.jumps.values())),
        "n_pointings": found.checks.n_pointings,
        "plane_wave_slope": found.checks.slope,
        "plane_wave_slope_error": found.checks.slope_error,
        "tilt_between_pointings_deg": found.checks.tilt_deg,
        "tilt_between_pointings_error_deg": found.checks.tilt_error_deg,
        f"offset_of_{POINTING_BIAS_DEG}_deg_pointing_bias_ns": largest,
        f"offset_of_{CURVATURE_BIAS}_curvature_bias_ns": float(np.max(np.abs(found.bowl_ns))),
        "offset_of_walk_ns": float(np.max(np.abs(found.walk_shift_ns))),
        "passes": found.passes,
        "settled": found.settled,
        **_left_open(found, subarray, largest),
    }


def _front(found: Answer, subarray: Subarray) -> dict[str, float]:
    """Scale of the front's radius, and the walk of every type, with their errors."""
    scale, error = float(np.exp(found.model.log_scale)), found.column_error
    facts = {
        "curvature_scale": scale,
        "curvature_scale_error": scale * error.get("curvature", 0.0),
    }
    for kind, tel_type in enumerate(sorted(set(subarray.types))):
        name = f"walk_{kind}"
        if name in error:
            facts[f"walk_ns_at_100_pe_{tel_type}"] = float(found.model.walk_ns[kind])
            facts[f"walk_ns_at_100_pe_{tel_type}_error"] = error[name]
    return facts


def _left_open(found: Answer, subarray: Subarray, largest_ns: float) -> dict[str, str]:
    """What these data cannot tell, in sentences."""
    facts = {}
    if len(set(subarray.types)) > 1:
        facts["types"] = (
            "a latency common to a telescope type is part of its offsets; showers cannot tell it "
            "from the clocks"
        )
    if found.checks.n_pointings < 2:  # noqa: PLR2004
        facts["unconstrained"] = (
            "a plane across the array: with one pointing, a bias of the pointing (or of the "
            f"reconstructed directions) tilts all offsets, by up to {largest_ns:.2f} ns for "
            f"{POINTING_BIAS_DEG} deg; add a second pointing to see it"
        )
    return facts


def _gauge(found: Answer, subarray: Subarray, reference: int | None) -> str:
    """What is 0, in words; a clock that stands apart is no part of the mean."""
    if reference is not None:
        return f"telescope {reference} is 0"
    apart = sorted(subarray.tel_ids[tel] for tel in {*found.left_out, *_without_offset(found)})
    if not apart:
        return "mean"
    why = "far off" if len(found.left_out) == len(apart) else "far off or without offset"
    if len(apart) > LISTED:
        return f"mean without {len(apart)} telescopes that are {why}"
    named = ", ".join(map(str, apart))
    return f"mean without telescope{'s' * (len(apart) > 1)} {named}, {why}"


def _without_offset(found: Answer) -> list[int]:
    """Telescopes with stamps that got no offset."""
    unknown = ~np.isfinite(found.offset_ns[found.nodes.newest])
    return np.flatnonzero(unknown & (found.detail.sums.n_all.sum(axis=0) > 0)).tolist()


def _degrees_of_freedom(found: Answer) -> float:
    """Stamps less the dates of the showers, the offsets but for a constant, and what is common."""
    sums = found.detail.sums
    offsets = max(np.count_nonzero(found.n_events) - 1, 0)
    columns = sum(np.isfinite(list(found.column_error.values())))
    return float(sums.n_rows.sum() - sums.n_showers.sum() - offsets - columns - len(found.drifting))


def _remarks(
    found: Answer, subarray: Subarray, options: CalculateTimingCalibrationOptions
) -> list[str]:
    remarks = [*found.contradictions, *found.remarks]
    if not found.settled:
        remarks.append("the iteration did not settle")
    if found.contradictions:
        # Jumps, drifts and conventions of such stamps are those of no clock.
        return remarks
    names = [f"{kind}-{i}" for kind, i in zip(subarray.types, subarray.tel_ids, strict=True)]
    remarks += [*_jump_remarks(found, names), *strange_clocks(found, subarray)]
    for tel, drift in enumerate(found.drift):
        if tel in found.drifting or drift.is_sure:
            remarks.append(
                f"the clock of {names[tel]} drifts by {drift.slope:+.2f} +- {drift.error:.2f} ns/h"
            )
    reference = options.reference_telescope
    lacking = _without_offset(found)
    if reference is None and found.anchored and lacking:
        remarks.append(
            f"the mean that is 0 is that of the others: all offsets are shifted by a constant "
            f"against a result with {_listed([names[tel] for tel in lacking])}"
        )
    if reference is not None and not found.anchored:
        remarks.append(no_reference(subarray, options))
    if not np.isfinite(found.plan.pointing).all():
        remarks.append("the pointing is not known everywhere: not all checks could be made")
    remarks += _core_remarks(found, options)
    if found.checks.unchecked:
        remarks.append(f"the time convention could not be checked: {found.checks.unchecked}")
    if found.checks.tilt_deg > MIN_DRIFT_Z * found.checks.tilt_error_deg:
        remarks.append(
            f"the offsets of different pointings are tilted by {found.checks.tilt_deg:.3f} +- "
            f"{found.checks.tilt_error_deg:.3f} deg: a bias of the pointing"
        )
    return remarks


def _core_remarks(found: Answer, options: CalculateTimingCalibrationOptions) -> list[str]:
    """Say that too large an error of the cores was taken out: light comes from the maximum."""
    scale, error = float(np.exp(found.model.log_scale)), found.column_error.get("curvature", np.nan)
    if options.core_resolution is None or not scale * (1 + MIN_DRIFT_Z * error) < 1:
        return []
    sentence = (
        f"the radius of the front is {scale:.2f} +- {scale * error:.2f} times the distance to the "
        "shower maximum, at least 1 was expected: core_resolution is too large"
    )
    return [sentence]


def _untested(found: Answer, options: CalculateTimingCalibrationOptions) -> list[str]:
    """What the walk is, if errors of the cores are not known."""
    if options.core_resolution is not None or "walk" not in found.model.columns:
        return []
    sentence = (
        "trigger walk: it cannot be told from what errors of the reconstructed cores do; the "
        "systematic errors hold its effect (core_resolution would take these errors out)"
    )
    return [sentence]


def _jump_remarks(found: Answer, names: list[str]) -> list[str]:
    """One sentence on all jumps: those of one clock by size, of several by number."""
    jumps = {names[tel]: steps for tel, steps in sorted(found.jumps.items()) if steps}
    if not jumps:
        return []
    steps = [step.size for found_steps in jumps.values() for step in found_steps]
    if len(jumps) == 1 and len(steps) <= LISTED:
        sizes = ", ".join(map(readable_ns, steps))
        return [f"the clock of {next(iter(jumps))} jumped ({sizes}); see the table of steps"]
    largest = readable_ns(max(map(abs, steps)), sign=False)
    clocks = f"{len(jumps)} clock{'s' * (len(jumps) > 1)} by up to {largest}"
    return [f"{len(steps)} jumps of {clocks} ({_listed(list(jumps))}); see the table of steps"]


def _listed(names: list[str]) -> str:
    more = len(names) - LISTED
    return ", ".join(names[:LISTED] + ([f"{more} more"] if more > 0 else []))


def _with_clipped(rejected: pl.DataFrame, found: Answer) -> pl.DataFrame:
    lost = int(found.detail.sums.n_all.sum() - found.detail.sums.n_rows.sum())
    row = pl.DataFrame([(TELESCOPE_LEVEL, CLIPPED, lost)], schema=REJECTED, orient="row")
    return merge_rejected([rejected, row.filter(pl.col("rows") > 0)])
