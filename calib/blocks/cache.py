"""Rows of a block, kept on disk and reused only when they are provably still right.

An entry is a folder named after a hash of the file's content, the options that decide its rows and
the schema. It holds one Parquet file per window of complete showers and a manifest with the hash
of each. It appears by a single rename, so it is complete or absent; whatever does not match its
manifest (deleted, damaged, half-copied) counts as absent and is computed again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import polars as pl

from arraycal.calib.disk.files import file_digest
from arraycal.calib.disk.locks import exclusive, is_abandoned, marked_alive
from arraycal.calib.disk.naming import naming
from arraycal.calib.schema import SCHEMA_ID, pairs_with, rows_with

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["ROW_TABLE", "Entry", "PairCache"]

#: What a summary says under "table" where the rows are ROWS; without it they are PAIRS.
ROW_TABLE = "rows"

MANIFEST = "manifest.json"
DIGESTS = "digests"
#: Older time stamps are trusted to tell a later change; file systems count in up to 2 s.
SETTLED_NS = 3_000_000_000
LOCK, SCRATCH = ".lock", ".tmp"
PUBLISH_ATTEMPTS = 3


@dataclass(frozen=True)
class Entry:
    """A complete cache entry.

    Parameters
    ----------
    folder : Path
        Where it is.
    parts : tuple of str
        Parquet files, each with the rows of complete showers.
    summary : dict
        What the writer wanted to remember beside the rows (counts, rejected rows).
    """

    folder: Path
    parts: tuple[str, ...]
    summary: dict[str, Any]

    @property
    def holds_rows(self) -> bool:
        """Whether it holds ROWS, and not PAIRS."""
        return self.summary.get("table") == ROW_TABLE

    @property
    def schema(self) -> pl.Schema:
        """ROWS or PAIRS, with the columns of the shower that the writer names."""
        with_columns = rows_with if self.holds_rows else pairs_with
        return with_columns(self.summary.get("shower_columns", ()))

    def windows(
        self, schema: pl.Schema | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[pl.DataFrame]:
        """Rows of complete showers, window by window: ROWS, PAIRS, or of another schema.

        All columns of them, or only those that are named.
        """
        wanted = None if columns is None else list(columns)
        for part in self.parts:
            yield pl.read_parquet(self.folder / part, schema=schema or self.schema, columns=wanted)

    def scan(self) -> pl.LazyFrame:
        """All ROWS or PAIRS of the block as a lazy frame."""
        if not self.parts:
            return self.schema.to_frame().lazy()
        return pl.scan_parquet([self.folder / part for part in self.parts], schema=self.schema)


@dataclass(frozen=True)
class PairCache:
    """The entries below one folder.

    Parameters
    ----------
    root : Path
        The folder; created when needed, safe to delete while nobody is at work.
    """

    root: Path

    def digest(self, path: Path) -> str:
        """Hash of a file, remembered as long as its size, times and inode stay the same.

        A change of content that leaves even the change time alone (a clock set back) goes
        unnoticed; restoring the modification time does not deceive it.
        """
        state = _state(path)
        note = self.root / DIGESTS / _text_hash(f"{path.resolve()}|{state}")
        digest = _read_note(note)
        if digest is None:
            digest = file_digest(path)
            # A file that is still being written, or was within the resolution of its time
            # stamps, may yet change without showing it.
            if (
                _state(path) == state
                and time.time_ns() - max(state.mtime_ns, state.ctime_ns) > SETTLED_NS
            ):
                note.parent.mkdir(parents=True, exist_ok=True)
                _write_atomically(note, f"{digest} {_text_hash(note.name + digest)}")
        return digest

    def key(self, digest: str, options: Mapping[str, Any]) -> str:
        """Name of the entry for a file's content under the given options."""
        return _text_hash(json.dumps([SCHEMA_ID, digest, options], sort_keys=True))

    def load(self, key: str) -> Entry | None:
        """Return an entry if it is complete and undamaged, else None."""
        folder = self.root / key[:2] / key
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
            content = manifest["content"]
            if _text_hash(_canonical(content)) != manifest["digest"]:
                return None
            parts = content["parts"]
            intact = all(file_digest(folder / name) == digest for name, digest in parts.items())
            return Entry(folder, tuple(parts), content["summary"]) if intact else None
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            # Unreadable in any way is the same as absent: the rows can be made again.
            return None

    def store(self, key: str, windows: Iterable[pl.DataFrame], summary: dict[str, Any]) -> Entry:
        """Write an entry.

        Parameters
        ----------
        key : str
            From `key`.
        windows : iterable of DataFrame
            Rows of complete showers.
        summary : dict
            JSON-able; read after the last window, so that the writer may fill it on the way.

        Returns
        -------
        Entry
            The new entry, or an equal one that another process finished first.

        Raises
        ------
        OSError
            If the disk is full or read-only; nothing is left behind.
        """
        final = self.root / key[:2] / key
        with _scratch(final) as temporary:
            parts = {}
            for number, frame in enumerate(windows):
                name = f"rows-{number:05d}.parquet"
                _write_part(temporary / name, frame)
                parts[name] = file_digest(temporary / name)
            _write_manifest(temporary / MANIFEST, parts, summary)
            self._publish(temporary, final)
        entry = self.load(key)
        if entry is None:
            raise OSError(f"{final}: the cache entry cannot be read back; is the disk full?")
        return entry

    def _publish(self, temporary: Path, final: Path) -> None:
        # Judging an entry and removing it are two steps: without the lock the second could take
        # away the good entry that another process put there after the first. Where the file
        # system has no locks, that another comes in between is rare, and tried again.
        with exclusive(final.parent / LOCK, brief=True):
            for _ in range(PUBLISH_ATTEMPTS):
                try:
                    temporary.rename(final)
                except OSError:
                    if self.load(final.name) is not None:
                        return  # another process was faster
                    _remove(final)  # damaged
                else:
                    return
            temporary.rename(final)  # fails for a reason of its own


