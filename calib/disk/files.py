"""Whole files: digests, and replacement that leaves no half-written one."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from arraycal.calib.disk.naming import naming
from arraycal.calib.disk.scratch import scratch_folder
from arraycal.calib.errors import WrongUsage

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "file_digest",
    "kind_of_file",
    "refuse_file_in_the_way",
    "replace_file",
    "sync",
]

READ_BYTES = 1 << 20


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def kind_of_file(path: Path) -> str:
    """What there is in the place of a file that was expected.

    Examples
    --------
    >>> from pathlib import Path
    >>> kind_of_file(Path("/dev/null")), kind_of_file(Path("/"))
    ('a device', 'a folder')
    """
    kinds = {
        "a folder": path.is_dir,
        "a pipe": path.is_fifo,
        "a device": lambda: path.is_char_device() or path.is_block_device(),
        "a socket": path.is_socket,
        "a file": path.is_file,
        "a link that leads nowhere": path.is_symlink,
    }
    return next((kind for kind, is_it in kinds.items() if is_it()), "nothing")


def refuse_file_in_the_way(output: Path) -> None:
    """Raise if a folder cannot be made because it, or one it lies in, is a file.

    Raises
    ------
    WrongUsage
        The message names the file.
    """
    for place in (output, *output.parents):
        if place.exists():
            if not place.is_dir():
                what = "this" if place == output else str(place)
                raise WrongUsage(
                    f"{output}: results go into a folder, and {what} is a file. "
                    "Choose another --output."
                )
            return


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file, whole or not at all, also when the power fails.

    Raises
    ------
    OSError
        If the folder cannot be written to; the file is as it was then.
    """
    with scratch_folder(path.parent) as folder:
        temporary = folder / path.name
        with naming(path):
            temporary.write_bytes(content)
            sync(temporary)
        temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush a closed file to the disk, so that a rename after it never exposes a torn file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
