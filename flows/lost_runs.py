"""Runs whose process has died with its worker: marked as crashed, so that nobody waits for them."""

import logging
from typing import TYPE_CHECKING

from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType
from prefect.states import Crashed

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

__all__ = ["crash_lost_runs"]

log = logging.getLogger("arraycal.flows")

UNDER_WAY = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


def crash_lost_runs(client: "SyncPrefectClient", pool: str) -> int:
    """Mark all runs of a work pool that are under way as crashed; return how many.

    Only for who knows that none of them has a process any more. Otherwise a run of the same
    deployment would wait until Prefect gives up on them, which takes minutes.
    """
    states = FlowRunFilterState(type=FlowRunFilterStateType(any_=UNDER_WAY))
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=states),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
    )
    for run in runs:
        log.warning("run %s has lost its process", run.name)
        client.set_flow_run_state(run.id, Crashed(message="The process of the run has died."))
    return len(runs)
