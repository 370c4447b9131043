"""Where work on a block runs: in the calling thread, in other processes, or on Dask.

Whatever it is, the caller gets a plain function that returns when the work is done. Threads call
it side by side, so that the same tasks (or the same threads of ``--direct``) serve all three. No
Prefect in here.
"""

from __future__ import annotations

import logging
import os
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from arraycal.calib.blocks.rows import rows_of_block
from arraycal.calib.blocks.stage import BlockPairs
from arraycal.calib.spread import in_turn
from arraycal.tasks.dask_cluster import dask_cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from arraycal.calib.observables import Observable
    from arraycal.calib.spread import Spread
    from arraycal.config.models import Configuration
    from arraycal.config.settings import Settings

__all__ = [
    "INFRASTRUCTURE",
    "Stage",
    "Workers",
    "block_stage",
    "cpu_count",
    "map_in_threads",
    "open_workers",
    "spreading",
]

log = logging.getLogger("arraycal.tasks")

#: Failures of the machine, not of a block: the run stops, and trying again may help.
INFRASTRUCTURE = (OSError, MemoryError, BrokenExecutor)


@dataclass(frozen=True)
class Workers:
    """Threads, processes or machines.

    Parameters
    ----------
    call : callable
        Does work on an item there, and returns the answer when it is done.
    at_once : int
        Items at a time; who calls has so many threads.
    """

    call: Callable[[Callable[[Any], Any], Any], Any]
    at_once: int


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


def _here(work: Callable[[Any], Any], item: Any) -> Any:  # noqa: ANN401  whatever the work is about
    return work(item)


@contextmanager
def open_workers(
    settings: Settings,
    workers: int,
    prepare_process: Callable[[], None],
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Workers]:
    """Open what the settings call the runner.

    Parameters
    ----------
    settings : Settings
        Its ``runner``, ``dask_address`` and ``cache_root`` are used.
    workers : int
        Items at a time; 0 for one per CPU, or for as many as the Dask workers have threads.
    prepare_process : callable
        Called first in every new process.
    tell : callable, optional
        Hears of what goes wrong on the way without stopping the run.

    Raises
    ------
    ConfigurationError
        If Dask is asked for and cannot be used as it is, see `dask_cluster`.
    """
    at_once = workers or cpu_count()
    if settings.runner == "processes":
        # spawn: forking a process that has threads (polars, Prefect) can deadlock.
        with ProcessPoolExecutor(at_once, get_context("spawn"), prepare_process) as pool:
            yield Workers(lambda work, item: pool.submit(work, item).result(), at_once)
    elif settings.runner == "dask":
        with dask_cluster(settings, at_once, tell) as cluster:
            yield Workers(cluster.call, workers or cluster.n_threads)
    else:
        yield Workers(_here, at_once)


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
    settings, workers, prepare_process, tell
        See `open_workers`.

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
    with open_workers(settings, workers, prepare_process, tell) as opened:
        yield Stage(partial(opened.call, stage), opened.at_once)


@contextmanager
def spreading(
    opening: Callable[[], AbstractContextManager[Workers]],
    mapped: Callable[[Workers, Callable[[Any], Any], Sequence[Any]], Iterator[Any]],
) -> Iterator[Spread]:
    """Open workers when the first work is to be spread over them, and keep them.

    Parameters
    ----------
    opening : callable
        Opens them, see `open_workers`.
    mapped : callable
        Does work on items with them; the answers are in the order of the items.

    Yields
    ------
    Spread
        Where threads are the workers, a single item needs none.
    """
    with ExitStack() as stack:
        opened: list[Workers] = []

        def spread(work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
            if not opened:
                opened.append(stack.enter_context(opening()))
            (workers,) = opened
            if len(items) == 1 and workers.call is _here:
                return in_turn(work, items)
            return mapped(workers, work, items)

        yield spread


def map_in_threads(
    workers: Workers, work: Callable[[Any], Any], items: Sequence[Any]
) -> Iterator[Any]:
    """Do work on items, with a thread for each that is under way."""
    with ThreadPoolExecutor(min(workers.at_once, len(items))) as pool:
        yield from pool.map(partial(workers.call, work), items)


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
