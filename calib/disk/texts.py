"""JSON files of strangers: read whole, or refused as what they are."""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING, Any

from arraycal.calib.disk.files import kind_of_file

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_json"]

#: Bytes of a file: a result of the largest array has a hundredth of it.
MAX_BYTES = 1 << 28


def read_json(path: Path) -> Any:  # noqa: ANN401  any JSON
    """Read a JSON file.

    Parameters
    ----------
    path : Path
        The file. A pipe, which may never end, is not opened.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    OSError
        If it cannot be read, or is no file.
    ValueError
        If it is no JSON, nested too deep, or longer than any result.
    """
    size = path.stat().st_size
    if not path.is_file():
        what = f"expected a file, found {kind_of_file(path)}"
        raise OSError(errno.EINVAL, what, str(path))
    if size > MAX_BYTES:
        raise ValueError(f"{size:,} bytes, expected at most {MAX_BYTES:,}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("nested too deep") from None
