"""Names of files in errors of the machine: those of a write, on a full disk, bear none."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["naming"]


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name a file in an `OSError` that names none; it goes on otherwise unchanged.

    Parameters
    ----------
    path : Path
        What is written meanwhile, by the name that the user knows.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise
