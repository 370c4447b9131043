"""Parts of an HDF5 file that lie in another file: refused before anything of that is opened.

Who may read a file, and whether it has changed, is decided by that file alone. One that leads to
others would take a reader out of the folders that are allowed, and be the same to the cache when
they change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py

from arraycal.calib.errors import CannotCompute

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["refuse_links_elsewhere", "refuse_rows_elsewhere"]

#: Objects in a file, and groups inside each other: a block of 100 telescopes has some thousands,
#: six deep. More take for ever to list.
MAX_OBJECTS, MAX_DEPTH = 200_000, 32
#: Links that stay inside the file; what is listed otherwise is external, or of somebody's own kind.
INSIDE = {h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT}
ADVICE = (
    "Expected a file that holds all its tables itself; the other one was not opened. Write the "
    "tables into one file, for instance with ctapipe-merge."
)


def refuse_links_elsewhere(file: h5py.File, path: Path) -> None:
    """Raise if a group of an open file links to another file, wherever in it.

    Raises
    ------
    CannotCompute
        The message names the link and where it leads. Soft links stay inside the file, and what
        they lead to is looked at as well.
    """
    links = file.id.links
    count = 0

    def strange(name: bytes, info: h5py.h5l.LinkInfo) -> tuple[bytes, int] | None:
        nonlocal count
        count += 1
        too_many = count > MAX_OBJECTS or name.count(b"/") >= MAX_DEPTH
        return (name, info.type) if too_many or info.type not in INSIDE else None

    found = links.visit(strange, info=True)
    if found is None:
        return
    where = f"{path}: /{_text(found[0])}"
    if found[1] == h5py.h5l.TYPE_EXTERNAL:
        other, name = links.get_val(found[0])
        raise CannotCompute(
            f"{where} is an external link to {_text(name)} in the file {_text(other)}. {ADVICE}"
        )
    if found[1] not in INSIDE:
        raise CannotCompute(f"{where} is a link of the unknown kind {found[1]}. {ADVICE}")
    raise CannotCompute(
        f"{where} is one of more than {MAX_OBJECTS:,} objects, or more than {MAX_DEPTH} groups "
        "deep: no file of ctapipe is like that. Produce it again."
    )


def refuse_rows_elsewhere(creation: h5py.h5p.PropDCID, name: str, path: Path) -> None:
    """Raise if the rows of a table are in other files; not even its length may be asked before.

    Parameters
    ----------
    creation : h5py.h5p.PropDCID
        How the table is stored.
    name : str
        Path of the table inside its file.
    path : Path
        The file.

    Raises
    ------
    CannotCompute
        The message names the table and the first of the files.
    """
    if creation.get_layout() == h5py.h5d.VIRTUAL:
        kind = "a virtual dataset"
        other = creation.get_virtual_filename(0) if creation.get_virtual_count() else "?"
    elif creation.get_external_count():
        kind, other = "a table with external storage", _text(creation.get_external(0)[0])
    else:
        return
    raise CannotCompute(f"{path}: {name} is {kind}, its rows are in the file {other}. {ADVICE}")


def _text(name: bytes | str) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name
