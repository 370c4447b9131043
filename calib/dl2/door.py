"""The door of a block: which rows of its tables are of showers at all, judged once.

Reads the trigger table of the array before any other, and tells of each row of any table whether
it may pass: what is no shower may not (flat fields, pedestals, whatever their ids), nor what the
trigger table contradicts itself about, nor a row of a telescope that did not trigger. Ids out of
range are refused, but only those of showers. It also counts how many rows every table should have
in each part of the block.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib import hdf5
from arraycal.calib.dl2.completeness import N_PARTS, find_shortfall
from arraycal.calib.dl2.findings import (
    CONTRADICTION,
    MISPLACED,
    NO_SHOWER,
    UNTRIGGERED,
    Findings,
    example,
)
from arraycal.calib.dl2.numbering import Numbering, out_of_range
from arraycal.calib.dl2.pattern import Pattern
from arraycal.calib.dl2.repeated import among, split_repeated
from arraycal.calib.dl2.telescope_types import SHOWER_EVENT, OtherTypes, read_other_types
from arraycal.calib.errors import NothingToDo

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Any

    import numpy.typing as npt

    from arraycal.calib.dl2.completeness import Shortfall

    Bools = npt.NDArray[np.bool_]
    Keys = npt.NDArray[np.int64]
    Rows = npt.NDArray[Any]

__all__ = [
    "Door",
    "note_shortfalls",
    "open_door",
    "short_table_name",
]

TRIGGER = "/dl1/event/subarray/trigger"
LAYOUT = "/configuration/instrument/subarray/layout"

ID_PAIR = np.dtype([("obs_id", np.int64), ("event_id", np.int64)])
NO_KEYS: Keys = np.empty(0, np.int64)

NO_TYPES = "whether all events are showers: the trigger table has no event_type"
NO_TRIGGERS = (
    "whether rows of telescopes are missing, or of events in which they did not trigger: the "
    "trigger table does not say which telescopes triggered (tels_with_trigger)"
)


@dataclass(frozen=True)
class Door:
    """What the trigger table says of the showers of a block.

    Parameters
    ----------
    numbering : Numbering
        Numbers of the showers.
    findings : Findings
        Filled while the block is read.
    no_showers, contradicted : array of int64
        Numbers of events that are no showers, and of those with unequal rows; sorted.
    strangers : structured array of obs_id and event_id
        Events that are no showers and have no number, as their id is out of range.
    showers : array of int64
        Numbers of all events of the table; sorted. Empty when there is no table.
    edges : array of int64, shape (n_parts,)
        First shower of each part of the block; empty when nothing is known.
    triggers : dict of int or None to array, shape (n_parts,)
        Triggers by telescope; those of the array under None.
    pattern : Pattern or None
        Telescopes of every shower; None when the table does not say.
    other_types : OtherTypes
        Events that are no showers for one telescope.
    """

    numbering: Numbering
    findings: Findings = field(default_factory=Findings)
    no_showers: Keys = field(default_factory=lambda: NO_KEYS)
    contradicted: Keys = field(default_factory=lambda: NO_KEYS)
    strangers: Rows = field(default_factory=lambda: np.empty(0, ID_PAIR))
    showers: Keys = field(default_factory=lambda: NO_KEYS)
    edges: Keys = field(default_factory=lambda: NO_KEYS)
    triggers: dict[int | None, npt.NDArray[np.int64]] = field(default_factory=dict)
    pattern: Pattern | None = None
    other_types: OtherTypes = field(default_factory=OtherTypes)

    def admit(self, rows: Rows, table: hdf5.Table) -> tuple[Keys, dict[str, Bools]]:
        """Number the showers of table rows, and tell which may pass.

        Returns
        -------
        keys : array of int64
            Numbers of the rows that may pass.
        refused : dict of str to array of bool, shape (n_rows,)
            Which rows may not, by the rule that says so; no row by two of them.

        Raises
        ------
        CannotCompute
            If the id of an event that may be a shower is out of range.
        """
        stranger = np.zeros(len(rows), np.bool_)
        if self.strangers.size:
            outside = np.flatnonzero(out_of_range(rows["event_id"]))
            stranger[outside] = np.isin(_pairs(rows[outside]), self.strangers)
        numbered = rows[~stranger] if stranger.any() else rows
        keys = self.numbering.keys(numbered, table)
        found = {
            NO_SHOWER: among(keys, self.no_showers),
            CONTRADICTION: among(keys, self.contradicted),
            UNTRIGGERED: self._unknown(keys),
        }
        if "tel_id" in table.columns:
            # Only showers have a pattern, so that no row is refused twice.
            if self.pattern is not None:
                found[MISPLACED] = self.pattern.lacks(keys, numbered["tel_id"])
            others = self.other_types.has(keys, numbered["tel_id"])
            found[NO_SHOWER] |= others & ~np.any(list(found.values()), axis=0)
        passes = ~np.any(list(found.values()), axis=0)
        if stranger.any():
            found = {rule: _spread(which, ~stranger) for rule, which in found.items()}
            found[NO_SHOWER] |= stranger
        return (keys if passes.all() else keys[passes]), found

    def _unknown(self, keys: Keys) -> Bools:
        """Which showers are in no row of the trigger table; none where there is no table."""
        return ~among(keys, self.showers) if self.showers.size else np.zeros(len(keys), np.bool_)

    def parts_of(self, keys: Keys, there: Bools) -> npt.NDArray[np.int64]:
        """Count ascending shower numbers by part of the block, those that are `there`."""
        total = np.append(0, np.cumsum(there))
        cuts = np.append(np.searchsorted(keys, self.edges), len(keys))
        cuts[:1] = 0
        return np.asarray(np.diff(total[cuts]))

    def lose(self, rule: str, rows: Rows, tel_id: int | None) -> None:
        """Count table rows that may not pass."""
        if len(rows):
            one = example(int(rows["obs_id"][0]), int(rows["event_id"][0]), tel_id)
            self.findings.lose(rule, len(rows), one)

    def lose_refused(self, refused: dict[str, Bools], rows: Rows, tel_id: int | None) -> None:
        """Count what `admit` refused, by rule."""
        for rule, which in refused.items():
            if which.any():
                self.lose(rule, rows[which], tel_id)

    def note_misplaced(self, label: str, refused: dict[str, Bools], rows: Rows) -> None:
        """Count rows of a table by telescope, and those of events in which it did not trigger."""
        which = refused.get(MISPLACED)
        if which is None or not len(rows):
            return
        for tel_id in np.unique(rows["tel_id"]).tolist():
            own = rows["tel_id"] == tel_id
            wrong = rows[own & which]
            one = (
                example(int(wrong["obs_id"][0]), int(wrong["event_id"][0]), tel_id)
                if len(wrong)
                else ""
            )
            self.findings.misplace(label, tel_id, len(wrong), int(own.sum()), one)

    def named(self, key: int, tel_id: int | None = None) -> str:
        """Name a row of a shower."""
        obs_id, event_id = (int(ids[0]) for ids in self.numbering.ids(np.array([key])))
        return example(obs_id, event_id, tel_id)


def open_door(file: hdf5.File, path: Path, obs_ids: tuple[int, ...]) -> Door:
    """Read the trigger table of a block.

    Parameters
    ----------
    file : hdf5.File
        The open file.
    path : Path
        Where it is.
    obs_ids : tuple of int
        Its observations, in the order of their rows.

    Returns
    -------
    Door
        Without a trigger table everything may pass.

    Raises
    ------
    NothingToDo
        If there is no shower in the block.
    CannotCompute
        If the table is damaged, or the id of a shower is out of range.
    """
    numbering = Numbering(path, obs_ids)
    table = hdf5.find_table(file, TRIGGER, path)
    types = read_other_types(file, path, numbering)
    if table is None:
        untested = [NO_TYPES, NO_TRIGGERS]
        return Door(numbering, Findings(untested=untested), other_types=types)
    table.require("obs_id", "event_id")
    layout = hdf5.require_table(file, LAYOUT, path).read()["tel_id"].tolist()
    found = _Triggers(table, numbering, layout)
    found.read()
    if not len(found.keys):
        other = f"; its {found.n_others:,} events are of other types" if found.n_others else ""
        raise NothingToDo(f"{path}: no shower in it{other}.")
    return found.door(types)


class _Triggers:
    """Rows of the trigger table: numbers of the showers, telescopes as packed bits."""

    def __init__(self, table: hdf5.Table, numbering: Numbering, layout: list[int]) -> None:
        self.table, self.numbering, self.layout = table, numbering, layout
        self.has_types = "event_type" in table.columns
        mask = table.dtype["tels_with_trigger"] if "tels_with_trigger" in table.columns else None
        self.has_mask = mask is not None and mask.shape == (len(layout),)
        self.keys, self.others, self.masks = NO_KEYS, NO_KEYS, np.empty((0, 0), np.uint8)
        self.strangers = np.empty(0, ID_PAIR)
        self.n_others = 0

    def read(self) -> None:
        """Read the table, front to back."""
        keys, others, strangers, masks = [self.keys], [self.others], [self.strangers], []
        for rows in self.table.portions():
            shower = self._is_shower(rows)
            rest = rows[~shower]
            outside = out_of_range(rest["event_id"])
            strangers.append(np.unique(_pairs(rest[outside])))
            others.append(self.numbering.keys(rest[~outside], self.table))
            keys.append(self.numbering.keys(rows[shower], self.table))
            self.n_others += len(rest)
            if self.has_mask:
                masks.append(np.packbits(rows["tels_with_trigger"][shower] != 0, axis=1))
        self.keys, self.others = np.concatenate(keys), np.unique(np.concatenate(others))
        self.strangers = np.unique(np.concatenate(strangers))
        if masks:
            self.masks = np.concatenate(masks)
        # A pattern that nobody filled in says nothing.
        self.has_mask &= bool(self.masks.any())

    def _is_shower(self, rows: Rows) -> Bools:
        if self.has_types:
            return np.asarray(rows["event_type"] == SHOWER_EVENT)
        return np.ones(len(rows), np.bool_)

    def door(self, types: OtherTypes) -> Door:
        """Judge what was read, given what is no shower for single telescopes."""
        untested = [
            *([] if self.has_types else [NO_TYPES]),
            *([] if self.has_mask else [NO_TRIGGERS]),
        ]
        findings = Findings(untested=untested)
        order = np.argsort(self.keys, kind="stable")
        keys = self.keys[order]
        first = np.diff(keys, prepend=keys[0] - 1) > 0
        showers = keys[first]
        contradicted = self._contradicted(keys[~first])
        # Most files have nothing but showers, and a union hashes all of them: 0.2 s per 1e6.
        if self.others.size:
            contradicted = np.union1d(contradicted, np.intersect1d(showers, self.others))
            showers = np.union1d(showers, self.others)
        kept = first & ~among(keys, contradicted)
        door = Door(
            self.numbering,
            findings,
            no_showers=np.setdiff1d(self.others, contradicted),
            contradicted=contradicted,
            strangers=self.strangers,
            showers=showers,
            edges=_edges(keys[kept]),
            pattern=self._pattern(keys[kept], order[kept]),
            other_types=types,
        )
        copies = ~first & ~among(keys, contradicted)
        findings.copies[short_table_name(TRIGGER)] += int(np.count_nonzero(copies))
        if contradicted.size:
            one = door.named(int(contradicted[0]))
            findings.contradict(short_table_name(TRIGGER), None, len(contradicted), one)
        door.triggers[None] = door.parts_of(keys[kept], np.ones(int(kept.sum()), np.bool_))
        for tel_id, triggered in door.pattern.telescopes() if door.pattern else ():
            seen = triggered & ~types.has(keys[kept], np.full(len(triggered), tel_id))
            door.triggers[tel_id] = door.parts_of(keys[kept], seen)
        return door

    def _pattern(self, showers: Keys, places: npt.NDArray[np.intp]) -> Pattern | None:
        return Pattern(showers, self.masks[places], self.layout) if self.has_mask else None

    def _contradicted(self, repeated: Keys) -> Keys:
        """Of the showers with several rows, those whose rows are unequal."""
        if not repeated.size:
            return NO_KEYS
        again, parts = np.unique(repeated), []
        for portion in self.table.portions():
            showers = portion[self._is_shower(portion)]
            parts.append(showers[among(self.numbering.keys(showers, self.table), again)])
        rows = np.concatenate(parts)
        keys = self.numbering.keys(rows, self.table)
        order = np.argsort(keys, kind="stable")
        return np.unique(split_repeated(keys[order], rows[order])[1])


def note_shortfalls(
    door: Door, tables: Iterable[tuple[str, int | None, npt.NDArray[np.int64]]]
) -> None:
    """Note the tables in which rows are missing for a part of the block.

    Parameters
    ----------
    door : Door
        Has the triggers; its findings get the note.
    tables : iterable of (str, int or None, array of shape (n_parts,))
        Name, telescope (None for one of showers), and rows with a number in each part.
    """
    for label, tel_id, rows in tables:
        triggers = door.triggers.get(tel_id)
        found = None if triggers is None else find_shortfall(rows, triggers)
        if found is not None:
            door.findings.fall_short(label, tel_id, _described(door, found))


def _described(door: Door, found: Shortfall) -> str:
    begin = door.named(int(door.edges[found.first]))
    text = f"{found.rows:,} of {found.triggers:,} triggers from {begin}"
    if found.stop < len(door.edges):
        text += f" to before {door.named(int(door.edges[found.stop]))}"
    return f"{text}, {found.share_elsewhere:.0%} elsewhere"


def short_table_name(group: str) -> str:
    """Name of a table or of a group of tables in a sentence.

    Examples
    --------
    >>> short_table_name("/dl2/event/telescope/energy/RandomForestRegressor")
    'energy/RandomForestRegressor'
    """
    return "/".join(group.split("/")[-2:])


def _edges(keys: Keys) -> Keys:
    """First showers of parts with about as many showers each."""
    if not len(keys):
        return NO_KEYS
    places = np.arange(min(N_PARTS, len(keys))) * len(keys) // min(N_PARTS, len(keys))
    return keys[places]


def _spread(which: Bools, places: Bools) -> Bools:
    """Flags of some rows as flags of all."""
    found = np.zeros(len(places), np.bool_)
    found[places] = which
    return found


def _pairs(rows: Rows) -> Rows:
    pairs = np.empty(len(rows), ID_PAIR)
    pairs["obs_id"], pairs["event_id"] = rows["obs_id"].astype(np.int64), rows["event_id"]
    return pairs
