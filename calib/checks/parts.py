"""Parts of the data against each other, as tables and remarks.

Blocks of a night, stretches of time of a block, and nights of a window are parts of the same kind:
their showers, with weights, selection and distance curves held, give throughputs of their own
(`arraycal.calib.checks.constancy`). If a telescope changed, or a part is of another setup, the
common solution describes none of them. A change that is common to a type is one of its contrast
with the others; telescopes are compared with those of their type.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
from scipy import stats

from arraycal.calib.checks.constancy import (
    against_others,
    common_change,
    constancy_of,
    difference,
)
from arraycal.calib.fit.summary import merge_summaries
from arraycal.calib.result.verdict import with_remarks, with_untested
from arraycal.calib.wording import percent, relative

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from arraycal.calib.checks.constancy import Against, Difference
    from arraycal.calib.fit.loop import FitOptions
    from arraycal.calib.fit.summary import Summary
    from arraycal.calib.result.result import CalibrationResult
    from arraycal.calib.subarray import Subarray

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = [
    "BLOCKS",
    "CONSTANCY",
    "CONSTANCY_DEVIATIONS",
    "CONSTANCY_PARTS",
    "HALVES",
    "NIGHTS",
    "NO_TELESCOPE",
    "TIME",
    "Family",
    "Setting",
    "constancy_remarks",
    "with_parts",
]

#: What parts are: blocks of a night, stretches of time of a block, the first and the second halves
#: of all blocks, nights of a window.
BLOCKS, TIME, HALVES, NIGHTS = "blocks", "time", "halves", "nights"
#: Parts contradict each other when chance alone does so less often than this, that of 3 sigma, all
#: kinds of parts, types and tests together...
CHANCE = 0.0027
#: ...and, of a single telescope or type in one part, it deviates by more than this: a third of what
#: makes a telescope an outlier (`arraycal.calib.result.verdict`), as its coefficient is off by that
#: part in every block;
MIN_DEVIATION = 0.01
#: or, of all together, they scatter by more than this.
MIN_SCATTER = 0.005
#: Of so few parts nobody can tell which one is off.
AMBIGUOUS = 2
#: Kinds of which neither part is the usual one.
UNORDERED = (BLOCKS, NIGHTS)
#: `tel_id` where a type deviates as a whole, or nothing compares.
NO_TELESCOPE = -1
#: Of two types there is one contrast.
TWO_TYPES = 2

#: What deviates most in units of its error: type and telescope (`NO_TELESCOPE`: the type as a
#: whole), `difference` of its ln c relative to the other telescopes, weighted by what is known of
#: them, and the chance that anything would deviate as much.
LARGEST = {
    "deviating": pl.String(),
    "tel_id": pl.Int64(),
    "difference": pl.Float64(),
    "difference_error": pl.Float64(),
    "p_largest": pl.Float64(),
}

#: One row per kind of part and type, or all types where they share a gauge: all parts together.
#: `scatter` is the rms of ln c over parts beyond errors, `birge` the square root of chi2 over ndf;
#: then the part, or run of successive parts, and what deviates most in it. `changed`: one of the
#: tests is significant and of a size that matters.
CONSTANCY = pl.Schema(
    {
        "kind": pl.String(),
        "tel_type": pl.String(),
        "n_parts": pl.Int64(),
        "chi2": pl.Float64(),
        "ndf": pl.Int64(),
        "p_value": pl.Float64(),
        "birge": pl.Float64(),
        "scatter": pl.Float64(),
        "part": pl.String(),
        **LARGEST,
        "changed": pl.Boolean(),
    }
)

#: One row per part and type: the part against all others.
CONSTANCY_PARTS = pl.Schema(
    {
        "kind": pl.String(),
        "part": pl.String(),
        "tel_type": pl.String(),
        "n_events": pl.Int64(),
        "n_telescopes": pl.Int64(),
        "chi2": pl.Float64(),
        "ndf": pl.Int64(),
        "p_value": pl.Float64(),
        **LARGEST,
    }
)

#: One row per part and telescope that can be compared: `difference` of ln c from its value in the
#: other parts, relative to the other telescopes of its type; or per part and type, `tel_id` being
#: `NO_TELESCOPE`, relative to the other types.
CONSTANCY_DEVIATIONS = pl.Schema(
    {
        "kind": pl.String(),
        "part": pl.String(),
        "tel_type": pl.String(),
        "tel_id": pl.Int64(),
        "n_events": pl.Int64(),
        "difference": pl.Float64(),
        "difference_error": pl.Float64(),
    }
)


class Family(NamedTuple):
    """Parts that are compared with each other.

    Parameters
    ----------
    sums : sequence of Summary
        Of each part, in order.
    name : callable
        Text of the parts from the first up to, not including, the second.
    in_time : bool
        Whether successive parts may have changed together.
    """

    sums: Sequence[Summary]
    name: Callable[[int, int], str]
    in_time: bool = False


class Setting(NamedTuple):
    """How parts are solved and judged.

    Parameters
    ----------
    subarray : Subarray
        The telescopes.
    options : FitOptions
        Of the fit; a telescope needs its least numbers of showers in a part to be compared.
    response_slope : float
        Change of ln(value) by ln c.
    joint : bool
        Whether all types share a gauge; by default each has its own.
    columns : array, optional
        Values at which global columns are held; by default each part has its own.
    """

    subarray: Subarray
    options: FitOptions
    response_slope: float = 1.0
    joint: bool = False
    columns: Floats | None = None


class _Run(NamedTuple):
    """A part, or successive ones, against the rest of their family.

    `n_events` has the showers of each telescope, `least_events` those of the side that has fewer.
    """

    part: str
    is_single: bool
    is_tested: bool
    n_events: Floats
    least_events: Floats
    pair: Against


class _Seen(NamedTuple):
    """A run as it compares for a group, and rows of everything in it that may deviate."""

    run: _Run
    found: Difference
    rows: list[dict[str, Any]]


class _Group(NamedTuple):
    """Telescopes that share a gauge; of several types, what is compared is `types` as a whole."""

    name: str
    nodes: Indices
    types: Mapping[str, Indices]


def with_parts(
    result: CalibrationResult, kinds: Mapping[str, Sequence[Family]], setting: Setting
) -> CalibrationResult:
    """Compare parts of the data with each other.

    Parameters
    ----------
    result : CalibrationResult
        Of all of them together.
    kinds : mapping of str to sequence of Family
        What is compared, by kind.
    setting : Setting
        How.

    Returns
    -------
    CalibrationResult
        With the tables `CONSTANCY`, `CONSTANCY_PARTS` and `CONSTANCY_DEVIATIONS` and their facts;
        degraded by parts that contradict each other. Unchanged where there is nothing to compare.
    """
    solved = {
        kind: [_levels(family, setting) for family in families]
        for kind, families in kinds.items()
        if families
    }
    if not solved:
        return result
    compared = [
        _compared(kind, families, group, setting)
        for kind, families in solved.items()
        for group in _groups(setting)
    ]
    table = _judged([total for total, _, _ in compared])
    tables = {
        "constancy": table,
        "constancy_parts": pl.concat([parts for _, parts, _ in compared]),
        "constancy_deviations": pl.concat([rows for _, _, rows in compared]),
    }
    verdict = with_remarks(result.verdict, constancy_remarks(table))
    return replace(
        result,
        fit=result.fit | _facts(table, setting),
        extras=result.extras | tables,
        verdict=with_untested(verdict, _not_compared(table)),
    )


def _groups(setting: Setting) -> list[_Group]:
    """Groups to compare, all types together first."""
    subarray = setting.subarray
    names = sorted(set(subarray.types))
    own = {name: np.flatnonzero(subarray.type_codes == i) for i, name in enumerate(names)}
    groups = [_Group(name, nodes, {}) for name, nodes in own.items()]
    if not setting.joint:
        return groups
    if len(own) == TWO_TYPES:  # said of the smaller one
        own = dict(sorted(own.items(), key=lambda item: len(item[1]))[:1])
    return [_Group("-".join(names), np.arange(len(subarray)), own), *groups]


def _levels(family: Family, setting: Setting) -> list[list[_Run]]:
    """The parts of a family; of those in time also twice as many together, and so on to halves."""
    n = len(family.sums)
    sizes = [size for size in range(1, n) if n % size == 0] if family.in_time else [1]
    return [_runs(_merged(family, size), setting) for size in sizes]


def _merged(family: Family, size: int) -> Family:
    """Take so many successive parts as one."""
    starts = range(0, len(family.sums), size)
    return family._replace(
        sums=[merge_summaries(family.sums[start : start + size]) for start in starts],
        name=lambda start, stop: family.name(start * size, stop * size),
    )


def _runs(family: Family, setting: Setting) -> list[_Run]:
    """Each part against all others; those in time also together with those that follow."""
    n = len(family.sums)
    places = [(start, start + 1) for start in range(n)]
    if family.in_time:
        places += [(i, j) for i, j in combinations(range(1, n + 1), 2) if j - i > 1]
    pairs = against_others(family.sums, setting.options, setting.columns, places)
    events = np.array([part.n_events for part in family.sums])
    own = [events[start:stop].sum(axis=0) for start, stop in places]
    return [
        _Run(
            part=family.name(start, stop),
            is_single=stop - start == 1,
            # A change that lasts is one of what follows it: the first part is the usual one.
            is_tested=start > 0 or not family.in_time,
            n_events=n_events,
            least_events=np.minimum(n_events, events.sum(axis=0) - n_events),
            pair=pair,
        )
        for (start, stop), n_events, pair in zip(places, own, pairs, strict=True)
    ]


def _finest(levels: Sequence[Sequence[_Run]], nodes: Indices) -> Sequence[_Run]:
    """Choose the finest parts in which as many telescopes compare as in the coarsest."""
    compared = [
        min(np.isfinite(difference(run.pair, nodes).alone).sum() for run in runs if run.is_single)
        for runs in levels
    ]
    return levels[compared.index(max(compared))]


def _compared(
    kind: str, levels: Sequence[Sequence[Sequence[_Run]]], group: _Group, setting: Setting
) -> tuple[dict[str, Any], pl.DataFrame, pl.DataFrame]:
    """Rows of the three tables of a group: all parts together, by part, by part and telescope."""
    label = {"kind": kind, "tel_type": group.name}
    families = [[_seen(run, group, setting) for run in _finest(own, group.nodes)] for own in levels]
    single = [[seen for seen in family if seen.run.is_single] for family in families]
    parts = [label | _part(seen, group) for family in single for seen in family]
    together = [constancy_of([seen.run.pair.own for seen in own], group.nodes) for own in single]
    chi2, ndf = sum(own.chi2 for own in together), int(sum(own.ndf for own in together))
    tested = [row for own in families for seen in own if seen.run.is_tested for row in seen.rows]
    total = label | {
        "is_contrast": bool(group.types),
        "n_parts": sum(part["ndf"] > 0 for part in parts),
        **_chi_square(chi2, ndf),
        "birge": math.sqrt(chi2 / ndf) if ndf else math.nan,
        "scatter": _scatter([[seen.found for seen in own] for own in single], setting),
        **_largest(tested),
    }
    rows = [
        row | {"kind": kind, "tel_type": row["deviating"]}
        for own in single
        for seen in own
        for row in seen.rows
    ]
    return (
        total,
        pl.DataFrame(parts, CONSTANCY_PARTS),
        pl.DataFrame(rows, CONSTANCY_DEVIATIONS),
    )


def _seen(run: _Run, group: _Group, setting: Setting) -> _Seen:
    """Compare a run; rows of what can be compared: telescopes, or types as a whole."""
    subarray, found = setting.subarray, difference(run.pair, group.nodes)
    nodes = np.arange(len(subarray))
    step, error, tel_ids = found.alone, found.alone_error, subarray.tel_ids
    if group.types:
        nodes = np.array([own[run.n_events[own].argmax()] for own in group.types.values()])
        step, error = common_change(found, list(group.types.values()))
        tel_ids = (NO_TELESCOPE,) * len(step)
    z = np.abs(step) / error
    # The error is estimated from so many showers.
    chance = np.asarray(2 * stats.t.sf(z, np.maximum(run.least_events[nodes] - 1, 1)))
    rows = [
        {
            "part": run.part,
            "deviating": subarray.types[nodes[k]],
            "tel_id": tel_ids[k],
            "n_events": int(run.n_events[nodes[k]]),
            "difference": float(step[k]) / setting.response_slope,
            "difference_error": float(error[k]) / setting.response_slope,
            "chance": float(chance[k]),
            "z": float(z[k]),
        }
        for k in np.flatnonzero(np.isfinite(step))
    ]
    return _Seen(run, found, rows)


def _part(seen: _Seen, group: _Group) -> dict[str, Any]:
    """Row of `CONSTANCY_PARTS`, but for its label."""
    return {
        "n_events": int(seen.run.n_events[group.nodes].sum()),
        "n_telescopes": int(np.isfinite(seen.found.alone).sum()),
        **_chi_square(seen.found.chi2, int(seen.found.ndf)),
        **_largest(seen.rows),
        "part": seen.run.part,
    }


def _chi_square(chi2: float, ndf: int) -> dict[str, Any]:
    p_value = float(stats.chi2.sf(chi2, ndf)) if ndf else math.nan
    return {"chi2": chi2, "ndf": ndf, "p_value": p_value}


def _largest(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The least likely deviation, and the chance that any of so many would be so unlikely."""
    if not rows:
        unknown = dict.fromkeys(("difference", "difference_error", "p_largest"), math.nan)
        return {"part": "", "deviating": "", "tel_id": NO_TELESCOPE, **unknown}
    # Chances of nearly zero are told apart by what they are of.
    row = min(rows, key=lambda row: (row["chance"], -row["z"]))
    worst = {name: row[name] for name in ("part", *LARGEST) if name in row}
    return worst | {"p_largest": min(1.0, len(rows) * row["chance"])}


