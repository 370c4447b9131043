"""Rows of one observation that are in two files.

Parts of an observation may come in files of their own. An event that is in two of them is judged as
one that is twice in a file: of equal rows one stays; unequal rows contradict each other, and the
event goes as a whole, in all files: two showers have got one number. So they have where the
events are at different times, even if no row of the one has a counterpart. Only the cached rows are
compared, and only those of events that may be in both files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from arraycal.calib.dl2.findings import example

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arraycal.calib.blocks.cache import Entry

__all__ = ["Repeats", "find_repeats"]

#: Keys of rows: ROWS, PAIRS and STAMPS alike.
KEYS = ("obs_id", "event_id", "tel_id", "tel_id_1", "tel_id_2")
EVENT = ("obs_id", "event_id")
#: Difference of times, s, from which on events of one number are different ones: stamps of other
#: telescopes have another middle, by microseconds.
SAME_S = 1e-3
#: Quarter nanoseconds in a second.
QUARTERS_PER_S = 4_000_000_000
#: What a row says of others: it differs where another file has more telescopes of the shower.
OF_OTHERS = "asymmetry"
#: Rows of a shower without a telescope of their own are of pairs.
LEVELS = {True: "pair", False: "telescope event"}
COPY = "copy of a row in another file of the observation"
UNEQUAL = "event that another file of the observation contradicts"


@dataclass(frozen=True)
class Repeats:
    """Rows of a block of which other blocks have the same key.

    Parameters
    ----------
    left_out : DataFrame or None
        Keys of those that do not count.
    n_copies : int
        How many of them are copies of rows that count in another block.
    rejected : tuple of (str, str, int, str)
        The same by rule, schema ``arraycal.calib.schema.LEFT_OUT``.
    remarks : tuple of str
        What speaks against the block.
    """

    left_out: pl.DataFrame | None = None
    n_copies: int = 0
    rejected: tuple[tuple[str, str, int, str], ...] = field(default=())
    remarks: tuple[str, ...] = ()

    def without(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return rows of the block without those that do not count."""
        if self.left_out is None:
            return rows
        keys = self.left_out.columns
        return rows.join(self.left_out, on=keys, how="anti", maintain_order="left")


def find_repeats(entries: Sequence[Entry], obs_ids: Sequence[Sequence[int]]) -> list[Repeats]:
    """Find the rows of blocks that do not count, as other blocks have rows of the same key.

    Parameters
    ----------
    entries : sequence of Entry
        Cached rows of the blocks, in order: of equal rows those of the first block count.
    obs_ids : sequence of sequences of int
        Observations of each block.

    Returns
    -------
    list of Repeats
        One for each block.
    """
    holders: dict[int, list[int]] = {}
    for number, ids in enumerate(obs_ids):
        for obs_id in ids:
            holders.setdefault(obs_id, []).append(number)
    scans = {n: _scan(entries[n]) for group in holders.values() if len(group) > 1 for n in group}
    found: list[list[pl.DataFrame]] = [[] for _ in entries]
    for obs_id, numbers in holders.items():
        held = {number: scan for number in numbers if (scan := scans.get(number)) is not None}
        for (number,), part in _repeated(held, obs_id).group_by("block"):
            found[int(str(number))].append(part)
    return [_judged(parts) if parts else Repeats() for parts in found]


def _scan(entry: Entry) -> pl.LazyFrame | None:
    return pl.scan_parquet([entry.folder / part for part in entry.parts]) if entry.parts else None


def _repeated(scans: dict[int, pl.LazyFrame], obs_id: int) -> pl.DataFrame:
    """Rows of events in several blocks: ``block``, keys, ``torn``, ``copy``."""
    own = {number: scan.filter(pl.col("obs_id") == obs_id) for number, scan in scans.items()}
    event = pl.col("event_id")
    spans = [
        scan.select(event.min().alias("low"), event.max().alias("high")).collect().row(0)
        for scan in own.values()
    ]
    known = [span for span in spans if span[0] is not None]
    nothing = pl.DataFrame(schema={"block": pl.Int64})
    if len(known) <= 1:
        return nothing
    # An event in two files is neither before the second beginning nor after the last end but one.
    low, high = sorted(low for low, _ in known)[1], sorted(high for _, high in known)[-2]
    if low > high:
        return nothing
    rows = pl.concat(
        [_digests(scan.filter(event.is_between(low, high)), n) for n, scan in own.items()]
    )
    keys = [name for name in rows.columns if name in KEYS]
    same_key = pl.col("content").n_unique().over(keys) == 1
    at = pl.col("at").fill_nan(None)
    same_time = (at.max() - at.min() <= SAME_S).over(EVENT).fill_null(value=True)
    return rows.filter(pl.col("block").n_unique().over(EVENT) > 1).select(
        "block",
        *keys,
        (same_key & same_time).not_().any().over(EVENT).alias("torn"),
        (pl.col("block").min().over(keys) != pl.col("block")).alias("copy"),
    )


def _digests(rows: pl.LazyFrame, number: int) -> pl.DataFrame:
    names = rows.collect_schema().names()
    keys = [name for name in names if name in KEYS]
    content = pl.struct(name for name in names if name not in (*KEYS, OF_OTHERS)).hash()
    return rows.select(
        pl.lit(number, pl.Int64).alias("block"),
        *keys,
        content.alias("content"),
        _time_s(names).cast(pl.Float64).alias("at"),
    ).collect()


def _time_s(names: Sequence[str]) -> pl.Expr:
    """Time of an event, of PAIRS or STAMPS."""
    if "shower_s" in names:
        return pl.col("shower_s") + pl.col("shower_quarters") / QUARTERS_PER_S
    return pl.col("time_s") if "time_s" in names else pl.lit(None)


def _judged(parts: Sequence[pl.DataFrame]) -> Repeats:
    rows = pl.concat(parts)
    keys = [name for name in rows.columns if name in KEYS]
    copies = rows.filter(pl.col("copy") & ~pl.col("torn"))
    unequal = rows.filter("torn")
    level = LEVELS["tel_id_1" in keys]
    rejected = [
        (level, rule, len(some), _example(some))
        for rule, some in ((COPY, copies), (UNEQUAL, unequal))
        if len(some)
    ]
    remarks = [
        f"{n:,} of its rows are of events contradicted by another file of the observation, as in "
        f"{one}; these events are left out"
        for _, rule, n, one in rejected
        if rule == UNEQUAL
    ]
    left_out = pl.concat([copies, unequal]).select(keys)
    return Repeats(left_out, len(copies), tuple(rejected), tuple(remarks))


def _example(rows: pl.DataFrame) -> str:
    row = rows.row(0, named=True)
    telescopes = [str(row[name]) for name in KEYS[2:] if name in row]
    return f"{example(row['obs_id'], row['event_id'])}, tel_id {' and '.join(telescopes)}"
