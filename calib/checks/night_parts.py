"""The parts of a night: its blocks against each other, and stretches of time within each.

A file is a block. Time is cut where equally many showers fall on either side
(`arraycal.calib.fit.sums.block_sums`), so that a change inside a block shows whenever it came.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from arraycal.calib.checks.judged_parts import BLOCKS, HALVES, TIME
from arraycal.calib.checks.parts import Family, Setting, with_parts
from arraycal.calib.dl2.observed import utc
from arraycal.calib.fit.sums.block_sums import MIN_CHUNK_S, UNTIMED, time_halves
from arraycal.calib.result.verdict import with_untested

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from arraycal.calib.fit.loop import Fit, FitOptions
    from arraycal.calib.result.result import CalibrationResult
    from arraycal.calib.subarray import Subarray

    Floats = npt.NDArray[np.float64]

__all__ = ["error_method", "short_name", "with_constancy"]

#: Names in a sentence, before it says how many more there are.
MAX_NAMED = 5


def with_constancy(
    result: CalibrationResult,
    fitted: Fit,
    subarray: Subarray,
    options: FitOptions,
    *,
    response_slope: float = 1.0,
    joint: bool = False,
) -> CalibrationResult:
    """Compare the blocks of a result with each other, and the stretches of time in each.

    Parameters
    ----------
    result : CalibrationResult
        With the table of its blocks, of which those in use are numbered in order.
    fitted : Fit
        With the sums of blocks and time chunks.
    subarray, options, response_slope, joint
        See `arraycal.calib.checks.parts.Setting`.

    Returns
    -------
    CalibrationResult
        See `arraycal.calib.checks.parts.with_parts`. In any case the facts say what errors are
        clustered by (``error_method``). Nothing is compared with the estimator of pairs, whose
        errors are not honest enough for a test.
    """
    if options.estimator != "event":
        untested = ["constancy between and within blocks: not with the estimator of pairs"]
        return replace(result, verdict=with_untested(result.verdict, untested))
    result = replace(result, fit=result.fit | {"error_method": error_method(fitted, subarray)})
    used = result.blocks.filter(pl.col("status") == "ok")["obs_ids"].to_list()
    names = {number: short_name(used[number]) for number in fitted.blocks}
    linear = fitted.solution.linear
    setting = Setting(
        subarray=subarray,
        options=options,
        response_slope=response_slope,
        joint=joint,
        columns=None if linear is None else linear.prediction,
    )
    labels = list(names.values())
    blocks = [Family(list(fitted.blocks.values()), lambda start, _: labels[start])]
    whole = {n: edges for n, edges in fitted.chunk_edges_s.items() if len(edges) <= TWO_ENDS}
    time = [
        Family(
            [summary for chunk, summary in chunks.items() if chunk != UNTIMED],
            _stretch(names[number], fitted.chunk_edges_s[number]),
            in_time=True,
        )
        for number, chunks in fitted.chunks.items()
        if number not in whole
    ]
    halves = Family(
        time_halves(fitted.chunks, fitted.chunk_edges_s, fitted.model),
        lambda start, _: ("first", "second")[start] + " halves of the blocks",
        in_time=True,
    )
    kinds = {
        BLOCKS: blocks if len(blocks[0].sums) > 1 else [],
        TIME: time,
        # Of a single block they are among its stretches of time.
        HALVES: [halves] if len(time) > 1 else [],
    }
    untested = _whole_blocks({names[number]: edges for number, edges in whole.items()})
    if len(labels) == 1:
        untested.append("constancy between blocks: there is one")
    result = with_parts(result, kinds, setting)
    return replace(result, verdict=with_untested(result.verdict, untested))


#: Edges of a block that is one chunk.
TWO_ENDS = 2


def _stretch(name: str, edges_s: Floats) -> Callable[[int, int], str]:
    """Text of chunks of a block."""
    times, n = [utc(float(edge)) for edge in edges_s], len(edges_s) - 1

    def text(start: int, stop: int) -> str:
        parts = f"part {stop}" if stop - start == 1 else f"parts {start + 1} to {stop}"
        begin, end = times[start], times[stop]
        return f"{name}, {begin:%Y-%m-%d %H:%M:%S} to {end:%H:%M:%S} UTC ({parts} of {n})"

    return text


def _whole_blocks(edges: dict[str, Floats]) -> list[str]:
    """Say which blocks are one stretch of time, and why."""
    reasons: dict[str, list[str]] = {}
    for name, ends in edges.items():
        reasons.setdefault(_why_whole(ends), []).append(name)
    return [
        f"constancy within blocks: {_listed(names)} ({reason})" for reason, names in reasons.items()
    ]


def _why_whole(ends: Floats) -> str:
    if not len(ends):
        return "no trigger times"
    if ends[0] == ends[1]:
        return "one trigger time for all showers"
    return f"too few showers, or less than {2 * MIN_CHUNK_S:.0f} s of them"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"observation {', '.join(names[:MAX_NAMED])}{more}"


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
