"""The stages after the blocks as Prefect tasks: solve, publish, show."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed

from arraycal.calib import calibrate as pipeline
from arraycal.calib import report
from arraycal.calib.blocks.stage import BlockPairs
from arraycal.calib.errors import ArraycalError, NothingToDo, WrongUsage
from arraycal.calib.observables import Observable
from arraycal.calib.publish import writing as store
from arraycal.calib.result.result import CalibrationResult
from arraycal.calib.spread import Spread
from arraycal.config.models import Configuration
from arraycal.tasks.retries import RETRIES, RETRY_DELAYS_S, may_pass

__all__ = ["NOTHING_TO_DO", "UNUSABLE", "WRONG_USAGE", "publish", "show", "solve"]

#: Name of the state of a run that computed nothing, or nothing that may be used.
UNUSABLE = "Unusable"
#: Names of the states of a run that found nothing to calibrate, and of one that was asked for
#: something these data do not have.
NOTHING_TO_DO, WRONG_USAGE = "NothingToDo", "WrongUsage"
#: Columns of the coefficient table in the UI.
SHOWN = ("tel_type", "tel_id", "value", "error", "systematic", "n_events", "flag", "reason")


@task(
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_pass,
)
def solve(
    blocks: list[BlockPairs],
    observable: Observable,
    configuration: Configuration,
    provenance: dict[str, Any],
    spread: Spread,
) -> CalibrationResult:
    """Merge the blocks, solve the array, judge; `spread` sums up the rows of large nights."""
    try:
        return pipeline.calibrate(blocks, observable, configuration, provenance, spread)
    except ArraycalError as error:
        # Expected, so a state and no traceback; Prefect takes a state for the task's own.
        if isinstance(error, NothingToDo):
            return Completed(name=NOTHING_TO_DO, message=str(error))  # type: ignore[return-value]
        name = WRONG_USAGE if isinstance(error, WrongUsage) else UNUSABLE
        return Failed(name=name, message=str(error))  # type: ignore[return-value]


@task(
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_pass,
)
def publish(
    result: CalibrationResult, observable: Observable, output: Path, *, overwrite: bool
) -> store.Published:
    """Write the monitoring file, the numbers and the report."""
    return store.publish(result, observable, output, overwrite=overwrite)


@task(cache_policy=NO_CACHE, persist_result=False)
def show(result: CalibrationResult) -> None:
    """Put the coefficients and the report into the Prefect UI."""
    key = f"arraycal-{result.calibration}"
    rows = [_finite(row) for row in result.telescopes.select(SHOWN).iter_rows(named=True)]
    create_table_artifact(key=key, table=rows, description=str(result.verdict))
    create_markdown_artifact(
        key=f"{key}-report", markdown=report.markdown(result), description=str(result.verdict)
    )


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    # One Infinity and the UI shows nothing of the table.
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
