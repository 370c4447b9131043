"""The stage of one block, and which blocks go together.

One bad file does not spoil the rest: it is left out, with its reason, and stays visible in the
result.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from calib import dl2
from calib.cache import Entry, PairCache
from calib.errors import ArraycalError, CannotCompute
from calib.observables import ENERGY_INTER
from calib.pairs import (
    REPEATED,
    TELESCOPE_LEVEL,
    merge_participation,
    merge_rejected,
    pair_events,
)
from calib.result import BLOCKS
from calib.rules import pair_configuration, pair_rules, pairs_to_form
from calib.schema import PARTICIPATION, REJECTED
from config.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from calib.observables import Observable
    from calib.pairs import PairRules
    from calib.subarray import Subarray
    from config.models import Configuration

__all__ = [
    "BlockPairs",
    "block_table",
    "inter_first",
    "pairs_of_block",
    "select_blocks",
    "window_rows",
]


@dataclass(frozen=True)
class BlockPairs:
    """Outcome of the per-block stage.

    Parameters
    ----------
    path : Path
        The block file.
    status : {"ok", "failed", "excluded"}
        ``failed``: nothing could be made of it; ``excluded``: sound, but not with the others.
    reason : str
        Why not ``ok``.
    digest, data_model : str
        Hash of the content and version of the data model, as far as known.
    obs_ids : tuple of int
        Observations in the file.
    subarray : Subarray or None
        Its telescopes.
    entry : Entry or None
        Its cached PAIRS.
    cached : bool
        Whether they had been there already.
    companion : BlockPairs or None
        The same block for the inter-calibration that a calibration starts from.
    """

    path: Path
    status: Literal["ok", "failed", "excluded"]
    reason: str = ""
    digest: str = ""
    data_model: str = ""
    obs_ids: tuple[int, ...] = ()
    subarray: Subarray | None = None
    entry: Entry | None = None
    cached: bool = False
    companion: BlockPairs | None = None

    @property
    def n_events(self) -> int:
        """Telescope events read."""
        return int(self.entry.summary["n_events"]) if self.entry else 0

    @property
    def n_pairs(self) -> int:
        """Pair rows."""
        return int(self.entry.summary["n_pairs"]) if self.entry else 0

    @property
    def notes(self) -> list[tuple[str, str]]:
        """What a reader must know about the selection: topic and text."""
        notes = self.entry.summary.get("notes", []) if self.entry else []
        return [(topic, text) for topic, text in notes]

    @property
    def rejected(self) -> pl.DataFrame:
        """REJECTED rows of the block."""
        rows = self.entry.summary["rejected"] if self.entry else []
        return pl.DataFrame(rows, schema=REJECTED, orient="row")

    @property
    def participation(self) -> pl.DataFrame:
        """PARTICIPATION of the telescopes of the block."""
        rows = self.entry.summary.get("participation", []) if self.entry else []
        return pl.DataFrame(rows, schema=PARTICIPATION, orient="row")


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
    cache = PairCache(cache_root)
    failed = BlockPairs(path, "failed")
    try:
        block = dl2.open_block(path)
        failed = replace(
            failed,
            data_model=block.data_model,
            obs_ids=block.obs_ids,
            subarray=block.subarray,
            digest=cache.digest(path),
        )
        before = _state(path)
        key = cache.key(failed.digest, pair_configuration(observable, configuration))
        entry = cache.load(key)
        if entry is not None:
            return replace(failed, status="ok", entry=entry, cached=True)
        entry = _compute(block, observable, configuration, cache, key, before)
        return replace(failed, status="ok", entry=entry)
    except (ArraycalError, ConfigurationError) as error:
        reason = str(error)
        return replace(failed, reason=reason if str(path) in reason else f"{path}: {reason}")


def _compute(
    block: dl2.Block,
    observable: Observable,
    configuration: Configuration,
    cache: PairCache,
    key: str,
    before: tuple[int, int],
) -> Entry:
    for stream in (True, False):
        summary: dict[str, Any] = {}
        windows = _pair_windows(block, observable, configuration, summary, stream=stream)
        try:
            return cache.store(key, _unless_changed(windows, block.path, before), summary)
        except dl2.UnsortedRows:
            if not stream:
                raise
    raise AssertionError


def _state(path: Path) -> tuple[int, int]:
    """Size and modification time, which change when a file is written to."""
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _unless_changed(
    windows: Iterator[pl.DataFrame], path: Path, before: tuple[int, int]
) -> Iterator[pl.DataFrame]:
    """Pass windows on; raise at the end if the file was written to while it was read."""
    yield from windows
    if _state(path) != before:
        raise CannotCompute(
            f"{path}: the file changed while it was read. Wait until it is complete and run again."
        )


def window_rows(rules: PairRules, chunk_size: int) -> int:
    """Telescope events to hold at a time for a window of about `chunk_size` showers.

    Memory goes with the pair rows: a filter of pairs leaves few, without it a shower of M
    telescopes has M(M-1)/2.
    """
    return chunk_size * (10 if rules.tests else 3)


def _pair_windows(
    block: dl2.Block,
    observable: Observable,
    configuration: Configuration,
    summary: dict[str, Any],
    *,
    stream: bool,
) -> Iterator[pl.DataFrame]:
    """Yield PAIRS window by window and leave the counts in `summary`."""
    rules = pair_rules(observable, configuration, block)
    if rules.shower:
        summary["shower_columns"] = [name for name, _ in rules.shower]
    allowed = pairs_to_form(observable, configuration, block.subarray)
    rows = window_rows(rules, getattr(configuration, observable.section).chunk_size)
    rejected: list[pl.DataFrame] = []
    participation: list[pl.DataFrame] = []
    n_events = n_pairs = repeated = 0
    for window in dl2.windows(block, rules.columns, rows=rows, stream=stream):
        paired = pair_events(window.events, rules, block.subarray, allowed)
        rejected.append(paired.rejected)
        participation.append(paired.participation)
        repeated += window.repeated
        n_events += len(window.events) + window.repeated
        n_pairs += len(paired.pairs)
        if len(paired.pairs):
            yield paired.pairs
    if repeated:
        row = (TELESCOPE_LEVEL, REPEATED, repeated)
        rejected.append(pl.DataFrame([row], REJECTED, orient="row"))
    counts = merge_rejected(rejected).rows()
    notes = [list(note) for note in rules.notes]
    summary.update(n_events=n_events, n_pairs=n_pairs, rejected=counts, notes=notes)
    if rules.min_per_type is not None:
        summary.update(participation=merge_participation(participation).rows())


def select_blocks(blocks: Sequence[BlockPairs]) -> list[BlockPairs]:
    """Exclude blocks that do not go together with the others.

    The array of most blocks is the array of the night; a block with another one is excluded.
    Of two files with an observation in common the second one is.

    Parameters
    ----------
    blocks : sequence of BlockPairs
        In any order.

    Returns
    -------
    list of BlockPairs
        All of them, ordered by observation and path, some now ``excluded``.
    """
    ordered = sorted(blocks, key=lambda block: (block.obs_ids, str(block.path)))
    usual = _usual_array(ordered)
    seen: dict[int, Path] = {}
    result = []
    for block in ordered:
        reason = _misfit(block, usual, seen) if block.status == "ok" else ""
        if block.status == "ok" and not reason:
            seen |= dict.fromkeys(block.obs_ids, block.path)
        result.append(replace(block, status="excluded", reason=reason) if reason else block)
    return result


def _usual_array(blocks: Sequence[BlockPairs]) -> Subarray | None:
    """Return the array of most blocks; of equally many, that of the first block."""
    # Files may call the same array by different names.
    arrays = Counter(
        replace(block.subarray, name="")
        for block in blocks
        if block.status == "ok" and block.subarray
    )
    return arrays.most_common(1)[0][0] if arrays else None


def _misfit(block: BlockPairs, usual: Subarray | None, seen: Mapping[int, Path]) -> str:
    """Why a sound block does not go with the others; empty if it does."""
    difference = usual.difference(block.subarray) if usual and block.subarray else None
    if difference is not None:
        return f"{block.path}: another array than the other blocks, {difference}"
    repeated = [obs_id for obs_id in block.obs_ids if obs_id in seen]
    if repeated:
        return f"{block.path}: obs_id {repeated[0]} is already in {seen[repeated[0]]}"
    return ""


def inter_first(observable: Observable, configuration: Configuration) -> bool:
    """Whether a calibration starts from an inter-calibration."""
    method = configuration.CalculateCrossCalibration.method
    return observable.scope == "any" and method == "three_step"


def block_table(blocks: Sequence[BlockPairs]) -> pl.DataFrame:
    """Return the blocks as a table of schema ``calib.result.BLOCKS``."""
    rows = [
        (
            str(block.path),
            block.status,
            block.reason,
            " ".join(map(str, block.obs_ids)),
            block.data_model,
            block.digest,
            block.n_events,
            block.n_pairs,
            block.cached,
        )
        for block in blocks
    ]
    return pl.DataFrame(rows, schema=BLOCKS, orient="row")
