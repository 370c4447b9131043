"""Where blocks run, and which failures are tried again."""

import errno
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from types import SimpleNamespace

import polars as pl
import pytest

from arraycal.tasks.one_thread import one_polars_thread
from arraycal.tasks.retries import may_pass


def test_polars_has_one_thread_in_a_process_of_the_pool():
    with ProcessPoolExecutor(1, get_context("spawn"), one_polars_thread) as pool:
        assert pool.submit(pl.thread_pool_size).result() == 1


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
