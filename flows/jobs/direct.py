"""The stages in this process, in the order of the flow, without Prefect."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial

from arraycal.calib.blocks.stage import BlockPairs
from arraycal.calib.calibrate import calibrate
from arraycal.calib.history.publishing import NOT_RECORDED, record_result
from arraycal.calib.publish.writing import Published, publish, refuse_existing, reserved
from arraycal.calib.result.result import CalibrationResult
from arraycal.calib.result.verdict import outliers_of
from arraycal.config.settings import Settings
from arraycal.flows.jobs.job import Job, Outcome
from arraycal.flows.jobs.logs import log_file
from arraycal.flows.jobs.origin import job_provenance
from arraycal.flows.jobs.progress import Listener
from arraycal.tasks.one_thread import one_polars_thread
from arraycal.tasks.workers import block_stage, map_in_threads, open_workers, spreading

__all__ = ["make_pairs", "run_directly", "solve_and_publish"]

log = logging.getLogger("arraycal.flows")


def run_directly(job: Job, settings: Settings, listener: Listener) -> Outcome:
    """Run a job in this process.

    Parameters
    ----------
    job : Job
        What to do.
    settings : Settings
        How.
    listener : Listener
        Hears of every step.

    Returns
    -------
    Outcome
        Published already; the listener has heard of the result.

    Raises
    ------
    CannotCompute
        If results exist and may not be replaced, or no block can be used.
    OSError
        If the machine fails.
    """
    refuse_existing(job.output, overwrite=job.overwrite)
    with log_file(job.output, settings.log_level), reserved(job.output):
        refuse_existing(job.output, overwrite=job.overwrite)  # also what has just been completed
        blocks = make_pairs(job, settings, listener)
        return solve_and_publish(blocks, job, settings, listener)


def make_pairs(job: Job, settings: Settings, listener: Listener) -> list[BlockPairs]:
    """Make the PAIRS of every block."""
    return list(_pairs(job, settings, listener))


def solve_and_publish(
    blocks: list[BlockPairs], job: Job, settings: Settings, listener: Listener
) -> Outcome:
    """Solve and publish what the blocks give.

    Raises
    ------
    ArraycalError
        If they give nothing.
    OSError
        If the machine fails.
    """
    listener.solving()
    made_by = job_provenance(listener.command, job, settings)
    opening = partial(open_workers, settings, listener.workers, one_polars_thread, listener.remark)
    with spreading(opening, map_in_threads) as spread:
        result = calibrate(blocks, job.observable, job.configuration, made_by, spread)
    published = publish(result, job.observable, job.output, overwrite=job.overwrite)
    log.info("%s, %s", result.verdict, published.monitoring)
    listener.finished(result, published)
    unrecorded = _record(result, job, published, settings, listener)
    return Outcome(result.verdict, published, unrecorded, outliers_of(result.telescopes))


def _record(
    result: CalibrationResult,
    job: Job,
    published: Published,
    settings: Settings,
    listener: Listener,
) -> str:
    """Return why the history did not take the result; empty if it did, or was not to."""
    if not job.record:
        return ""
    try:
        record_result(
            result,
            job.configuration,
            published.result,
            url=settings.history_url,
            time_zone=settings.time_zone,
            night=job.night,
        )
    except NOT_RECORDED as error:
        log.warning("the history did not take the result: %s", error)
        listener.not_recorded(str(error))
        return str(error)
    return ""


def _pairs(job: Job, settings: Settings, listener: Listener) -> Iterator[BlockPairs]:
    listener.started(len(job.blocks))
    with block_stage(
        job.observable,
        job.configuration,
        settings,
        listener.workers,
        one_polars_thread,
        listener.remark,
    ) as stage:
        # Also for one block: a thread of its own is not torn apart by Ctrl-C.
        pool = ThreadPoolExecutor(min(stage.at_once, len(job.blocks)))
        try:
            for future in as_completed([pool.submit(stage, path) for path in job.blocks]):
                block = future.result()
                listener.block_done(block)
                yield block
        except KeyboardInterrupt:
            listener.stopping()
            raise
        finally:  # blocks under way end in order, the others never start
            pool.shutdown(wait=True, cancel_futures=True)
