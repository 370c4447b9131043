"""Block files: what is in one, read in windows of telescope events of whole showers."""

from arraycal.calib.dl2.block import (
    WINDOW_ROWS,
    Block,
    ColumnSource,
    EventWindow,
    UnsortedRows,
    open_block,
    read_subarray,
    scan_events,
    windows,
)

__all__ = [
    "WINDOW_ROWS",
    "Block",
    "ColumnSource",
    "EventWindow",
    "UnsortedRows",
    "open_block",
    "read_subarray",
    "scan_events",
    "windows",
]
