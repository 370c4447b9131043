"""The stage of one block for calibrations that compare values: a file to cached PAIRS."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from arraycal.calib import dl2
from arraycal.calib.blocks.stage import cached_block
from arraycal.calib.observables import ENERGY_INTER
from arraycal.calib.pairs.matching import merge_participation, merge_rejected, pair_events
from arraycal.calib.pairs.rules import pair_configuration, pair_rules, pairs_to_form
from arraycal.calib.pairs.saturation import BrightestPixels, described
from arraycal.calib.pairs.unusable import UnusableValues
from arraycal.calib.schema import LEFT_OUT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from arraycal.calib.blocks.stage import BlockPairs
    from arraycal.calib.dl2.door import Door
    from arraycal.calib.dl2.findings import Findings
    from arraycal.calib.observables import Observable
    from arraycal.calib.pairs.matching import PairRules
    from arraycal.calib.subarray import Subarray
    from arraycal.config.models import Configuration

__all__ = ["inter_first", "paired_windows", "pairs_of_block", "window_rows"]


def pairs_of_block(
    path: Path, observable: Observable, configuration: Configuration, cache_root: Path
) -> BlockPairs:
    """Make, or find in the cache, the PAIRS of one block.

    Parameters
    ----------
    path : Path
        The block file.
    observable : Observable
        The calibration.
    configuration : Configuration
        All options.
    cache_root : Path
        Folder of cached PAIRS.

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
    windows = partial(_pair_windows, observable=observable, configuration=configuration)
    return cached_block(path, cache_root, pair_configuration(observable, configuration), windows)


def window_rows(rules: PairRules, chunk_size: int) -> int:
    """Telescope events to hold at a time for a window of about `chunk_size` showers.

    Memory goes with the pair rows: a filter of pairs leaves few, without it a shower of M
    telescopes has M(M-1)/2.
    """
    return chunk_size * (10 if rules.tests else 3)


def _pair_windows(
    block: dl2.Block,
    summary: dict[str, Any],
    door: Door,
    *,
    observable: Observable,
    configuration: Configuration,
    stream: bool,
) -> Iterator[pl.DataFrame]:
    """Yield PAIRS window by window and leave the counts in `summary`."""
    rules = pair_rules(observable, configuration, block)
    allowed = pairs_to_form(observable, configuration, block.subarray)
    rows = window_rows(rules, getattr(configuration, observable.section).chunk_size)
    windows = dl2.windows(block, rules.columns, rows=rows, stream=stream, door=door)
    yield from paired_windows(windows, rules, block.subarray, allowed, summary, door.findings)


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
    if rules.shower:
        summary["shower_columns"] = [name for name, _ in rules.shower]
    rejected: list[pl.DataFrame] = []
    participation: list[pl.DataFrame] = []
    pixels, unusable = BrightestPixels(subarray), UnusableValues(rules.value)
    n_pairs, log_values = 0, 0.0
    for window in windows:
        if rules.brightest is not None:
            pixels.add(window.events, rules.value, rules.brightest)
        unusable.add(window.events)
        paired = pair_events(window.events, rules, subarray, allowed)
        rejected.append(paired.rejected)
        participation.append(paired.participation)
        n_pairs += len(paired.pairs)
        log_values += float(paired.pairs.select(pl.col("value_1").log().sum()).item())
        if len(paired.pairs):
            yield paired.pairs
    findings.others += unusable.remarks(subarray)
    if n_pairs:
        summary["mean_log_value"] = log_values / n_pairs
    rejected.append(pl.DataFrame(findings.rejected(), LEFT_OUT, orient="row"))
    counts = merge_rejected(rejected).rows()
    saturation = pixels.found()
    notes = [list(note) for note in (*rules.notes, *described(saturation, subarray))]
    summary.update(n_events=findings.n_rows, n_pairs=n_pairs, rejected=counts, notes=notes)
    summary.update(saturation=[list(item) for item in saturation])
    if rules.min_per_type is not None:
        summary.update(participation=merge_participation(participation).rows())


def inter_first(observable: Observable, configuration: Configuration) -> bool:
    """Whether a calibration starts from an inter-calibration."""
    method = configuration.CalculateCrossCalibration.method
    return observable.scope == "any" and method == "three_step"
