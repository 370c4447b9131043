"""Who is told when something goes wrong: automations of Prefect, one per name, never two."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.automations import AutomationCore, EventTrigger
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, ChangeFlowRunState, DoNothing, SendNotification
from prefect.events.schemas.automations import Posture
from prefect.exceptions import ObjectNotFound

from arraycal.config.errors import ConfigurationError
from arraycal.flows.jobs.events import OUT_OF_RANGE, TREND

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

__all__ = ["AUTOMATIONS", "notification_block", "sync_automations"]

RUNS = {"prefect.resource.id": "prefect.flow-run.*"}
#: All our deployments bear this tag.
OURS = {"prefect.resource.id": "prefect.tag.arraycal", "prefect.resource.role": "tag"}
NIGHTLY = {"prefect.resource.id": "prefect.tag.nightly", "prefect.resource.role": "tag"}
PER_RUN = {"prefect.resource.id"}
RUN_BODY = (
    "{{ flow_run.name }} ({{ deployment.name }}): {{ flow_run.state.name }}. "
    "{{ flow_run.state.message }}\n{{ flow_run|ui_url }}"
)
#: A run that has sent no sign of life for so long (it does every 30 s) has died with its worker.
SILENCE = timedelta(minutes=3)
#: A run that is so much too late will not start by itself.
LATE = timedelta(minutes=30)


@dataclass(frozen=True)
class _Spec:
    """An automation: when, and what is said.

    Attributes
    ----------
    name, description : str
        In the UI; the name is the key.
    trigger : dict
        Of `EventTrigger`.
    body : str
        Text of the notification.
    action : ActionTypes or None
        What is done besides.
    """

    name: str
    description: str
    trigger: dict[str, Any]
    body: str = RUN_BODY
    action: ActionTypes | None = field(default=None)


AUTOMATIONS = (
    _Spec(
        "arraycal: failed",
        "A run failed, crashed, or gave nothing that may be used.",
        {
            "expect": {
                f"prefect.flow-run.{state}"
                for state in ("Failed", "Crashed", "TimedOut", "Unusable")
            },
            "match": RUNS,
            "match_related": OURS,
            "for_each": PER_RUN,
        },
    ),
    _Spec(
        "arraycal: degraded",
        "The result of a run can be used, but something was left out.",
        {
            "expect": {"prefect.flow-run.Degraded"},
            "match": RUNS,
            "match_related": OURS,
            "for_each": PER_RUN,
        },
    ),
    _Spec(
        "arraycal: late",
        "The calibration of a night is half an hour late; is the worker running?",
        {
            "after": {"prefect.flow-run.Late"},
            "expect": {"prefect.flow-run.Running"},
            "match": RUNS,
            "match_related": NIGHTLY,
            "for_each": PER_RUN,
            "posture": Posture.Proactive,
            "within": LATE,
        },
        "A run of arraycal is half an hour late. Is the worker running (arraycal status)?",
    ),
    _Spec(
        "arraycal: telescope out of range",
        "A telescope stands out from its siblings.",
        {"expect": {OUT_OF_RANGE}, "match": {"prefect.resource.id": "arraycal.calibration.*"}},
        "{{ event.payload.message }}",
    ),
    _Spec(
        "arraycal: telescope trend",
        "A telescope ages, has changed in a step, or had an outlying night.",
        {"expect": {TREND}, "match": {"prefect.resource.id": "arraycal.calibration.*"}},
        "{{ event.payload.message }}",
    ),
    _Spec(
        "arraycal: lost runs",
        "A run whose process has died is marked as crashed, so that nobody waits for it.",
        {
            "after": {"prefect.flow-run.heartbeat"},
            "expect": {
                "prefect.flow-run.heartbeat",
                *(
                    f"prefect.flow-run.{state}"
                    for state in (
                        *("Completed", "Degraded", "NothingToDo", "Failed", "Unusable"),
                        *("Crashed", "Cancelled", "TimedOut"),
                    )
                ),
            },
            "match": RUNS,
            "match_related": OURS,
            "for_each": PER_RUN,
            "posture": Posture.Proactive,
            "within": SILENCE,
        },
        action=ChangeFlowRunState(
            state=StateType.CRASHED,
            name="Crashed",
            message="The process of the run has died. The next run completes the night.",
        ),
    ),
)


def sync_automations(client: "SyncPrefectClient", block_id: UUID | None) -> list[str]:
    """Create missing automations and update those that are there.

    Parameters
    ----------
    client : SyncPrefectClient
        Of the server.
    block_id : UUID or None
        Notification block that is told; None tells nobody, and events only show in the UI.

    Returns
    -------
    list of str
        Names, in order. One that was switched off in the UI stays off; of several with the same
        name, one remains.
    """
    for spec in AUTOMATIONS:
        _sync(client, spec, block_id)
    return [spec.name for spec in AUTOMATIONS]


def _sync(client: "SyncPrefectClient", spec: _Spec, block_id: UUID | None) -> None:
    found = client.read_automations_by_name(spec.name)
    core = AutomationCore(
        name=spec.name,
        description=spec.description,
        enabled=found[0].enabled if found else True,
        trigger=EventTrigger(**spec.trigger),
        actions=[*_actions(spec, block_id)],
    )
    # An update sends only what was set, and the server then misses the defaults.
    wanted = AutomationCore.model_validate(core.model_dump(exclude={"owner_resource"}))
    if not found:
        client.create_automation(wanted)
        return
    first, *others = found
    client.update_automation(first.id, wanted)
    for automation in others:
        client.delete_automation(automation.id)


def _actions(spec: _Spec, block_id: UUID | None) -> list[ActionTypes]:
    if spec.action is not None:
        return [spec.action]
    if block_id is None:
        return [DoNothing()]
    return [SendNotification(block_document_id=block_id, subject=spec.name, body=spec.body)]


def notification_block(client: "SyncPrefectClient", name: str | None) -> UUID | None:
    """Id of the block ``TYPE/NAME`` on the server; None for no name.

    Raises
    ------
    ConfigurationError
        If there is no such block.
    """
    if name is None:
        return None
    kind, _, block = name.partition("/")
    try:
        return client.read_block_document_by_name(block, kind).id
    except ObjectNotFound:
        raise ConfigurationError(
            f"ARRAYCAL_NOTIFICATION_BLOCK is {name!r}, and the server has no such block; make it "
            "in the UI under Blocks, or leave the setting out"
        ) from None
