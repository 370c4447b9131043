"""Changes of simulated block files, as real ones come: other events among them, rows that lack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import hdf5plugin  # noqa: F401  registers the filter of the tables
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    Rows = npt.NDArray[Any]

__all__ = [
    "ARRAY_TRIGGER",
    "change",
    "event_tables",
    "in_telescope",
    "only_events",
    "with_events",
]

ARRAY_TRIGGER = "/dl1/event/subarray/trigger"


def change(path: str | Path, table: str, rule: Callable[[Rows], Rows]) -> None:
    """Replace the rows of a table by what `rule` makes of them."""
    with h5py.File(path, "r+") as file:
        stored = file[table]
        rows = np.ascontiguousarray(rule(stored[:]))
        stored.resize((len(rows),))
        # The file's own type: h5py has no way from its bytes to bit fields.
        stored.id.write(h5py.h5s.ALL, h5py.h5s.ALL, rows, mtype=stored.id.get_type())
        if "NROWS" in stored.attrs:
            stored.attrs["NROWS"] = len(rows)


def event_tables(path: str | Path) -> list[str]:
    """Names of all tables with a row for each event, or for each telescope and event."""
    found: list[str] = []

    def look(name: str, item: object) -> None:
        fields = set(item.dtype.names or ()) if isinstance(item, h5py.Dataset) else set()
        if "/event/" in f"/{name}" and {"obs_id", "event_id"} <= fields:
            found.append(f"/{name}")

    with h5py.File(path) as file:
        file.visititems(look)
    return found


def in_telescope(group: str, tel_id: int) -> str:
    """Name of the table of a telescope."""
    return f"{group}/tel_{tel_id:03d}"


def with_events(
    path: str | Path, n_events: int, *, event_type: int, first_id: int, seed: int
) -> None:
    """Put events of another type among the showers, in every table and with values of their own."""
    ids = first_id + np.arange(n_events)

    def add(rows: Rows) -> Rows:
        more = np.resize(rows, n_events).copy()
        more["event_id"] = ids
        names = rows.dtype.names or ()
        for name in names:
            if name == "event_type":
                more[name] = event_type
            elif name == "hillas_intensity" or name.endswith("_energy"):
                more[name] *= 5.0
        at = np.sort(np.random.default_rng(seed).integers(0, len(rows) + 1, n_events))
        return np.insert(rows, at, more)

    for table in event_tables(path):
        change(path, table, add)


def only_events(path: str | Path, choose: Callable[[Rows], Rows]) -> None:
    """Leave some of the events, by their ids in ascending order."""
    with h5py.File(path) as file:
        wanted = choose(np.unique(file[ARRAY_TRIGGER]["event_id"][:]))
    for table in event_tables(path):
        change(path, table, lambda rows: rows[np.isin(rows["event_id"], wanted)])
