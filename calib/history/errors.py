"""What is wrong with a history, known without the database's own library."""

from __future__ import annotations

from arraycal.calib.errors import CannotCompute

__all__ = ["HistoryError"]


class HistoryError(CannotCompute):
    """The history cannot be used as it is; repeating will not help."""
