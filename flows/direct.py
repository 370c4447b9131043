"""The stages in this process, in the order of the flow, without Prefect."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING

from calib.pipeline import BlockPairs, calibrate
from calib.store import provenance, publish, refuse_existing
from config.settings import Settings
from flows.cli import one_polars_thread
from flows.job import Job
from flows.logs import log_file
from flows.progress import Listener
from tasks.workers import block_stage, cpu_count

if TYPE_CHECKING:
    from calib.result import CalibrationResult

__all__ = ["run_directly"]

log = logging.getLogger("arraycal.flows")


def run_directly(job: Job, settings: Settings, listener: Listener) -> "CalibrationResult":
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
    CalibrationResult
        Published already.

    Raises
    ------
    CannotCompute
        If results exist and may not be replaced, or no block can be used.
    OSError
        If the machine fails.
    """
    refuse_existing(job.output, overwrite=job.overwrite)
    with log_file(job.output, settings.log_level):
        blocks = list(_pairs(job, settings, listener))
        listener.solving()
        made_by = provenance(listener.command)
        result = calibrate(blocks, job.observable, job.configuration, made_by)
        published = publish(result, job.observable, job.output, overwrite=job.overwrite)
        log.info("%s, %s", result.verdict, published.monitoring)
        listener.finished(result, published)
    return result


def _pairs(job: Job, settings: Settings, listener: Listener) -> Iterator[BlockPairs]:
    workers = min(listener.workers or cpu_count(), len(job.blocks))
    listener.started(len(job.blocks))
    with block_stage(
        job.observable, job.configuration, settings, workers, one_polars_thread
    ) as stage:
        # Also for one block: a thread of its own is not torn apart by Ctrl-C.
        pool = ThreadPoolExecutor(workers)
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
