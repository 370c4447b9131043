"""Runs of our work pool that are under way: seen, cancelled, or lost with their process."""

import logging
import time
from typing import TYPE_CHECKING

from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType
from prefect.states import Cancelled, Cancelling, Crashed

from arraycal.flows.jobs.home import POOL

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

__all__ = ["cancel_runs", "close_runs", "crash_lost_runs", "runs_under_way"]

log = logging.getLogger("arraycal.flows")

UNDER_WAY = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
STOPPED = "Stopped by `arraycal down`. The next run completes the night."
#: How long runs have to end when they are cancelled.
CANCEL_S, POLL_S = 45.0, 0.5


def runs_under_way(client: "SyncPrefectClient") -> "list[FlowRun]":
    """Runs of our work pool that have begun and not ended."""
    states = FlowRunFilterState(type=FlowRunFilterStateType(any_=UNDER_WAY))
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=states),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL])),
    )


def crash_lost_runs(client: "SyncPrefectClient") -> int:
    """Mark all runs of our work pool that are under way as crashed; return how many.

    Only for who knows that none of them has a process any more. Otherwise a run of the same
    deployment would wait until Prefect gives up on them, which takes minutes.
    """
    runs = runs_under_way(client)
    for run in runs:
        log.warning("run %s has lost its process", run.name)
        client.set_flow_run_state(run.id, Crashed(message="The process of the run has died."))
    return len(runs)


def cancel_runs(client: "SyncPrefectClient", say: "Callable[[str], None]") -> None:
    """Ask the worker to cancel all runs that are under way, and wait for a while.

    What begins meanwhile is cancelled, too: a run that has waited for its turn.
    """
    asked: set[UUID] = set()
    end = time.monotonic() + CANCEL_S
    while (runs := runs_under_way(client)) and time.monotonic() < end:
        for run in runs:
            if run.id not in asked:
                asked.add(run.id)
                say(f"cancelling {run.name}")
                client.set_flow_run_state(run.id, Cancelling(message=STOPPED))
        time.sleep(POLL_S)


def close_runs(client: "SyncPrefectClient") -> None:
    """Mark what is under way as cancelled, when its worker has been stopped with it."""
    for run in runs_under_way(client):
        client.set_flow_run_state(run.id, Cancelled(message=STOPPED), force=True)
