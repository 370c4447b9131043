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
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING

from arraycal.calib.blocks.rows import rows_of_block
from arraycal.calib.blocks.stage import BlockPairs
from arraycal.tasks.dask_cluster import dask_cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from arraycal.calib.observables import Observable
    from arraycal.config.models import Configuration
    from arraycal.config.settings import Settings

__all__ = ["INFRASTRUCTURE", "Stage", "block_stage", "cpu_count"]

log = logging.getLogger("arraycal.tasks")

#: Failures of the machine, not of a block: the run stops, and trying again may help.
INFRASTRUCTURE = (OSError, MemoryError, BrokenExecutor)


@dataclass(frozen=True)
class Stage:
    """The stage of one block, and how many blocks may be in it at once.

    Parameters
    ----------
    run : callable
        Path to `BlockPairs`.
    at_once : int
        Blocks at a time; who calls it has so many threads.
    """

    run: Callable[[Path], BlockPairs]
    at_once: int

    def __call__(self, path: Path) -> BlockPairs:
        """Run the stage of a block."""
        return self.run(path)


def cpu_count() -> int:
    """Number of CPUs that this process may use, at least 1.

    Fewer than the machine has where a batch system has bound a job to some of them.
    """
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on; also goes by PYTHON_CPU_COUNT
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def block_stage(
    observable: Observable,
    configuration: Configuration,
    settings: Settings,
    workers: int,
    prepare_process: Callable[[], None],
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Stage]:
    """Open what runs the per-block stage.

    Parameters
    ----------
    observable, configuration
        What to do with every block.
    settings : Settings
        Its ``runner``, ``dask_address`` and ``cache_root`` are used.
    workers : int
        Blocks at a time; 0 for one per CPU, or for as many as the Dask workers have threads.
    prepare_process : callable
        Called first in every new process.
    tell : callable, optional
        Hears of what goes wrong on the way without stopping the run.

    Yields
    ------
    Stage
        A defect of ours that a file brings to light is a failed block with a reason; it raises
        only what is in `INFRASTRUCTURE`.

    Raises
    ------
    ConfigurationError
        If Dask is asked for and cannot be used as it is, see `dask_cluster`.
    """
    stage = partial(
        _pairs_or_reason,
        observable=observable,
        configuration=configuration,
        cache_root=settings.cache_root.absolute(),
    )
    at_once = workers or cpu_count()
    if settings.runner == "processes":
        # spawn: forking a process that has threads (polars, Prefect) can deadlock.
        with ProcessPoolExecutor(at_once, get_context("spawn"), prepare_process) as pool:
            yield Stage(lambda path: pool.submit(stage, path).result(), at_once)
    elif settings.runner == "dask":
        with dask_cluster(settings, at_once, tell) as cluster:
            yield Stage(partial(cluster.block, stage), workers or cluster.n_threads)
    else:
        yield Stage(stage, at_once)


def _pairs_or_reason(
    path: Path, *, observable: Observable, configuration: Configuration, cache_root: Path
) -> BlockPairs:
    try:
        return rows_of_block(path, observable, configuration, cache_root)
    except INFRASTRUCTURE:
        raise
    except Exception as error:  # one odd file must not take the night with it
        log.exception("%s: internal error", path)
        reason = f"{path}: internal error, {type(error).__name__}: {error}. Please report it."
        return BlockPairs(path, "failed", reason=reason)
