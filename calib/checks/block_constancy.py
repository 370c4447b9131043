"""The blocks of a night against each other, as tables and remarks.

A block is to a night what a night is to a window (`arraycal.calib.checks.constancy`): its showers,
with weights, selection and distance curves of the last pass held, give throughputs of its own. If a
telescope changed, or a block is of another setup, the common solution describes none of them.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
from scipy import stats

from arraycal.calib.checks.constancy import against_others, constancy_of, difference
from arraycal.calib.result.verdict import with_remarks
from arraycal.calib.wording import percent, relative

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from arraycal.calib.checks.constancy import Against, Difference
    from arraycal.calib.fit.loop import Fit, FitOptions
    from arraycal.calib.result.result import CalibrationResult
    from arraycal.calib.subarray import Subarray

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = [
    "BLOCK_CONSTANCY",
    "BLOCK_CONSTANCY_TYPES",
    "BLOCK_DEVIATIONS",
    "constancy_remarks",
    "error_method",
    "with_constancy",
]

#: Blocks contradict each other when chance alone does so less often than this, that of 3 sigma,
#: all types and both tests together...
CHANCE = 0.0027
#: ...and, of a single telescope in one block, it deviates by more than this: a third of what makes
#: a telescope an outlier (`arraycal.calib.result.verdict`), as its coefficient is off by that part
#: in every block;
MIN_DEVIATION = 0.01
#: or, of all together, they scatter by more than this: what also counts between nights.
MIN_SCATTER = 0.005
#: Both tests of a type: all telescopes together, and the one that deviates most.
N_TESTS = 2
#: Of so few blocks nobody can tell which one is off.
AMBIGUOUS = 2

#: One row per block in use and type (`energy-cross`: all types together): the block against all
#: others. `tel_id` is the telescope that deviates most in units of its error (-1: nothing
#: compares) and `difference` that of its ln c, relative to the other telescopes, weighted by what
#: is known of them; `p_largest` is the chance that any telescope of the row would deviate as much.
BLOCK_CONSTANCY = pl.Schema(
    {
        "obs_ids": pl.String,
        "tel_type": pl.String,
        "n_events": pl.Int64,
        "n_telescopes": pl.Int64,
        "chi2": pl.Float64,
        "ndf": pl.Int64,
        "p_value": pl.Float64,
        "tel_id": pl.Int64,
        "difference": pl.Float64,
        "difference_error": pl.Float64,
        "p_largest": pl.Float64,
    }
)

#: One row per type: all blocks together. `scatter` is the rms of ln c over blocks beyond errors,
#: `birge` the square root of chi2 over ndf; then the block and telescope that deviate most, and the
#: chance that any would. `changed`: one of the tests is significant and of a size that matters.
BLOCK_CONSTANCY_TYPES = pl.Schema(
    {
        "tel_type": pl.String,
        "n_blocks": pl.Int64,
        "chi2": pl.Float64,
        "ndf": pl.Int64,
        "p_value": pl.Float64,
        "birge": pl.Float64,
        "scatter": pl.Float64,
        "obs_ids": pl.String,
        "tel_id": pl.Int64,
        "difference": pl.Float64,
        "difference_error": pl.Float64,
        "p_largest": pl.Float64,
        "changed": pl.Boolean,
    }
)

#: One row per block and telescope that can be compared: `difference` of ln c from its value in the
#: other blocks, relative to the other telescopes.
BLOCK_DEVIATIONS = pl.Schema(
    {
        "obs_ids": pl.String,
        "tel_type": pl.String,
        "tel_id": pl.Int64,
        "n_events": pl.Int64,
        "difference": pl.Float64,
        "difference_error": pl.Float64,
    }
)


def with_constancy(
    result: CalibrationResult,
    fitted: Fit,
    subarray: Subarray,
    options: FitOptions,
    *,
    response_slope: float = 1.0,
    joint: bool = False,
) -> CalibrationResult:
    """Compare the blocks of a result with each other.

    Parameters
    ----------
    result : CalibrationResult
        With the table of its blocks, of which those in use are numbered in order.
    fitted : Fit
        With the sums of the blocks.
    subarray : Subarray
        The telescopes.
    options : FitOptions
        Of the fit; a telescope needs its least numbers of showers in a block to be compared.
    response_slope : float
        Change of ln(value) by ln c.
    joint : bool
        Whether all types share a gauge; by default each has its own.

    Returns
    -------
    CalibrationResult
        With the tables `BLOCK_CONSTANCY`, `BLOCK_CONSTANCY_TYPES` and `BLOCK_DEVIATIONS` and their
        facts, if it has more than one block; degraded by blocks that contradict each other. In any
        case the facts say what errors are clustered by (``error_method``). Unchanged with the
        estimator of pairs, whose errors are not honest enough for a test.
    """
    if options.estimator != "event":
        return result
    result = replace(result, fit=result.fit | {"error_method": error_method(fitted, subarray)})
    if len(fitted.blocks) <= 1:
        return result
    linear = fitted.solution.linear
    pairs = against_others(
        list(fitted.blocks.values()), options, None if linear is None else linear.prediction
    )
    used = result.blocks.filter(pl.col("status") == "ok")["obs_ids"].to_list()
    night = _Night(
        names=[short_name(used[number]) for number in fitted.blocks],
        n_events=np.array([sums.n_events for sums in fitted.blocks.values()]),
        pairs=pairs,
        subarray=subarray,
        response_slope=response_slope,
    )
    compared = [_compare(night, name, nodes) for name, nodes in _groups(subarray, joint=joint)]
    types = _judged([total for _, _, total in compared])
    extras = {
        "block_constancy": pl.concat([blocks for blocks, _, _ in compared]),
        "block_constancy_types": types,
        "block_deviations": pl.concat([telescopes for _, telescopes, _ in compared]),
    }
    return replace(
        result,
        fit=result.fit | _facts(types),
        extras=result.extras | extras,
        verdict=with_remarks(result.verdict, constancy_remarks(types)),
    )


class _Night(NamedTuple):
    """Blocks in order: names, showers by block and telescope, solutions; and what they mean."""

    names: list[str]
    n_events: Floats
    pairs: list[Against]
    subarray: Subarray
    response_slope: float


def short_name(obs_ids: str) -> str:
    """Observations of a block in a few words.

    Examples
    --------
    >>> short_name("1001"), short_name("1001 1002 1005")
    ('1001', '1001 to 1005')
    """
    first, *others = obs_ids.split() or [""]
    return f"{first} to {others[-1]}" if others else first


def error_method(fitted: Fit, subarray: Subarray) -> str:
    """What errors are clustered by: showers or blocks, or which types by blocks."""
    known = np.flatnonzero(fitted.solution.component >= 0)
    if not fitted.by_block:
        return "showers"
    if len(fitted.by_block) == len(known):
        return "blocks"
    types = sorted({subarray.types[node] for node in fitted.by_block})
    return f"showers; blocks for {', '.join(types)}"


def _groups(subarray: Subarray, *, joint: bool) -> list[tuple[str, Indices]]:
    """Telescopes that share a gauge, with a name."""
    names = sorted(set(subarray.types))
    if joint:
        return [("-".join(names), np.arange(len(subarray)))]
    return [(name, np.flatnonzero(subarray.type_codes == i)) for i, name in enumerate(names)]


def _compare(
    night: _Night, name: str, nodes: Indices
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, Any]]:
    """Tables of a group by block and by block and telescope, and its blocks taken together."""
    found = [difference(pair, nodes) for pair in night.pairs]
    parts = [_telescopes(night, number, found[number]) for number in range(len(found))]
    telescopes = pl.concat(parts)
    rows = [
        {
            "obs_ids": label,
            "tel_type": name,
            "n_events": int(night.n_events[number, nodes].sum()),
            "n_telescopes": len(part),
            "chi2": own.chi2,
            "ndf": int(own.ndf),
            "p_value": float(stats.chi2.sf(own.chi2, own.ndf)) if own.ndf else math.nan,
            **_worst(part),
        }
        for number, (label, own, part) in enumerate(zip(night.names, found, parts, strict=True))
    ]
    together = constancy_of([pair.own for pair in night.pairs], nodes)
    total = {
        "tel_type": name,
        "n_blocks": sum(own.ndf > 0 for own in found),
        "chi2": together.chi2,
        "ndf": int(together.ndf),
        "p_value": together.probability,
        "birge": math.sqrt(together.chi2 / together.ndf) if together.ndf else math.nan,
        "scatter": _scatter(found, night.response_slope),
        **_worst(telescopes),
    }
    return pl.DataFrame(rows, BLOCK_CONSTANCY), telescopes.select(BLOCK_DEVIATIONS.names()), total


def _telescopes(night: _Night, number: int, found: Difference) -> pl.DataFrame:
    """Rows of `BLOCK_DEVIATIONS` of one block, with the chance of each."""
    nodes = np.flatnonzero(np.isfinite(found.alone))
    step, error = (v[nodes] / night.response_slope for v in (found.alone, found.alone_error))
    n_events = night.n_events[number, nodes]
    z = np.abs(step) / error
    columns = {
        "obs_ids": [night.names[number]] * len(nodes),
        "tel_type": [night.subarray.types[node] for node in nodes],
        "tel_id": np.asarray(night.subarray.tel_ids)[nodes],
        "n_events": n_events.astype(np.int64),
        "difference": step,
        "difference_error": error,
        # The error is estimated from so many showers.
        "chance": 2 * stats.t.sf(z, np.maximum(n_events - 1, 1)),
        "z": z,
    }
    return pl.DataFrame(columns, BLOCK_DEVIATIONS | {"chance": pl.Float64, "z": pl.Float64})


def _worst(telescopes: pl.DataFrame) -> dict[str, Any]:
    """The least likely deviation, and the chance that any of so many would be so unlikely."""
    if telescopes.is_empty():
        unknown = dict.fromkeys(("difference", "difference_error", "p_largest"), math.nan)
        return {"obs_ids": "", "tel_id": -1, **unknown}
    # Chances of nearly zero are told apart by what they are of.
    row = telescopes.sort("chance", -pl.col("z"), maintain_order=True).row(0, named=True)
    worst = {name: row[name] for name in ("obs_ids", "tel_id", "difference", "difference_error")}
    return worst | {"p_largest": min(1.0, len(telescopes) * row["chance"])}


def _scatter(found: Sequence[Difference], response_slope: float) -> float:
    """Rms of ln c over blocks and telescopes beyond their errors.

    Throughputs that scatter by t differ from the mean of the other N - 1 blocks, and about the mean
    of n telescopes, by ``t^2 N / (N - 1) (n - 1) / n`` in the square.
    """
    excess = [
        ((own.log_ratio**2 - own.error**2) * own.n_compared / (own.n_compared - 1))[known]
        for own in found
        if (known := np.isfinite(own.log_ratio)).any()
    ]
    if not excess:
        return math.nan
    n = len(excess)
    square = float(np.concatenate(excess).mean()) * (n - 1) / n
    return math.sqrt(max(square, 0.0)) / response_slope


def _judged(totals: list[dict[str, Any]]) -> pl.DataFrame:
    """Table `BLOCK_CONSTANCY_TYPES`."""
    table = pl.DataFrame(totals, BLOCK_CONSTANCY_TYPES).drop("changed")
    chance = CHANCE / (N_TESTS * max(1, int((table["ndf"] > 0).sum())))
    alone = (pl.col("p_largest") < chance) & (pl.col("difference").abs() > MIN_DEVIATION)
    together = (pl.col("p_value") < chance) & (pl.col("scatter") > MIN_SCATTER)
    # NaN, where nothing compares, is larger than anything to polars: no contradiction.
    return table.with_columns(changed=(alone | together)).cast(BLOCK_CONSTANCY_TYPES)


def _facts(types: pl.DataFrame) -> dict[str, Any]:
    """All types together; their showers are the same, so the sum has no probability."""
    chi2, ndf = float(types["chi2"].sum()), int(types["ndf"].sum())
    return {
        "blocks_chi2": chi2,
        "blocks_ndf": ndf,
        "birge_factor": math.sqrt(chi2 / ndf) if ndf else math.nan,
        "least_block_probability": types.select(pl.col("p_value").fill_nan(None).min()).item(),
    }


def constancy_remarks(types: pl.DataFrame) -> list[str]:
    """Say which types have blocks that contradict each other, and who deviates most."""
    return [_remark(row) for row in types.filter("changed").iter_rows(named=True)]


def _remark(row: dict[str, Any]) -> str:
    unknown = ", of two blocks nobody knows which is off" if row["n_blocks"] == AMBIGUOUS else ""
    _, error = relative(row["difference"], row["difference_error"])
    return (
        f"the blocks contradict each other beyond their errors ({row['tel_type']}: observation "
        f"{row['obs_ids']}, telescope {row['tel_id']} by {percent(row['difference'])} +- "
        f"{error:.1%} from the other blocks{unknown}; all: {row['scatter']:.1%} "
        f"rms, chi2 / ndf = {row['chi2']:.0f} / {row['ndf']}): coefficients are means over the "
        "blocks and do not hold for each of them; leave out or calibrate apart what does not "
        "belong together"
    )
