"""Which failures are tried again: those of the machine, and of these only the passing ones."""

from __future__ import annotations

import errno
from typing import Any

from arraycal.tasks.workers import INFRASTRUCTURE

__all__ = ["RETRIES", "RETRY_DELAYS_S", "may_pass"]

RETRIES = 2
RETRY_DELAYS_S = [2.0, 15.0]
#: Nobody gets permission, or a writable disk, within seconds.
LASTING = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}


def may_pass(_task: Any, _run: Any, state: Any) -> bool:  # noqa: ANN401  Prefect's signature
    """Tell whether the failure of a task may pass; Prefect's ``retry_condition_fn``."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, INFRASTRUCTURE) and getattr(error, "errno", None) not in LASTING
