"""Deployments, work pool and automations on a Prefect server: made if missing, else updated.

Nothing that was changed in the UI for a reason is changed back: a schedule or an automation that
was switched off stays off, and so does a paused deployment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyOptions
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.settings import PREFECT_API_URL
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessWorker

from arraycal.calib.publish.writing import own_version
from arraycal.config.errors import ConfigurationError
from arraycal.config.settings import Settings, load_settings
from arraycal.flows.jobs.home import POOL
from arraycal.flows.jobs.parameters import CalibrateParameters
from arraycal.flows.night.options import checked, read_options
from arraycal.flows.service.automations import notification_block, sync_automations
from arraycal.flows.service.schedule import night_schedule
from arraycal.flows.terminal.console import stdout
from arraycal.flows.terminal.outcomes import Exit

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

__all__ = [
    "DEPLOYMENTS_FILE",
    "POOL",
    "Registered",
    "check_site",
    "deployment_schema",
    "read_deployments",
    "register",
    "register_at_active_server",
]

DEPLOYMENTS_FILE = Path(__file__).parent / "prefect.yaml"
#: A long backfill must not keep the night waiting; more at a time share the CPUs.
RUNS_AT_A_TIME = 2
OPTIONS_VARIABLE = "ARRAYCAL_NIGHTLY_OPTIONS"
NIGHTS = ("nightly", "backfill")


@dataclass(frozen=True)
class Registered:
    """Names of what is on the server now."""

    deployments: tuple[str, ...]
    automations: tuple[str, ...]


def read_deployments() -> list[dict[str, Any]]:
    """Read the deployments that come with arraycal."""
    content = yaml.safe_load(DEPLOYMENTS_FILE.read_text(encoding="utf-8"))
    deployments: list[dict[str, Any]] = content["deployments"]
    return deployments


def check_site(settings: Settings) -> None:
    """Check what needs no server: schedule, time zone, options of the nights.

    Raises
    ------
    ConfigurationError
        If something is wrong; the message names the variable.
    """
    night_schedule(settings)
    options = read_options(settings.nightly_options, OPTIONS_VARIABLE)
    if options:
        checked(options)


def register(client: "SyncPrefectClient", settings: Settings) -> Registered:
    """Bring a server up to date.

    Parameters
    ----------
    client : SyncPrefectClient
        Of the server.
    settings : Settings
        Time zone, hour of the nightly run, notification block.

    Returns
    -------
    Registered
        What is there now.

    Raises
    ------
    ConfigurationError
        If the notification block does not exist, or the schedule makes no sense.
    """
    check_site(settings)  # before anything is changed
    block_id = notification_block(client, settings.notification_block)
    _ensure_pool(client)
    names = [_deploy(client, item, settings) for item in read_deployments()]
    return Registered(tuple(names), tuple(sync_automations(client, block_id)))


def register_at_active_server() -> Exit:
    """Bring the server of PREFECT_API_URL or of the active profile up to date, and say so.

    Raises
    ------
    ConfigurationError
        If none is configured.
    ConnectionError
        If it does not answer.
    """
    address = PREFECT_API_URL.value()
    if not address:
        raise ConfigurationError(
            "no Prefect server is configured: set PREFECT_API_URL, or use `arraycal up`"
        )
    settings = load_settings()
    check_site(settings)
    with get_client(sync_client=True) as client:
        problem = client.api_healthcheck()
        if problem is not None:
            raise ConnectionError(f"the Prefect server at {address} does not answer: {problem}")
        registered = register(client, settings)
    for name in (*registered.deployments, *registered.automations):
        stdout().print(name, markup=False)
    return Exit.USABLE


def _ensure_pool(client: "SyncPrefectClient") -> None:
    pool = WorkPoolCreate(
        name=POOL,
        type="process",
        description="Runs of arraycal, as processes of the machine of the worker.",
        base_job_template=ProcessWorker.get_default_base_job_template(),
        concurrency_limit=RUNS_AT_A_TIME,
    )
    try:
        client.create_work_pool(pool)
    except ObjectAlreadyExists:
        return  # its limit may have been changed on purpose


def _deploy(client: "SyncPrefectClient", item: Mapping[str, Any], settings: Settings) -> str:
    flow: Flow[Any, Any] = load_flow_from_entrypoint(item["entrypoint"], use_placeholder_flow=False)
    full_name = f"{flow.name}/{item['name']}"
    before = _existing(client, full_name)
    limit = item["concurrency_limit"]
    client.create_deployment(
        flow_id=client.create_flow(flow),
        name=item["name"],
        version=own_version(),
        description=item["description"],
        entrypoint=item["entrypoint"],
        parameters=item.get("parameters") or _night_parameters(item, settings),
        parameter_openapi_schema=deployment_schema(item, flow),
        enforce_parameter_schema=item["enforce_parameter_schema"],
        tags=item["tags"],
        work_pool_name=item["work_pool"]["name"],
        concurrency_limit=limit["limit"],
        concurrency_options=ConcurrencyOptions(collision_strategy=limit["collision_strategy"]),
        schedules=_schedules(item.get("schedules", []), before, settings),
        paused=before.paused if before else False,
    )
    return full_name


def deployment_schema(item: Mapping[str, Any], flow: Flow[Any, Any]) -> dict[str, Any]:
    """Schema of the parameters of a deployment; one of a calibration takes no other one.

    Parameters
    ----------
    item : mapping
        The deployment, as in the file of all.
    flow : Flow
        Its flow.
    """
    schema = parameter_schema(flow).model_dump()
    name = item.get("parameters", {}).get("parameters", {}).get("calibration")
    if name is not None:
        own = schema["definitions"][CalibrateParameters.__name__]["properties"]["calibration"]
        own |= {
            "enum": [name],
            "default": name,
            "description": f"This deployment runs {name}; every calibration has one of its own.",
        }
    return schema


def _night_parameters(item: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Parameters of nightly and backfill: the site's own options, checked."""
    options = read_options(settings.nightly_options, OPTIONS_VARIABLE)
    if not options or item["flow_name"] not in NIGHTS:
        return {}
    return {"parameters": {"options": checked(options).model_dump(mode="json")}}


def _existing(client: "SyncPrefectClient", full_name: str) -> "DeploymentResponse | None":
    try:
        return client.read_deployment_by_name(full_name)
    except ObjectNotFound:
        return None


def _schedules(
    items: Sequence[Mapping[str, Any]], before: "DeploymentResponse | None", settings: Settings
) -> list[DeploymentScheduleCreate]:
    """Schedules with the clock and the hour of the site."""
    active = {item.slug: item.active for item in before.schedules} if before else {}
    return [
        DeploymentScheduleCreate(
            schedule=night_schedule(settings),
            slug=item["slug"],
            active=active.get(item["slug"], item["active"]),
        )
        for item in items
    ]
