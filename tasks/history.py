"""The history as a Prefect task."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Failed
from pydantic import SecretStr

from arraycal.calib.errors import ArraycalError
from arraycal.calib.history.publishing import record_result
from arraycal.calib.result.result import CalibrationResult
from arraycal.config.errors import ConfigurationError
from arraycal.config.models import Configuration
from arraycal.tasks.retries import RETRIES, RETRY_DELAYS_S, may_pass

__all__ = ["record"]


@task(
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_pass,
)
def record(
    result: CalibrationResult,
    configuration: Configuration,
    result_path: Path,
    *,
    url: SecretStr,
    time_zone: str,
    night: date | None,
) -> int:
    """Put a published result into the history; ``url`` may hold a password."""
    try:
        return record_result(
            result,
            configuration,
            result_path,
            url=url.get_secret_value(),
            time_zone=time_zone,
            night=night,
        )
    except (ArraycalError, ConfigurationError) as error:
        # Expected, so a state and no traceback; Prefect takes a state for the task's own.
        return Failed(message=str(error))  # type: ignore[return-value]
