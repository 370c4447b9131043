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
from scipy.special import chdtrc, stdtr

from arraycal.calib.checks.constancy import (
    against_others,
    common_change,
    constancy_of,
    difference,
)
from arraycal.calib.checks.judged_parts import (
    LARGEST,
    NO_TELESCOPE,
    constancy_facts,
    constancy_remarks,
    judged,
    not_compared,
)
from arraycal.calib.fit.sums.summary import merge_summaries
from arraycal.calib.result.verdict import with_remarks, with_untested

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from arraycal.calib.checks.constancy import Against, Difference
    from arraycal.calib.fit.loop import FitOptions
    from arraycal.calib.fit.sums.summary import Summary
    from arraycal.calib.result.result import CalibrationResult
    from arraycal.calib.subarray import Subarray

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = [
    "CONSTANCY_DEVIATIONS",
    "CONSTANCY_PARTS",
    "Family",
    "Setting",
    "with_parts",
]

#: Of two types there is one contrast.
TWO_TYPES = 2

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
    table = judged([total for total, _, _ in compared])
    tables = {
        "constancy": table,
        "constancy_parts": pl.concat([parts for _, parts, _ in compared]),
        "constancy_deviations": pl.concat([rows for _, _, rows in compared]),
    }
    verdict = with_remarks(result.verdict, constancy_remarks(table))
    return replace(
        result,
        fit=result.fit | constancy_facts(table, joint=setting.joint),
        extras=result.extras | tables,
        verdict=with_untested(verdict, not_compared(table)),
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
    chance = np.asarray(2 * stdtr(np.maximum(run.least_events[nodes] - 1, 1), -z))
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
    p_value = float(chdtrc(ndf, chi2)) if ndf else math.nan
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
