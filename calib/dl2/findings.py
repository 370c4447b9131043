"""What reading a block brings to light: rows left out by rule, with an example of each.

Filled on the way; what must be known of the block beyond its counts becomes remarks (they speak
against the result), notes (they do not), and what could not be tested.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from arraycal.calib.wording import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "CONTRADICTION",
    "MISPLACED",
    "NO_SHOWER",
    "REPEATED",
    "TELESCOPE_LEVEL",
    "UNTRIGGERED",
    "Findings",
    "Loss",
    "example",
    "unsigned",
]

TELESCOPE_LEVEL = "telescope event"
REPEATED = "repeated row"
NO_SHOWER = "no shower event"
UNTRIGGERED = "event without a row in the trigger table"
MISPLACED = "telescope that did not trigger in its event"
CONTRADICTION = "rows of the same key that contradict each other"
#: Part of the rows of a telescope that are of events in which it did not trigger, from which on it
#: speaks against the others, too. Sound files have none.
MISPLACED_SHARE = 0.005
#: Topic of notes on copies.
ROWS = "rows"

K = TypeVar("K")


def example(obs_id: int, event_id: int, tel_id: int | None = None) -> str:
    """Name one row; observations are numbered without sign.

    Examples
    --------
    >>> example(1, 17, 3)
    'obs_id 1, event_id 17, tel_id 3'
    """
    telescope = "" if tel_id is None else f", tel_id {tel_id}"
    return f"obs_id {unsigned(obs_id)}, event_id {event_id}{telescope}"


def unsigned(obs_id: int) -> int:
    """Observation id as files write it: 64 bits without sign, kept here with one."""
    return obs_id % (1 << 64)


class Loss(NamedTuple):
    """Rows that a rule refused, and one of them."""

    rows: int
    example: str


class Misplaced(NamedTuple):
    """Rows of a telescope of events in which it did not trigger, of how many, and one of them."""

    rows: int = 0
    total: int = 0
    example: str = ""


@dataclass
class Findings:
    """Counts and examples, filled while a block is read.

    Attributes
    ----------
    n_rows : int
        Telescope events read, those left out included.
    losses : dict of str to Loss
        What was left out of them, by rule.
    contradictions : dict of (str, int or None) to Loss
        Keys with unequal rows by table and telescope, None for tables with a row per shower.
    misplaced : dict of (str, int) to Misplaced
        Rows by table and telescope, and those of events in which it did not trigger.
    copies : Counter of str
        Equal rows beyond the first, by table.
    shortfalls : list of (str, int or None, str)
        Tables in which rows are missing for a part of the block: name, telescope, description.
    others : list of str
        What else speaks against the block.
    untested : list of str
        What the file does not allow to test.
    """

    n_rows: int = 0
    losses: dict[str, Loss] = field(default_factory=dict)
    contradictions: dict[tuple[str, int | None], Loss] = field(default_factory=dict)
    misplaced: dict[tuple[str, int], Misplaced] = field(default_factory=dict)
    copies: Counter[str] = field(default_factory=Counter)
    shortfalls: list[tuple[str, int | None, str]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    untested: list[str] = field(default_factory=list)

    def lose(self, rule: str, rows: int, one: str) -> None:
        """Count telescope events that are left out."""
        _add(self.losses, rule, rows, one)

    def contradict(self, table: str, tel_id: int | None, keys: int, one: str) -> None:
        """Count keys whose rows are unequal."""
        _add(self.contradictions, (table, tel_id), keys, one)

    def misplace(self, table: str, tel_id: int, rows: int, total: int, one: str) -> None:
        """Count rows of a telescope, and how many are of events in which it did not trigger."""
        before = self.misplaced.get((table, tel_id), Misplaced())
        self.misplaced[table, tel_id] = Misplaced(
            before.rows + rows, before.total + total, before.example or one
        )

    def rejected(self) -> list[tuple[str, str, int, str]]:
        """Rows of schema ``arraycal.calib.schema.LEFT_OUT``."""
        return [(TELESCOPE_LEVEL, rule, *loss) for rule, loss in self.losses.items()]

    def notes(self) -> list[tuple[str, str]]:
        """Copies that were left out of tables, by topic and text."""
        return [
            (ROWS, f"{table}: {n:,} rows are copies of others and count once")
            for table, n in self.copies.items()
            if n
        ]

    def fall_short(self, table: str, tel_id: int | None, text: str) -> None:
        """Note a table in which rows are missing."""
        self.shortfalls.append((table, tel_id, text))

    def remarks(self, names: Mapping[int, str]) -> list[str]:
        """What speaks against using the block as it is; telescopes by their `names`."""
        unequal = [
            (table, tel_id, f"{loss.rows:,} times, as in {loss.example}")
            for (table, tel_id), loss in self.contradictions.items()
        ]
        misplaced = [
            (table, tel_id, f"{found.rows:,} of {found.total:,}, as {found.example}")
            for (table, tel_id), found in self.misplaced.items()
            if found.rows > MISPLACED_SHARE * found.total
        ]
        lost = self.losses.get(UNTRIGGERED)
        return [
            *([UNKNOWN.format(*lost)] if lost else []),
            *_by_table(STRAY, misplaced, names),
            *_by_table(UNEQUAL, unequal, names),
            *_by_table(MISSING_ROWS, self.shortfalls, names),
            *self.others,
        ]


UNKNOWN = (
    "{:,} rows of telescopes are of events that the trigger table does not have, as in {}; they "
    "are left out"
)
STRAY = (
    "rows of {} are of events in which the telescope did not trigger; they are left out, and those "
    "that are left may be of other events or telescopes, too: {}"
)
UNEQUAL = "{} has unequal rows of the same key, all of them left out: {}"
MISSING_ROWS = "rows of {} are missing for a part of the time: {}"


def _by_table(
    sentence: str, found: Iterable[tuple[str, int | None, str]], names: Mapping[int, str]
) -> list[str]:
    """One sentence for each table, naming its telescopes."""
    tables: dict[str, list[str]] = {}
    for table, tel_id, text in found:
        whose = "" if tel_id is None else f"{names.get(tel_id, f'telescope {tel_id}')} "
        tables.setdefault(table, []).append(whose + text)
    return [sentence.format(table, listed(texts)) for table, texts in tables.items()]


def _add(losses: dict[K, Loss], key: K, rows: int, one: str) -> None:
    if rows:
        before = losses.get(key, Loss(0, one))
        losses[key] = Loss(before.rows + rows, before.example)