@contextmanager
def _scratch(final: Path) -> Iterator[Path]:
    """A folder beside an entry to write it in; those of writers that were killed go away."""
    folder = final.parent
    with ExitStack() as stack:
        # Within the lock: a folder that is not yet marked would look abandoned.
        with exclusive(folder / LOCK, brief=True):
            for left in filter(is_abandoned, folder.glob(f"*{SCRATCH}")):
                shutil.rmtree(left, ignore_errors=True)
            # Not of `tempfile`, whose folders are for one user: users of a group may share a cache.
            temporary = folder / f"{final.name[:8]}-{uuid4().hex}{SCRATCH}"
            temporary.mkdir()
            stack.callback(shutil.rmtree, temporary, ignore_errors=True)
            stack.enter_context(marked_alive(temporary))
        yield temporary


class _State(NamedTuple):
    """What changes when a file does."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


def _state(path: Path) -> _State:
    found = path.stat()
    return _State(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def _read_note(note: Path) -> str | None:
    """Return the hash in a note, or None unless the note is there and undamaged."""
    try:
        digest, check = note.read_text().split(" ")
    except (OSError, ValueError):
        return None
    return digest if check == _text_hash(note.name + digest) else None


def _write_part(path: Path, frame: pl.DataFrame) -> None:
    try:
        # Per 1e6 ROWS of energy-cross, written, hashed twice and read: 0.26 s and 26 MB; zstd at
        # its lowest level 0.33 s and 21 MB, uncompressed 0.26 s and 69 MB. Nobody asks for the
        # statistics.
        frame.write_parquet(path, compression="lz4", statistics=False)
    except pl.exceptions.ComputeError as error:  # so polars calls a full disk
        raise OSError(f"{path} cannot be written: {error}") from error


def _write_manifest(path: Path, parts: dict[str, str], summary: dict[str, Any]) -> None:
    content = json.loads(json.dumps({"schema": SCHEMA_ID, "parts": parts, "summary": summary}))
    manifest = {"content": content, "digest": _text_hash(_canonical(content))}
    with naming(path):
        path.write_text(json.dumps(manifest, indent=1))


def _canonical(content: Any) -> str:  # noqa: ANN401  any JSON
    return json.dumps(content, sort_keys=True)


def _text_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _remove(path: Path) -> None:
    """Remove a folder, or a file in its place, as far as possible."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f"{uuid4().hex}{SCRATCH}")
    try:
        with naming(path):
            temporary.write_text(text)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
