"""Where the stage of one block runs: in the calling thread, in other processes, or on Dask.

Whatever it is, the caller gets a plain function of the block's path that returns when the block
is done. Threads call it side by side, so that the same tasks (or the same threads of ``--direct``)
serve all three. No Prefect in here.
"""

from __future__ import annotations

import logging
import os
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, cast

from arraycal.calib.blocks.rows import rows_of_block
from arraycal.calib.blocks.stage import BlockPairs
from arraycal.config.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from arraycal.calib.observables import Observable
    from arraycal.config.models import Configuration
    from arraycal.config.settings import Settings

    Stage = Callable[[Path], BlockPairs]

__all__ = ["INFRASTRUCTURE", "block_stage", "cpu_count"]

log = logging.getLogger("arraycal.tasks")

#: Failures of the machine, not of a block: the run stops, and trying again may help.
INFRASTRUCTURE = (OSError, MemoryError, BrokenExecutor)


def cpu_count() -> int:
    """Number of CPUs, at least 1."""
    return os.cpu_count() or 1


@contextmanager
def block_stage(
    observable: Observable,
    configuration: Configuration,
    settings: Settings,
    workers: int,
    prepare_process: Callable[[], None],
) -> Iterator[Stage]:
    """Open what runs the per-block stage.

    Parameters
    ----------
    observable, configuration
        What to do with every block.
    settings : Settings
        Its ``runner``, ``dask_address`` and ``cache_root`` are used.
    workers : int
        Number of processes; threads are the caller's.
    prepare_process : callable
        Called first in every new process.

    Yields
    ------
    callable
        Path to `BlockPairs`. A defect of ours that a file brings to light is a failed block
        with a reason; it raises only what is in `INFRASTRUCTURE`.

    Raises
    ------
    ConfigurationError
        If Dask is asked for and not installed.
    """
    stage = partial(
        _pairs_or_reason, observable=observable, configuration=configuration, settings=settings
    )
    if settings.runner == "processes":
        # spawn: forking a process that has threads (polars, Prefect) can deadlock.
        with ProcessPoolExecutor(workers, get_context("spawn"), prepare_process) as pool:
            yield lambda path: pool.submit(stage, path).result()
    elif settings.runner == "dask":
        with _dask_client(settings, workers) as client:
            yield lambda path: cast("BlockPairs", client.submit(stage, path, pure=False).result())
    else:
        yield stage


def _pairs_or_reason(
    path: Path, *, observable: Observable, configuration: Configuration, settings: Settings
) -> BlockPairs:
    try:
        return rows_of_block(path, observable, configuration, settings.cache_root)
    except INFRASTRUCTURE:
        raise
    except Exception as error:  # one odd file must not take the night with it
        log.exception("%s: internal error", path)
        reason = f"{path}: internal error, {type(error).__name__}: {error}. Please report it."
        return BlockPairs(path, "failed", reason=reason)


@contextmanager
def _dask_client(settings: Settings, workers: int) -> Iterator[Any]:
    try:
        client_of = import_module("distributed").Client
    except ImportError:
        raise ConfigurationError(
            "ARRAYCAL_RUNNER is dask, but dask is not installed here; "
            "install prefect-dask or distributed, or use threads or processes"
        ) from None
    local = {"host": "127.0.0.1", "n_workers": workers, "threads_per_worker": 1}
    remote = {"address": settings.dask_address}
    where = remote if settings.dask_address else local | {"dashboard_address": None}
    with client_of(**where) as client:
        yield client
