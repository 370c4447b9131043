"""The index over the nights, brought up to date when nights were calibrated."""

import logging
from collections.abc import Sequence
from pathlib import Path

from calib.night_index import update_index
from config.settings import Settings

__all__ = ["index_nights"]

log = logging.getLogger("arraycal.flows")


def index_nights(root: Path, settings: Settings, *, always: bool = False) -> bool:
    """Bring the index of the nights below a folder up to date; see `update_index`."""
    return update_index(root, lambda: _trends(settings), state="", always=always)


def _trends(_settings: Settings) -> Sequence[str]:
    return ()
