"""Where blocks run, and which failures are tried again."""

import errno
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from types import SimpleNamespace

import polars as pl
import pytest

from arraycal.calib.observables import ENERGY_INTER
from arraycal.config.models import Configuration
from arraycal.config.settings import Settings
from arraycal.tasks.one_thread import one_polars_thread
from arraycal.tasks.retries import may_pass
from arraycal.tasks.workers import (
    block_stage,
    cpu_count,
    map_in_threads,
    open_workers,
    spreading,
)


def test_polars_has_one_thread_in_a_process_of_the_pool():
    with ProcessPoolExecutor(1, get_context("spawn"), one_polars_thread) as pool:
        assert pool.submit(pl.thread_pool_size).result() == 1


def test_a_process_is_prepared_before_its_first_block(tmp_path):
    settings = Settings(runner="processes", cache_root=tmp_path / "cache")
    prepare = partial(os.mkdir, tmp_path / "prepared")
    with block_stage(ENERGY_INTER, Configuration(), settings, 1, prepare) as stage:
        block = stage(tmp_path / "missing.h5")
    assert block.status == "failed"
    assert (tmp_path / "prepared").is_dir()


@pytest.mark.parametrize(("workers", "expected"), [(0, cpu_count()), (3, 3)])
def test_so_many_blocks_are_under_way_as_asked_for_or_as_there_are_processors(
    tmp_path, workers, expected
):
    settings = Settings(cache_root=tmp_path)
    opened = block_stage(ENERGY_INTER, Configuration(), settings, workers, one_polars_thread)
    with opened as stage:
        assert stage.at_once == expected


def own_process(_):
    return os.getpid()


def own_thread(_):
    return threading.get_ident()


def test_work_is_spread_over_processes_that_stay(tmp_path):
    settings = Settings(runner="processes", cache_root=tmp_path)
    opened = []

    def opening():
        opened.append(1)
        return open_workers(settings, 2, one_polars_thread)

    with spreading(opening, map_in_threads) as spread:
        assert not opened
        there = {*spread(own_process, range(4)), *spread(own_process, range(4))}
    assert opened == [1]
    assert os.getpid() not in there
    assert 1 <= len(there) <= 2


def test_threads_answer_in_the_order_of_the_items(tmp_path):
    opening = partial(open_workers, Settings(cache_root=tmp_path), 3, one_polars_thread)
    with spreading(opening, map_in_threads) as spread:
        assert list(spread(str, [3, 1, 2])) == ["3", "1", "2"]
        assert list(spread(str, [7])) == ["7"]
        # A thread of its own would do nothing for a single item.
        assert list(spread(own_thread, [7])) == [threading.get_ident()]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process")
def test_a_process_that_is_bound_to_one_processor_has_one():
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})  # as a job of a batch system that asked for one
    try:
        assert cpu_count() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert cpu_count() == len(allowed)


def state_of(error):
    return SimpleNamespace(result=lambda raise_on_failure: error)  # noqa: ARG005


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EIO, "Input/output error"), True),
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (ConnectionError("gone"), True),
        (BrokenProcessPool("a worker was killed"), True),
        (OSError(errno.EROFS, "Read-only file system"), False),
        (PermissionError(errno.EACCES, "Permission denied"), False),
        (ValueError("a defect"), False),
    ],
)
def test_only_failures_that_may_pass_are_tried_again(error, expected):
    assert may_pass(None, None, state_of(error)) is expected
