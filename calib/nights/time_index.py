"""Observation times of files that were looked at before, so that an archive is opened only once.

The index is a convenience: a lost, damaged or outdated entry costs the opening of one file. Two
processes may write it at the same time; the last one wins, and the file is always whole.
"""

from __future__ import annotations

import json
import os
import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from arraycal.calib.disk.naming import naming
from arraycal.calib.disk.texts import read_json
from arraycal.calib.dl2.observed import observation_start

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TimeIndex"]


class TimeIndex:
    """Observation times by path, remembered as long as size, times and inode stay the same.

    Parameters
    ----------
    path : Path
        File of the index; it need not exist.
    read : callable
        Reads the observation time of a file that is not in the index.
    """

    def __init__(self, path: Path, read: Callable[[Path], datetime] = observation_start) -> None:
        self._path = path
        self._read = read
        self._known = _load(path)
        self._is_changed = False

    def __call__(self, path: Path) -> datetime:
        """Return the observation time of a file.

        Raises
        ------
        CannotCompute
            If the file cannot be read or states no time; that is not remembered.
        """
        state = _state(path)
        entry = self._known.get(str(path))
        if entry is not None and entry[:-1] == state:
            return datetime.fromisoformat(entry[-1])
        moment = self._read(path)
        if _state(path) == state:
            self._known[str(path)] = [*state, moment.isoformat()]
            self._is_changed = True
        return moment

    def save(self) -> None:
        """Write the index if it has changed.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        if not self._is_changed:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._path.parent, suffix=".tmp")
        try:
            with naming(self._path), os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump(self._known, stream)
            Path(name).replace(self._path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
        self._is_changed = False


def _load(path: Path) -> dict[str, list[str]]:
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {name: entry for name, entry in content.items() if _is_entry(entry)}


def _is_entry(entry: object) -> bool:
    if not (isinstance(entry, list) and entry and all(isinstance(item, str) for item in entry)):
        return False
    try:
        return datetime.fromisoformat(entry[-1]).tzinfo is not None
    except ValueError:
        return False


def _state(path: Path) -> list[str]:
    """What changes when a file does; as text, so that JSON keeps every digit."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [str(n) for n in (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)]
