"""Where the result of a job comes from, as its provenance says."""

from typing import Any

from arraycal.calib.dl2.observed import nights_of, observation_span
from arraycal.calib.history.digest import configuration_digest
from arraycal.calib.publish.writing import provenance
from arraycal.config.settings import Settings
from arraycal.flows.jobs.job import Job

__all__ = ["job_provenance"]


def job_provenance(command: str, job: Job, settings: Settings) -> dict[str, Any]:
    """Say what made the result of a job, from what, and when.

    Parameters
    ----------
    command : str
        What the user typed, or the call that stands for it. It may name another night than that
        of the observations: a scheduled run looks back.
    job : Job
        The job.
    settings : Settings
        With the time zone of the site.

    Returns
    -------
    dict
        That of `arraycal.calib.publish.writing.provenance` with ``configuration_digest``, by which
        the history knows the result, and ``nights`` (ISO dates): the one stated, or those of the
        blocks.
    """
    made = provenance(command) | {"configuration_digest": configuration_digest(job.configuration)}
    if job.night is not None:
        return made | {"nights": [job.night.isoformat()]}
    spans = [span for path in job.blocks if (span := observation_span(path))]
    nights = [night.isoformat() for night in nights_of(spans, settings.time_zone)]
    return made | ({"nights": nights} if nights else {})
