"""Several files that belong together, put in place so that nobody ever finds old beside new.

They are made in a scratch folder. When they are complete, that folder gets the name under which
the next run finds it, should this one be killed: from then on the new files count. The old ones go
but for the first, which is replaced, and the others follow in their order. Killed anywhere, it
leaves old files only, or new ones only, and the rest is a matter of the next run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arraycal.calib.disk.files import sync

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["finish_publication", "put_in_place"]


def put_in_place(scratch: Path, folder: Path, names: Sequence[str]) -> None:
    """Replace files by new ones; only for who knows that no other run is in the folder.

    Parameters
    ----------
    scratch : Path
        Folder with the new files and nothing else, complete on the disk; it is gone afterwards.
    folder : Path
        Where they belong, on the same file system.
    names : sequence of str
        Their names; who sees the last one sees all.

    Raises
    ------
    OSError
        If something cannot be renamed; `finish_publication` may be able to later.
    """
    finish_publication(folder, names)
    sync(scratch)
    scratch.rename(_ready(folder, names))
    sync(folder)
    finish_publication(folder, names)


def finish_publication(folder: Path, names: Sequence[str]) -> bool:
    """Put in place what a killed run has completed; tell whether there was something."""
    ready = _ready(folder, names)
    if not ready.is_dir():
        return False
    first, *others = names
    if (ready / first).exists():  # nothing has been moved yet: what is there is old
        for name in reversed(others):
            (folder / name).unlink(missing_ok=True)
        sync(folder)
    for name in names:
        if (ready / name).exists():
            (ready / name).replace(folder / name)
    ready.rmdir()
    sync(folder)
    return True


def _ready(folder: Path, names: Sequence[str]) -> Path:
    return folder / f".{names[0]}.ready"
