"""What is done with one block, as Prefect tasks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from arraycal.calib.blocks.stage import BlockPairs
from arraycal.tasks.retries import RETRIES, RETRY_DELAYS_S, may_pass

__all__ = ["pairs_of_block", "sums_of_rows"]

log = logging.getLogger("arraycal.tasks")


# NO_CACHE: whether PAIRS can be used again is for arraycal.calib.blocks.cache to say, which looks
# at the files.
@task(
    task_run_name="pairs of {path.name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_pass,
)
def pairs_of_block(path: Path, stage: Callable[[Path], BlockPairs]) -> BlockPairs:
    """Make the PAIRS of one block; ``stage`` is `arraycal.tasks.workers.block_stage`'s.

    A block whose PAIRS were there already ends in the state Cached, which the UI shows.
    """
    block = stage(path)
    if block.status == "ok":
        source = "from the cache" if block.cached else "made"
        log.info("%s: %d pair rows %s", path.name, block.n_pairs, source)
    else:
        log.warning("%s", block.reason)
    if block.cached:
        # Prefect takes a state for the task's own; the caller gets the block.
        return Completed(name="Cached", data=block)  # type: ignore[return-value]
    return block


@task(
    task_run_name="sums of {rows.name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_pass,
)
def sums_of_rows(rows: Any, work: Callable[[Any], Any], call: Callable[..., Any]) -> Any:  # noqa: ANN401
    """Sum up the cached rows of one block, where `arraycal.tasks.workers.open_workers` does it."""
    return call(work, rows)
