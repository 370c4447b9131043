"""Every night by itself: the flow of the schedule, and the one for a range of nights."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from prefect import State, flow, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from arraycal.calib.dl2.observed import last_night
from arraycal.calib.errors import ArraycalError
from arraycal.calib.nights.record import NightRecord
from arraycal.config.errors import ConfigurationError
from arraycal.config.settings import Settings
from arraycal.flows.jobs.events import report_trends
from arraycal.flows.jobs.parameters import BackfillParameters, NightlyParameters, NightOptions
from arraycal.flows.jobs.progress import LISTENER
from arraycal.flows.jobs.site_settings import find_site
from arraycal.flows.night.find_blocks import night_folder
from arraycal.flows.night.page import night_page, worst
from arraycal.flows.night.run import Stages, calibrate_nights, run_nightly
from arraycal.flows.stages import DEGRADED, made_by, map_blocks, run_log, solve_and_publish
from arraycal.tasks.calibration import NOTHING_TO_DO, UNUSABLE
from arraycal.tasks.workers import cpu_count

if TYPE_CHECKING:
    from arraycal.calib.report.trends_page import SeenTrends

__all__ = ["backfill", "nightly"]

log = logging.getLogger("arraycal.flows")

#: One calibration at a time, its blocks side by side.
RUNNER: Any = ThreadPoolTaskRunner(max_workers=cpu_count())


def _nightly_name() -> str:
    parameters = runtime.flow_run.parameters.get("parameters")
    night = getattr(parameters, "night", None)
    if isinstance(parameters, dict):
        night = parameters.get("night")
    return f"night {night or last_night(_scheduled(), _settings().time_zone)}"


def _settings() -> Settings:
    """Settings of the command that called the flow, or of the site."""
    return LISTENER.get().settings or find_site().settings


def _scheduled() -> datetime:
    """When the run was meant to start: a run that waited for its turn keeps its night."""
    return cast("datetime", runtime.flow_run.scheduled_start_time or datetime.now(UTC))


@flow(name="nightly", flow_run_name=_nightly_name, task_runner=RUNNER, persist_result=False)
def nightly(parameters: NightlyParameters = NightlyParameters()) -> State[Any]:  # noqa: B008  frozen
    """Calibrate the array from the blocks of a night.

    Args:
        parameters: Which night, and what is done with it.

    """
    settings = _settings()
    with run_log(settings.log_level):
        try:
            seen: list[SeenTrends] = []
            records = run_nightly(parameters, settings, _scheduled(), _stages(seen))
            return _shown(records, parameters.options, settings, seen)
        except (ArraycalError, ConfigurationError) as error:
            log.error("%s", error)  # noqa: TRY400  expected: the message says it all
            return Failed(message=str(error))


@flow(
    name="backfill",
    flow_run_name="{parameters.first} to {parameters.last}",
    task_runner=RUNNER,
    persist_result=False,
)
def backfill(parameters: BackfillParameters) -> State[Any]:
    """Calibrate the array from the blocks of a range of nights, one after the other.

    Args:
        parameters: Which nights, and what is done with each.

    """
    settings = _settings()
    n_nights = (parameters.last - parameters.first).days + 1
    nights = [parameters.first + timedelta(days=n) for n in range(n_nights)]
    with run_log(settings.log_level):
        try:
            seen: list[SeenTrends] = []
            records = calibrate_nights(nights, parameters.options, settings, _stages(seen))
            return _shown(records, parameters.options, settings, seen)
        except (ArraycalError, ConfigurationError) as error:
            log.error("%s", error)  # noqa: TRY400  expected: the message says it all
            return Failed(message=str(error))


def _stages(seen: "list[SeenTrends]") -> Stages:
    return Stages(map_blocks, solve_and_publish, made_by(), seen.extend)


def _shown(
    records: Sequence[NightRecord],
    options: NightOptions,
    settings: Settings,
    seen: "Sequence[SeenTrends]",
) -> State[Any]:
    """Show nights on a page, and tell of them; the state of the run says how they are."""
    folders = {record.night: night_folder(record.night, options, settings) for record in records}
    LISTENER.get().nights_finished(records)
    _report_trends(records)
    try:
        page = night_page(records, folders, seen)
        create_markdown_artifact(key="arraycal-night", markdown=page, description=page[:80])
    except Exception:  # the results are on disk; the page is a convenience
        log.exception("the results are published, but Prefect did not take the page")
    return _final_state(records)


def _report_trends(records: Sequence[NightRecord]) -> None:
    """Send what is new in the trends; what an earlier run has found was sent by that run."""
    try:
        for record in records:
            for item in record.calibrations:
                if not item.is_reused:
                    report_trends(item.calibration, record.night, item.trends)
    except Exception:  # it is in the records; the events are for automations
        log.exception("Prefect did not take the events of the trends")


def _final_state(records: Sequence[NightRecord]) -> State[Any]:
    """State of the worst night."""
    status = worst(records)
    message = "; ".join(map(str, records))
    data = {record.night.isoformat(): record.status for record in records}
    if status == "unusable":
        return Failed(name=UNUSABLE, message=message)
    names = {"degraded": DEGRADED, "nothing to do": NOTHING_TO_DO}
    return Completed(name=names.get(status), message=message, data=data)