def _scatter(families: Sequence[Sequence[Difference]], setting: Setting) -> float:
    """Rms of ln c over parts and telescopes beyond their errors.

    Throughputs that scatter by t differ from the mean of the other N - 1 parts, and about the mean
    of n telescopes, by ``t^2 N / (N - 1) (n - 1) / n`` in the square.
    """
    squares = []
    for family in families:
        excess = [
            ((own.log_ratio**2 - own.error**2) * own.n_compared / (own.n_compared - 1))[known]
            for own in family
            if (known := np.isfinite(own.log_ratio)).any()
        ]
        squares += [part * (len(excess) - 1) / len(excess) for part in excess]
    if not squares:
        return math.nan
    return math.sqrt(max(float(np.concatenate(squares).mean()), 0.0)) / setting.response_slope


def _judged(totals: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Table `CONSTANCY`; of all types together only contrasts are judged, not single telescopes."""
    table = pl.DataFrame(totals, CONSTANCY | {"is_contrast": pl.Boolean()})
    compared = table.filter(pl.col("ndf") > 0)
    chance = CHANCE / max(1, 2 * len(compared) - int(compared["is_contrast"].sum()))
    alone = (pl.col("p_largest") < chance) & (pl.col("difference").abs() > MIN_DEVIATION)
    together = (pl.col("p_value") < chance) & (pl.col("scatter") > MIN_SCATTER)
    # NaN, where nothing compares, is larger than anything to polars: no contradiction.
    changed = alone | (together & ~pl.col("is_contrast"))
    return table.with_columns(changed=changed).select(CONSTANCY.names())


def _facts(table: pl.DataFrame, setting: Setting) -> dict[str, Any]:
    """By kind, all types together; their showers are the same, so the sum has no probability."""
    facts: dict[str, Any] = {}
    for (kind,), own in table.group_by("kind", maintain_order=True):
        # The first row of a joint solution holds all types.
        rows = own.head(1) if setting.joint else own
        facts |= {
            f"{kind}_chi2": float(rows["chi2"].sum()),
            f"{kind}_ndf": int(rows["ndf"].sum()),
            f"{kind}_probability": own.select(pl.col("p_value").fill_nan(None).min()).item(),
        }
    return facts


class _Wording(NamedTuple):
    """How a kind of part is spoken of: what contradicts, where, from what, and what follows."""

    fault: str
    place: str
    others: str
    advice: str
    untested: str


WORDING = {
    BLOCKS: _Wording(
        "the blocks contradict each other",
        "observation ",
        "the other blocks",
        "coefficients are means over the blocks and do not hold for each of them; leave out or "
        "calibrate apart what does not belong together",
        "constancy between blocks",
    ),
    TIME: _Wording(
        "telescopes changed within blocks",
        "observation ",
        "the rest of the block",
        "coefficients are means over the time and do not hold all of it; leave out what does not "
        "belong together",
        "constancy within blocks",
    ),
    HALVES: _Wording(
        "telescopes change in the course of the blocks",
        "",
        "the first halves",
        "coefficients are means over the time and do not hold all of it",
        "constancy in the course of all blocks",
    ),
    NIGHTS: _Wording(
        "the nights disagree",
        "",
        "the other nights",
        "coefficients are means over the window, and their errors those of the mean",
        "constancy between nights",
    ),
}


def constancy_remarks(table: pl.DataFrame) -> list[str]:
    """Say which parts contradict each other, and who deviates most."""
    changed = table.filter("changed")
    who = ("tel_type", "deviating", "tel_id")
    # What was said of single blocks need not be said again of all of them.
    said = changed.filter(pl.col("kind") == TIME)
    again = changed.filter(pl.col("kind") == HALVES).join(said, on=who, how="semi")
    told = changed.join(again, on=("kind", *who), how="anti", maintain_order="left")
    return [_remark(row) for row in told.iter_rows(named=True)]


def _remark(row: dict[str, Any]) -> str:
    words = WORDING[row["kind"]]
    unknown = f", of two {row['kind']} nobody knows which is off"
    _, error = relative(row["difference"], row["difference_error"])
    who = f"{row['tel_type']}: {words.place}{row['part']}, telescope {row['tel_id']}"
    if row["tel_id"] == NO_TELESCOPE:
        who = f"all {row['deviating']} against the other types: {words.place}{row['part']}"
    return (
        f"{words.fault} beyond their errors ({who} by {percent(row['difference'])} +- "
        f"{error:.1%} from {words.others}"
        f"{unknown if row['n_parts'] == AMBIGUOUS and row['kind'] in UNORDERED else ''}; all: "
        f"{row['scatter']:.1%} rms, chi2 / ndf = {row['chi2']:.0f} / {row['ndf']}): {words.advice}"
    )


def _not_compared(table: pl.DataFrame) -> list[str]:
    """Say what has too few showers by part."""
    lost = table.filter(pl.col("ndf") == 0).group_by("kind", maintain_order=True).agg("tel_type")
    return [
        f"{WORDING[kind].untested}: {', '.join(types)} (no two telescopes have enough showers in "
        f"two parts)"
        for kind, types in lost.iter_rows()
    ]
