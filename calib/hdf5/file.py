"""A file of tables, opened for reading, and what is in it."""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import h5py
import hdf5plugin  # noqa: F401  registers the blosc filter, without which no table can be read

from arraycal.calib.disk.files import kind_of_file
from arraycal.calib.errors import BeingWritten, CannotCompute, DamagedFile
from arraycal.calib.hdf5.elsewhere import refuse_links_elsewhere, refuse_rows_elsewhere
from arraycal.calib.hdf5.table import DAMAGE, NO_TABLE, Table, attribute_text, is_table, sound
from arraycal.calib.subarray import MAX_TEL_ID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


__all__ = [
    "File",
    "child_names",
    "find_table",
    "first_telescope_table",
    "has_table",
    "is_being_written",
    "open_file",
    "refuse_array_elsewhere",
    "require_table",
    "root_attribute",
    "telescope_tables",
]

#: So that no other module needs h5py, not even for annotations.
File = h5py.File

TELESCOPE_TABLE = re.compile(r"tel_(\d{3,})$")
#: Largest file: a night of the largest array, with its images, is a hundredth of it.
MAX_FILE_BYTES = 1 << 40


@contextmanager
def open_file(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Parameters
    ----------
    path : Path
        The file.

    Yields
    ------
    h5py.File
        The open file, without a chunk cache (tables are scanned once).

    Raises
    ------
    BeingWritten
        If another program has it open for writing.
    CannotCompute
        If the file is missing, empty, truncated or not HDF5, or a part of it lies in another file;
        the message says which.

    Notes
    -----
    No lock is held: some file systems have none, and a file that changes while it is read is
    noticed by who reads it.
    """
    if not path.is_file():
        raise CannotCompute(
            f"{path}: expected a DL2 HDF5 file, found {kind_of_file(path)}. Check the path."
        )
    size = path.stat().st_size
    if size == 0:
        raise CannotCompute(
            f"{path}: the file is empty (0 bytes). It was probably never written; produce it again."
        )
    if size > MAX_FILE_BYTES:
        raise CannotCompute(
            f"{path}: the file is {size:,} bytes long, expected at most {MAX_FILE_BYTES:,}. "
            "Split it, or produce it again."
        )
    if is_being_written(path):
        raise BeingWritten(
            f"{path}: the file is being written, another program has it open for writing. "
            "Wait until that has ended, and run again."
        )
    try:
        file = h5py.File(path, "r", rdcc_nbytes=0, locking=False)
    except DAMAGE as error:
        reason = "truncated" if "truncated" in str(error) else "not a readable HDF5 file"
        raise CannotCompute(f"{path}: {reason} ({error}). Copy or produce it again.") from error
    with file:
        with sound(path, "the list of its objects"):
            refuse_links_elsewhere(file, path)
        yield file


def is_being_written(path: Path) -> bool:
    """Whether another program has a file open for writing, as HDF5 marks it.

    False where that cannot be told: on a file system without locks, or of a file that cannot be
    opened.
    """
    try:
        # For a moment only: the lock must not keep a writer from its file.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    else:
        return False
    finally:
        os.close(handle)


def refuse_array_elsewhere(file: h5py.File, name: str, path: Path) -> None:
    """Raise if an array that somebody else will read is none of this file; None need be there."""
    with sound(path, name):
        node = file.get(name)
        if isinstance(node, h5py.Dataset):
            refuse_rows_elsewhere(node.id.get_create_plist(), name, path)


def has_table(file: h5py.File, name: str, path: Path) -> bool:
    """Tell whether there is a table called `name`, and not something else or nothing."""
    with sound(path, name):
        node = file.get(name)
        if node is None:
            _refuse_dead_end(file, name, path)
        if not isinstance(node, h5py.Dataset):
            return False
        refuse_rows_elsewhere(node.id.get_create_plist(), name, path)
        return is_table(node.id.get_type(), node.id.get_space())


def find_table(file: h5py.File, name: str, path: Path) -> Table | None:
    """Return the table called `name`, or None when the file has nothing there."""
    with sound(path, name):
        try:
            # The short way: looking a path up in h5py costs as much as reading a small table.
            dataset = h5py.h5d.open(file.id, name.encode())
        except (KeyError, ValueError):
            node = file.get(name)
            if node is None:
                _refuse_dead_end(file, name, path)
                return None
            if not isinstance(node, h5py.Dataset):
                raise CannotCompute(NO_TABLE.format(path, name)) from None
            dataset = node.id
    return Table(dataset, name, path)


def require_table(file: h5py.File, name: str, path: Path) -> Table:
    """Return the table called `name`.

    Raises
    ------
    CannotCompute
        If it is absent; the message lists what its parent group holds instead.
    """
    table = find_table(file, name, path)
    if table is not None:
        return table
    with sound(path, name):
        parent = name.rstrip("/").rpartition("/")[0] or "/"
        while parent not in file:
            parent = parent.rpartition("/")[0] or "/"
    siblings = ", ".join(child_names(file, parent, path)) or "nothing"
    raise CannotCompute(f"{path}: table {name} is missing; {parent} holds: {siblings}.")


def child_names(file: h5py.File, group: str, path: Path) -> list[str]:
    """Names of what a group holds; empty when there is no such group."""
    with sound(path, group):
        node = file.get(group)
        if node is None:
            _refuse_dead_end(file, group, path)
        return [attribute_text(name) for name in node] if isinstance(node, h5py.Group) else []


def _refuse_dead_end(file: h5py.File, name: str, path: Path) -> None:
    """Raise if a group on the way to `name` lists what cannot be opened: damaged, not absent."""
    group, here = file["/"], ""
    for part in name.strip("/").split("/"):
        if not isinstance(group, h5py.Group) or part not in map(attribute_text, group):
            return
        here += f"/{part}"
        group = file.get(here)
        if group is None:
            raise DamagedFile(
                f"{path}: {here} leads nowhere, the file is damaged. Copy or produce it again."
            )


def first_telescope_table(file: h5py.File, group: str, path: Path) -> Table | None:
    """Return the table ``tel_XXX`` of the lowest id in a group, or None when there is none."""
    names = [name for name in child_names(file, group, path) if TELESCOPE_TABLE.match(name)]
    return require_table(file, f"{group}/{min(names)}", path) if names else None


def telescope_tables(file: h5py.File, group: str, path: Path) -> dict[int, Table]:
    """Tables ``tel_XXX`` of a group, by telescope id; empty when the group is absent.

    Raises
    ------
    CannotCompute
        If the group holds anything else, which would vanish silently.
    """
    # PyTables keeps its indices under names with an underscore.
    names = [name for name in child_names(file, group, path) if not name.startswith("_")]
    strange = [name for name in names if not TELESCOPE_TABLE.match(name)]
    if strange:
        raise CannotCompute(
            f"{path}: {group} holds {', '.join(strange)}; "
            "expected one table per telescope (tel_XXX)."
        )
    found = {int(match[1]): name for name in names if (match := TELESCOPE_TABLE.match(name))}
    if found and max(found) > MAX_TEL_ID:
        raise CannotCompute(
            f"{path}: {group} holds {found[max(found)]}; telescope ids must be 0 to {MAX_TEL_ID}."
        )
    return {
        tel_id: require_table(file, f"{group}/{name}", path)
        for tel_id, name in sorted(found.items())
    }


def root_attribute(file: h5py.File, name: str, path: Path) -> str:
    """Text of an attribute of the whole file; empty when it is absent."""
    with sound(path, f"attribute {name}"):
        return attribute_text(file.attrs.get(name, ""))
