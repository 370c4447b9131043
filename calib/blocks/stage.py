"""The stage of one block, and which blocks go together.

One bad file does not spoil the rest: it is left out, with its reason, and stays visible in the
result.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import polars as pl

from arraycal.calib import dl2, hdf5
from arraycal.calib.blocks.cache import Entry, PairCache
from arraycal.calib.blocks.repeats import Repeats, find_repeats
from arraycal.calib.criteria import CriterionError, UnknownColumn
from arraycal.calib.dl2.door import open_door
from arraycal.calib.dl2.findings import unsigned
from arraycal.calib.errors import ArraycalError, CannotCompute, NothingToDo, WrongUsage
from arraycal.calib.pairs.matching import merge_rejected
from arraycal.calib.pairs.saturation import Saturation
from arraycal.calib.schema import BLOCKS, LEFT_OUT, PARTICIPATION
from arraycal.config.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from arraycal.calib.dl2.door import Door
    from arraycal.calib.subarray import Subarray

    Frames = Iterator[pl.DataFrame]

__all__ = [
    "BlockPairs",
    "UsableBlocks",
    "block_table",
    "cached_block",
    "select_blocks",
    "usable_blocks",
    "without_repeats",
]


#: What is said of a block that was too large for the machine, and what to do.
NO_MEMORY = (
    "{path}: there is not enough memory for this block ({error}). Use fewer workers, or a smaller "
    "chunk_size, or allow more memory (ulimit -v, the limit of the container or of the batch job)."
)


@dataclass(frozen=True)
class BlockPairs:
    """Outcome of the per-block stage.

    Parameters
    ----------
    path : Path
        The block file.
    status : {"ok", "failed", "excluded", "empty"}
        ``failed``: nothing could be made of it; ``excluded``: sound, but not with the others;
        ``empty``: sound, and there is no shower in it.
    reason : str
        Why not ``ok``.
    digest, data_model : str
        Hash of the content and version of the data model, as far as known.
    obs_ids : tuple of int
        Observations in the file.
    subarray : Subarray or None
        Its telescopes.
    entry : Entry or None
        Its cached ROWS, PAIRS or STAMPS.
    cached : bool
        Whether they had been there already.
    companion : BlockPairs or None
        The same block for the inter-calibration that a calibration starts from.
    wrong_request : bool
        Whether the configuration is the reason, and not the file.
    repeats : Repeats
        Its rows of which other blocks have the same key.
    other_scale : str
        How its values differ from those of the other blocks, if by more than any sky could.
    """

    path: Path
    status: Literal["ok", "failed", "excluded", "empty"]
    reason: str = ""
    digest: str = ""
    data_model: str = ""
    obs_ids: tuple[int, ...] = ()
    subarray: Subarray | None = None
    entry: Entry | None = None
    cached: bool = False
    companion: BlockPairs | None = None
    wrong_request: bool = False
    repeats: Repeats = field(default_factory=Repeats)
    other_scale: str = ""

    @property
    def n_events(self) -> int:
        """Telescope events read."""
        return int(self.entry.summary["n_events"]) if self.entry else 0

    @property
    def n_pairs(self) -> int:
        """Pairs that its rows form."""
        return int(self.entry.summary["n_pairs"]) if self.entry else 0

    @property
    def n_rows(self) -> int:
        """Cached rows."""
        # What is made of something else than a block file has one row for each pair.
        return int(self.entry.summary.get("n_rows", self.n_pairs)) if self.entry else 0

    @property
    def notes(self) -> list[tuple[str, str]]:
        """What a reader must know about the selection: topic and text."""
        notes = self.entry.summary.get("notes", []) if self.entry else []
        return [(topic, text) for topic, text in notes]

    @property
    def remarks(self) -> list[str]:
        """What speaks against using the block as it is."""
        found = self.entry.summary.get("remarks", []) if self.entry else []
        said = (self._nothing_left, self.other_scale)
        return [*found, *self.repeats.remarks, *filter(None, said)]

    @property
    def _nothing_left(self) -> str:
        """What took all rows of a block that had some; empty if there are rows."""
        if self.n_rows or not self.n_events:
            return ""
        taken = self.rejected.filter(pl.col("rows") > 0).select("rule", "rows")
        rules = ", ".join(f"{rule}: {n:,}" for rule, n in taken.iter_rows())
        return f"none of {self.n_events:,} telescope events can be compared ({rules})"

    @property
    def untested(self) -> list[str]:
        """What the file does not allow to test."""
        return list(self.entry.summary.get("untested", [])) if self.entry else []

    @property
    def first_event(self) -> int:
        """Id of the first event in use; -1 without one."""
        return int(self.entry.summary.get("first_event", -1)) if self.entry else -1

    def windows(
        self, schema: pl.Schema | None = None, columns: Sequence[str] | None = None
    ) -> Frames:
        """Rows of complete showers, window by window, without those that `repeats` leaves out.

        All columns of them, or only those that are named; the keys must be among these.
        """
        if self.entry is None:
            return
        for rows in self.entry.windows(schema, columns):
            yield self.repeats.without(rows)

    @property
    def saturation(self) -> list[Saturation]:
        """Telescopes of which images are saturated."""
        found = self.entry.summary.get("saturation", []) if self.entry else []
        return [Saturation(*item) for item in found]

    @property
    def rejected(self) -> pl.DataFrame:
        """LEFT_OUT rows of the block."""
        rows = self.entry.summary["rejected"] if self.entry else []
        # What is made of something else than a block file has no examples.
        full = [(*row, "")[: len(LEFT_OUT)] for row in (*rows, *self.repeats.rejected)]
        return pl.DataFrame(full, schema=LEFT_OUT, orient="row")

    @property
    def participation(self) -> pl.DataFrame:
        """PARTICIPATION of the telescopes of the block."""
        rows = self.entry.summary.get("participation", []) if self.entry else []
        return pl.DataFrame(rows, schema=PARTICIPATION, orient="row")


class RowWindows(Protocol):
    """Yields the rows of a block, window by window, and leaves what it found in `summary`."""

    def __call__(
        self, block: dl2.Block, summary: dict[str, Any], door: Door, *, stream: bool
    ) -> Frames:
        """`stream` is false when the whole file is to be sorted first."""


def cached_block(
    path: Path,
    cache_root: Path,
    decisive: Mapping[str, Any],
    windows: RowWindows,
) -> BlockPairs:
    """Make, or find in the cache, the rows of one block.

    Parameters
    ----------
    path : Path
        The block file.
    cache_root : Path
        Folder of cached rows.
    decisive : mapping
        The part of the configuration that decides the rows.
    windows : RowWindows
        Makes the rows. A file that is out of order is read again, not streamed.

    Returns
    -------
    BlockPairs
        A file that cannot be used is a result with its reason, not an exception.

    Raises
    ------
    OSError
        If the cache cannot be written: infrastructure, not the block's fault.
    """
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
        key = cache.key(failed.digest, decisive)
        entry = cache.load(key)
        cached = entry is not None
        entry = entry or _stored(cache, key, block, windows, before)
        return replace(failed, status="ok", entry=entry, cached=cached)
    except NothingToDo as error:
        return replace(failed, status="empty", reason=str(error))
    except MemoryError as error:
        return replace(failed, reason=NO_MEMORY.format(path=path, error=error))
    except (ArraycalError, ConfigurationError) as error:
        reason = str(error) if str(path) in str(error) else f"{path}: {error}"
        return replace(failed, reason=reason, wrong_request=_is_wrong_request(error))


def _is_wrong_request(error: ArraycalError | ConfigurationError) -> bool:
    """Whether no file could make up for what was asked for."""
    if isinstance(error, CriterionError):
        return not isinstance(error, UnknownColumn)
    return isinstance(error, ConfigurationError | WrongUsage)


def _stored(
    cache: PairCache,
    key: str,
    block: dl2.Block,
    windows: RowWindows,
    before: tuple[int, int],
) -> Entry:
    for stream in (True, False):
        summary: dict[str, Any] = {}
        rows = _through_door(block, windows, summary, stream=stream)
        rows = _unless_changed(rows, block.path, before)
        try:
            return cache.store(key, rows, summary)
        except dl2.UnsortedRows:
            if not stream:
                raise
    raise AssertionError


def _through_door(
    block: dl2.Block, windows: RowWindows, summary: dict[str, Any], *, stream: bool
) -> Frames:
    """Pass windows on; leave in `summary` what reading the block brought to light."""
    with hdf5.open_file(block.path) as file:
        door = open_door(file, block.path, block.obs_ids)
    for rows in windows(block, summary, door, stream=stream):
        if len(rows):
            summary.setdefault("first_event", int(rows["event_id"][0]))
        yield rows
    found, array = door.findings, block.subarray
    names = {
        tel_id: f"{kind} {tel_id}" for tel_id, kind in zip(array.tel_ids, array.types, strict=True)
    }
    notes = [list(note) for note in found.notes()]
    summary.update(
        notes=[*summary.get("notes", []), *notes],
        remarks=found.remarks(names),
        untested=found.untested,
    )


def _state(path: Path) -> tuple[int, int]:
    """Size and modification time, which change when a file is written to."""
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _unless_changed(windows: Frames, path: Path, before: tuple[int, int]) -> Frames:
    """Pass windows on; raise at the end if the file was written to while it was read."""
    yield from windows
    if _state(path) != before:
        raise CannotCompute(
            f"{path}: the file changed while it was read. Wait until it is complete and run again."
        )


def select_blocks(blocks: Sequence[BlockPairs]) -> list[BlockPairs]:
    """Exclude blocks that do not go together with the others.

    The array of most blocks is the array of the night; a block with another one is excluded.

    Parameters
    ----------
    blocks : sequence of BlockPairs
        In any order.

    Returns
    -------
    list of BlockPairs
        All of them, ordered by observation, first event and path, some now ``excluded``.
    """
    ordered = sorted(blocks, key=lambda block: (block.obs_ids, block.first_event, str(block.path)))
    usual = _usual_array(ordered)
    result = []
    for block in ordered:
        reason = _misfit(block, usual) if block.status == "ok" else ""
        result.append(replace(block, status="excluded", reason=reason) if reason else block)
    return _compared(result)


def _compared(blocks: list[BlockPairs]) -> list[BlockPairs]:
    """Tell blocks whose values are on another scale than those of most: another unit."""
    scale = {
        number: float(block.entry.summary["mean_log_value"])
        for number, block in enumerate(blocks)
        if block.status == "ok" and block.entry and "mean_log_value" in block.entry.summary
    }
    if not scale:
        return blocks
    # Of two nobody knows which is wrong: what is told holds for both.
    usual = sorted(scale.values())[(len(scale) - 1) // 2]
    return [
        replace(block, other_scale=OTHER_SCALE.format(factor=math.exp(scale[number] - usual)))
        if abs(scale.get(number, usual) - usual) > math.log(SAME_SCALE)
        else block
        for number, block in enumerate(blocks)
    ]


#: Factor between the mean values of blocks that no zenith angle, weather or gain explains.
SAME_SCALE = 30.0
OTHER_SCALE = (
    "its values are {factor:.3g} times those of the other blocks: are they in another unit? "
    "Correct the files, or calibrate without the wrong ones"
)


def without_repeats(blocks: Sequence[BlockPairs]) -> list[BlockPairs]:
    """Tell blocks which of their rows do not count, as other blocks have them.

    Parameters
    ----------
    blocks : sequence of BlockPairs
        In order; of equal rows those of the first block count.

    Returns
    -------
    list of BlockPairs
        All of them; one that has nothing of its own is now ``excluded``.
    """
    used = [number for number, block in enumerate(blocks) if block.status == "ok" and block.entry]
    entries = [entry for number in used if (entry := blocks[number].entry)]
    repeats = find_repeats(entries, [blocks[number].obs_ids for number in used])
    result = list(blocks)
    for number, found in zip(used, repeats, strict=True):
        block = result[number] = replace(blocks[number], repeats=found)
        if found.n_copies and found.n_copies == block.n_rows:
            others = [b.path for b in blocks[:number] if set(b.obs_ids) & set(block.obs_ids)]
            reason = (
                f"{block.path}: all its rows of obs_id {_ids(block)} are already in {others[0]}"
            )
            result[number] = replace(block, status="excluded", reason=reason)
    return result


class UsableBlocks(NamedTuple):
    """The blocks of a calibration that go together.

    Parameters
    ----------
    blocks : list of BlockPairs
        Those in use.
    subarray : Subarray
        Their array.
    tables : dict
        What every result says of the blocks: ``blocks``, ``rejected``, ``obs_ids``.
    """

    blocks: list[BlockPairs]
    subarray: Subarray
    tables: dict[str, Any]


def usable_blocks(blocks: Sequence[BlockPairs]) -> UsableBlocks:
    """Choose the blocks that a calibration is made of.

    Parameters
    ----------
    blocks : sequence of BlockPairs
        All blocks, failed ones included.

    Returns
    -------
    UsableBlocks
        Those that are sound and go together.

    Raises
    ------
    CannotCompute
        If no block is left; the message lists why.
    NothingToDo
        If no block has a shower.
    WrongUsage
        If the configuration is the reason.
    """
    judged = select_blocks(blocks)
    good = [block for block in judged if block.status == "ok" and block.entry]
    if not good:
        reasons = "\n".join(f"  {block.reason}" for block in judged)
        kind = WrongUsage if any(block.wrong_request for block in judged) else CannotCompute
        if judged and all(block.status == "empty" for block in judged):
            raise NothingToDo(f"there is no shower in any of the {len(judged)} blocks:\n{reasons}")
        raise kind(f"none of the {len(judged)} blocks can be used:\n{reasons}")
    subarray = good[0].subarray
    assert subarray is not None  # noqa: S101  a block that is ok has one
    tables = {
        "blocks": block_table(judged),
        "rejected": merge_rejected(block.rejected for block in good),
        "obs_ids": tuple(sorted({unsigned(i) for block in good for i in block.obs_ids})),
    }
    return UsableBlocks(good, subarray, tables)


def _usual_array(blocks: Sequence[BlockPairs]) -> Subarray | None:
    """Return the array of most blocks; of equally many, that of the first block."""
    arrays = [block.subarray for block in blocks if block.status == "ok" and block.subarray]
    if not arrays:
        return None
    identities = [array.identity for array in arrays]
    return arrays[identities.index(Counter(identities).most_common(1)[0][0])]


def _misfit(block: BlockPairs, usual: Subarray | None) -> str:
    """Why a sound block does not go with the others; empty if it does."""
    difference = usual.difference(block.subarray) if usual and block.subarray else None
    if difference is None:
        return ""
    return f"{block.path}: another array than the other blocks, {difference}"


def _ids(block: BlockPairs) -> str:
    return " ".join(str(unsigned(obs_id)) for obs_id in block.obs_ids)


def block_table(blocks: Sequence[BlockPairs]) -> pl.DataFrame:
    """Return the blocks as a table of schema ``arraycal.calib.result.result.BLOCKS``."""
    rows = [
        (
            str(block.path),
            block.status,
            block.reason,
            _ids(block),
            block.data_model,
            block.digest,
            block.n_events,
            block.n_pairs,
            block.cached,
        )
        for block in blocks
    ]
    return pl.DataFrame(rows, schema=BLOCKS, orient="row")
