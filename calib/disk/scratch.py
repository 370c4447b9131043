"""Folders in which files are made before they are renamed to their place."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from arraycal.calib.disk.locks import is_abandoned, marked_alive

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SCRATCH", "scratch_folder"]

#: Prefix of such folders, and of those that are not yet marked as somebody's.
SCRATCH, UNMARKED = ".arraycal-", ".unmarked-arraycal-"


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Make a folder inside another that is gone afterwards, with all that is left in it.

    What killed runs have left there goes away, too; what others are at work in stays.

    Parameters
    ----------
    parent : Path
        Where; on the same file system as what will be renamed.

    Yields
    ------
    Path
        The folder, which may be renamed meanwhile: then it stays.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    for left in filter(is_abandoned, parent.glob(f"{SCRATCH}*")):
        shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=UNMARKED, dir=parent))
    folder = parent / made.name.replace(UNMARKED, SCRATCH)
    try:
        with marked_alive(made):
            # Not before: without its mark it would look abandoned.
            made.rename(folder)
            yield folder
    finally:
        for left in (made, folder):
            shutil.rmtree(left, ignore_errors=True)
