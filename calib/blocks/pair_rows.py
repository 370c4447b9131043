"""The stage of one block for calibrations that compare values: a file to cached ROWS, or PAIRS.

ROWS where they say all that PAIRS would, see `arraycal.calib.pairs.rules.rows_suffice`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from arraycal.calib import dl2
from arraycal.calib.blocks.cache import ROW_TABLE
from arraycal.calib.blocks.stage import cached_block
from arraycal.calib.observables import ENERGY_INTER
from arraycal.calib.pairs.matching import merge_participation, merge_rejected, pair_events
from arraycal.calib.pairs.rules import (
    inter_first,
    pair_rules,
    pairs_to_form,
    row_configuration,
    rows_suffice,
)
from arraycal.calib.pairs.saturation import BrightestPixels, described
from arraycal.calib.pairs.telescope_rows import SelectedRows, select_rows
from arraycal.calib.pairs.unusable import UnusableValues
from arraycal.calib.schema import LEFT_OUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from arraycal.calib.blocks.stage import BlockPairs
    from arraycal.calib.dl2.door import Door
    from arraycal.calib.dl2.findings import Findings
    from arraycal.calib.observables import Observable
    from arraycal.calib.pairs.selection import PairRules
    from arraycal.calib.subarray import Subarray
    from arraycal.config.models import Configuration

    Select = Callable[[pl.DataFrame], SelectedRows]

__all__ = ["paired_windows", "pairs_of_block", "window_rows"]


def pairs_of_block(
    path: Path, observable: Observable, configuration: Configuration, cache_root: Path
) -> BlockPairs:
    """Make, or find in the cache, the ROWS or PAIRS of one block.

    Parameters
    ----------
    path : Path
        The block file.
    observable : Observable
        The calibration.
    configuration : Configuration
        All options.
    cache_root : Path
        Folder of cached rows.

    Returns
    -------
    BlockPairs
        A file that cannot be used is a result with its reason, not an exception.

    Raises
    ------
    OSError
        If the cache cannot be written: infrastructure, not the block's fault.
    """
    made = _pairs_of_block(path, observable, configuration, cache_root)
    options = configuration.CalculateCrossCalibration
    if not inter_first(observable, configuration) or options.inter_calibration is not None:
        return made
    companion = _pairs_of_block(path, ENERGY_INTER, configuration, cache_root)
    if made.status == "ok" and companion.status != "ok":
        return replace(made, status="failed", reason=companion.reason)
    return replace(made, companion=companion)


def _pairs_of_block(
    path: Path, observable: Observable, configuration: Configuration, cache_root: Path
) -> BlockPairs:
    windows = partial(_value_windows, observable=observable, configuration=configuration)
    return cached_block(path, cache_root, row_configuration(observable, configuration), windows)


def window_rows(rules: PairRules, chunk_size: int) -> int:
    """Telescope events to hold at a time for a window of about `chunk_size` showers.

    Memory goes with the pairs: a filter of pairs leaves few, without it a shower of M
    telescopes has M(M-1)/2.
    """
    return chunk_size * (10 if rules.tests else 3)


def _value_windows(
    block: dl2.Block,
    summary: dict[str, Any],
    door: Door,
    *,
    observable: Observable,
    configuration: Configuration,
    stream: bool,
) -> Iterator[pl.DataFrame]:
    """Yield ROWS or PAIRS window by window and leave the counts in `summary`."""
    rules, array = pair_rules(observable, configuration, block), block.subarray
    as_rows = rows_suffice(observable, configuration, array)
    if as_rows:
        rules = replace(rules, uncertainty=None)  # which only pairs carry on
    rows = window_rows(rules, getattr(configuration, observable.section).chunk_size)
    windows = dl2.windows(block, rules.columns, rows=rows, stream=stream, door=door)
    if not as_rows:
        allowed = pairs_to_form(observable, configuration, array)
        yield from paired_windows(windows, rules, array, allowed, summary, door.findings)
        return
    across = observable.scope != "same_type"
    select = partial(select_rows, rules=rules, subarray=array, across_types=across)
    summary["table"] = ROW_TABLE
    yield from _selected_windows(windows, select, rules, array, summary, door.findings)


def paired_windows(
    windows: Iterable[dl2.EventWindow],
    rules: PairRules,
    subarray: Subarray,
    allowed: npt.NDArray[np.intp],
    summary: dict[str, Any],
    findings: Findings,
) -> Iterator[pl.DataFrame]:
    """Pair the EVENTS of windows, and leave in `summary` what a cache entry says of its rows.

    Parameters
    ----------
    windows : iterable of EventWindow
        EVENTS of complete showers, with `rules.columns`.
    rules : PairRules
        Selection and statistic.
    subarray : Subarray
        The telescopes.
    allowed : array of int, shape (n_pairs, 2)
        Allowed pairs, see `arraycal.calib.subarray.allowed_pairs`.
    summary : dict
        Filled when the last window is through.
    findings : Findings
        What making the windows brings to light, complete by then.

    Yields
    ------
    DataFrame
        PAIRS of a window, unless it has none.
    """

    def select(events: pl.DataFrame) -> SelectedRows:
        found = pair_events(events, rules, subarray, allowed)
        return SelectedRows(found.pairs, found.rejected, found.participation, len(found.pairs))

    return _selected_windows(windows, select, rules, subarray, summary, findings)


def _selected_windows(
    windows: Iterable[dl2.EventWindow],
    select: Select,
    rules: PairRules,
    subarray: Subarray,
    summary: dict[str, Any],
    findings: Findings,
) -> Iterator[pl.DataFrame]:
    """Select the rows of windows; leave in `summary` what a cache entry says of them."""
    if rules.shower:
        summary["shower_columns"] = [name for name, _ in rules.shower]
    rejected: list[pl.DataFrame] = []
    participation: list[pl.DataFrame] = []
    pixels, unusable = BrightestPixels(subarray), UnusableValues(rules.value)
    n_pairs, n_rows, log_values = 0, 0, 0.0
    for window in windows:
        if rules.brightest is not None:
            pixels.add(window.events, rules.value, rules.brightest)
        unusable.add(window.events)
        selected = select(window.events)
        rejected.append(selected.rejected)
        participation.append(selected.participation)
        n_pairs += selected.n_pairs
        n_rows += len(selected.rows)
        log_values += _sum_of_logs(selected.rows)
        if len(selected.rows):
            yield selected.rows
    findings.others += [*unusable.remarks(subarray), *rules.remarks]
    if n_rows:
        summary["mean_log_value"] = log_values / n_rows
    rejected.append(pl.DataFrame(findings.rejected(), LEFT_OUT, orient="row"))
    counts = merge_rejected(rejected).rows()
    saturation = pixels.found()
    notes = [list(note) for note in (*rules.notes, *described(saturation, subarray))]
    summary.update(n_events=findings.n_rows, n_pairs=n_pairs, rejected=counts, notes=notes)
    summary.update(n_rows=n_rows, saturation=[list(item) for item in saturation])
    if rules.min_per_type is not None:
        summary.update(participation=merge_participation(participation).rows())


def _sum_of_logs(rows: pl.DataFrame) -> float:
    """Sum of ln(value) of ROWS, or of the first telescope of PAIRS."""
    name = "value" if "value" in rows.columns else "value_1"
    return float(rows.select(pl.col(name).log().sum()).item())
