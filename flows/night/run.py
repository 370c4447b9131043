"""One night, or several: blocks found, calibrations in order, one verdict each. No Prefect.

What runs the stages of one calibration is passed in: tasks of Prefect, or plain calls.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from arraycal.calib.blocks.stage import BlockPairs
from arraycal.calib.disk.files import file_digest
from arraycal.calib.disk.locks import exclusive
from arraycal.calib.dl2.observed import refuse_impossible
from arraycal.calib.errors import ArraycalError, NothingToDo
from arraycal.calib.history.digest import configuration_digest
from arraycal.calib.history.known import is_recorded
from arraycal.calib.history.publishing import NOT_RECORDED
from arraycal.calib.nights.kept import Standing, kept_calibrations, kept_record, standing
from arraycal.calib.nights.night_blocks import NightFiles
from arraycal.calib.nights.record import (
    CalibrationRecord,
    NightRecord,
    file_digests,
    fingerprint,
    judge_night,
    made_at,
    read_night,
    write_night,
)
from arraycal.calib.observables import ENERGY_CROSS, ENERGY_INTER, IMAGE_INTER, OBSERVABLES
from arraycal.calib.publish.writing import INDEX, RESULT, own_version, provenance, reserved
from arraycal.config.dumping import to_yaml
from arraycal.config.errors import ConfigurationError
from arraycal.config.settings import Settings
from arraycal.flows.jobs.job import Job, Outcome, configured
from arraycal.flows.jobs.logs import log_file
from arraycal.flows.jobs.parameters import (
    NightCalibration,
    NightlyParameters,
    NightOptions,
    in_order,
)
from arraycal.flows.night.find_blocks import (
    check_data_folder,
    find_night,
    night_folder,
    nights_to_do,
    overdue,
    unfinished_nights,
)
from arraycal.flows.night.index import index_nights
from arraycal.flows.night.trend_news import trend_news

if TYPE_CHECKING:
    from arraycal.calib.report.trends_page import SeenTrends

__all__ = [
    "Stages",
    "calibrate_night",
    "calibrate_nights",
    "find_night",
    "night_folder",
    "nights_to_do",
    "run_nightly",
    "unfinished_nights",
]

log = logging.getLogger("arraycal.flows")

LOCK_FILE = ".lock"


@dataclass(frozen=True)
class Stages:
    """What runs the two stages of a calibration.

    Parameters
    ----------
    pairs : callable
        Job and settings to the outcome of every block.
    solve : callable
        These, the job and settings to a published outcome. It raises `ArraycalError` when
        nothing can be computed.
    command : str
        What was called, for the provenance.
    show_trends : callable
        Hears of the trends over the nights when the index is new.
    """

    pairs: Callable[[Job, Settings], list[BlockPairs]]
    solve: Callable[[list[BlockPairs], Job, Settings], Outcome]
    command: str
    show_trends: Callable[["list[SeenTrends]"], None] = lambda _: None


def run_nightly(
    parameters: NightlyParameters, settings: Settings, moment: datetime, stages: Stages
) -> list[NightRecord]:
    """Calibrate the night that is asked for, or the last one and unfinished ones before it.

    Parameters
    ----------
    parameters : NightlyParameters
        What was asked for.
    settings : Settings
        Where things are.
    moment : datetime
        When the run was meant to start.
    stages : Stages
        What runs a calibration.

    Returns
    -------
    list of NightRecord
        See `calibrate_nights`. The last one says which blocks are of nights before them all.
    """
    if parameters.night is not None:
        return calibrate_nights([parameters.night], parameters.options, settings, stages)
    nights = nights_to_do(parameters, settings, moment)
    remarks = {nights[-1]: overdue(parameters, settings, moment)}
    return calibrate_nights(nights, parameters.options, settings, stages, remarks)


def calibrate_nights(
    nights: Sequence[date],
    options: NightOptions,
    settings: Settings,
    stages: Stages,
    remarks: Mapping[date, tuple[str, ...]] = MappingProxyType({}),
) -> list[NightRecord]:
    """Calibrate nights one after the other, then bring their index up to date.

    See `calibrate_night`. Nights that were done before the machine failed are in the index, too.

    Raises
    ------
    WrongUsage
        If one of them is after today or long before any telescope; nothing is done then.
    ConfigurationError
        If the data folder is not there; nothing is done then either.
    """
    refuse_impossible(nights, datetime.now(UTC), settings.time_zone)
    check_data_folder(options, settings)
    records: list[NightRecord] = []
    try:
        for night in nights:
            more = remarks.get(night, ())
            records.append(calibrate_night(night, options, settings, stages, more))
            log.info("%s", records[-1])
    except Exception:
        _index(records, options, settings, stages)
        raise
    _index(records, options, settings, stages)
    return records


def _index(
    records: Sequence[NightRecord], options: NightOptions, settings: Settings, stages: Stages
) -> None:
    """Bring the index up to date; what is wrong with it costs no night."""
    if not records:
        return
    root = night_folder(records[-1].night, options, settings).parent
    try:
        seen = index_nights(root, options, settings)
        if seen is not None:
            log.info("the index of the nights is new: %s", root / INDEX)
            stages.show_trends(seen)
    except Exception:  # the nights are published; the next run tries again
        log.exception("the index of the nights in %s could not be written", root)


def calibrate_night(
    night: date,
    options: NightOptions,
    settings: Settings,
    stages: Stages,
    remarks: tuple[str, ...] = (),
) -> NightRecord:
    """Find the blocks of a night, run its calibrations, judge, leave ``night.json``.

    Parameters
    ----------
    night : date
        Date of the evening.
    options : NightOptions
        What to do.
    settings : Settings
        Where things are.
    stages : Stages
        What runs a calibration.
    remarks : tuple of str
        What else the record should say.

    Returns
    -------
    NightRecord
        The verdict; it is on disk already. Results that cannot be made again, because blocks of
        theirs are no longer there, are kept.

    Raises
    ------
    ConfigurationError
        If the options make no sense on this machine.
    OSError
        If the machine fails. What was published stays, and the next run goes on from there.
    """
    folder = night_folder(night, options, settings)
    with exclusive(folder / LOCK_FILE), log_file(folder, settings.log_level):
        files = find_night(night, options, settings)
        jobs = [_job(item, files, folder, settings) for item in options.calibrations]
        before = read_night(folder)
        found = standing(files, before, folder, again=options.again)
        if before is not None and found.is_kept:
            record = kept_record(before, found, [job.observable.name for job in jobs])
        else:
            how = _How(before, settings, stages, options.again)
            record = _calibrated(found, jobs, folder, how)
        record = replace(record, remarks=(*record.remarks, *remarks))
        write_night(folder, record)
        return record


@dataclass(frozen=True)
class _How:
    """What is the same for all calibrations of a night."""

    before: NightRecord | None
    settings: Settings
    stages: Stages
    again: str


def _calibrated(found: Standing, jobs: Sequence[Job], folder: Path, how: _How) -> NightRecord:
    """Run the calibrations of a night; others that it has already stay in its record."""
    made = {job.observable.name for job in jobs}
    records = kept_calibrations(how.before, made, found.blocks, folder)
    for job in jobs if found.blocks else []:
        known = {
            str(folder / record.folder / RESULT): record.fingerprint
            for record in records
            if record.folder and record.fingerprint
        }
        records.append(_calibrate(_with_energies(job, records), how, known))
    records = in_order(records)
    status, reasons = judge_night(found.files, records)
    files = found.files
    return NightRecord(
        night=files.night,
        time_zone=how.settings.time_zone,
        status=status,
        reasons=reasons,
        remarks=found.remarks,
        is_complete=not files.waiting,
        calibrations=tuple(records),
        blocks=found.blocks,
        waiting=tuple((str(item.path), item.reason) for item in files.waiting),
        left_out=tuple((str(item.path), item.reason) for item in files.left_out),
        provenance=provenance(how.stages.command),
    )


def _job(item: NightCalibration, files: NightFiles, folder: Path, settings: Settings) -> Job:
    return Job(
        observable=OBSERVABLES[item.calibration],
        configuration=configured(item, settings),
        blocks=files.blocks,
        output=folder / item.calibration,
        overwrite=True,
        night=files.night,
        record=settings.database_url is not None or settings.output_root is not None,
    )


def _with_energies(job: Job, done: Sequence[CalibrationRecord]) -> Job:
    """Compare image sizes with the energies of the same night, if nothing else is asked for."""
    inter = job.configuration.CalculateInterCalibration
    if job.observable != IMAGE_INTER or inter.compare is not None:
        return job
    by_name = {record.calibration: record for record in done}
    for name in (ENERGY_INTER.name, ENERGY_CROSS.name):
        record = by_name.get(name)
        if record is not None and record.folder and record.status != "unusable":
            path = job.output.parent / record.folder / RESULT
            compared = inter.model_copy(update={"compare": str(path)})
            changed = {"CalculateInterCalibration": compared}
            return replace(job, configuration=job.configuration.model_copy(update=changed))
    return job


def _calibrate(job: Job, how: _How, known: Mapping[str, str]) -> CalibrationRecord:
    """Run one calibration, or find that its results are what they would be.

    `known` has the fingerprints of results of this night, by path.
    """
    with log_file(job.output, how.settings.log_level), reserved(job.output, wait=True):
        blocks = how.stages.pairs(job, how.settings)
        key = _fingerprint(job, blocks, known)
        record = CalibrationRecord(
            calibration=job.observable.name,
            status="unusable",
            fingerprint=key,
            n_blocks=len(blocks),
            n_cached=sum(block.cached for block in blocks),
            failed=tuple(str(block.path) for block in blocks if block.status != "ok"),
        )
        old = how.before.of(record.calibration) if how.before else None
        is_same = old is not None and old.fingerprint == key
        if how.again != "changed" or not old or not is_same or not old.is_intact(job.output.parent):
            return _solved(record, blocks, job, how)
        old = replace(old, is_reused=True, is_outdated=False)
        if _is_known(old, job, how.settings):
            log.info("%s: nothing has changed, the results stay", record.calibration)
            return replace(old, n_cached=record.n_cached, failed=record.failed)
        log.info("%s: nothing has changed, but it is not in the history", record.calibration)
        solved = _solved(record, blocks, job, how)
        # Whoever is told of trends has heard of these when they were new.
        return replace(solved, is_reused=True, trends=old.trends) if solved.fingerprint else solved


def _is_known(old: CalibrationRecord, job: Job, settings: Settings) -> bool:
    """Whether the history, if the result is for it, holds the result; True if nobody can tell."""
    if not job.record or job.night is None:
        return True
    try:
        digest = configuration_digest(job.configuration)
        return is_recorded(settings.history_url, job.night, old.calibration, digest, old.made)
    except NOT_RECORDED as error:
        log.warning("%s: whether the history holds it is not known: %s", old.calibration, error)
        return True


def _fingerprint(job: Job, blocks: Sequence[BlockPairs], known: Mapping[str, str]) -> str:
    """Hash of what decides a result; one of this night that is written again stays the same."""
    section = job.configuration.CalculateCrossCalibration
    named = {name: getattr(section, name) for name in ("inter_calibration", "simulation_reference")}
    named["compare"] = job.configuration.CalculateInterCalibration.compare
    inputs = {
        name: known.get(path) or file_digest(Path(path))
        for name, path in named.items()
        if path is not None
    }
    text = to_yaml(job.configuration)
    return fingerprint(job.observable.name, text, blocks, own_version(), inputs)


def _solved(
    record: CalibrationRecord,
    blocks: list[BlockPairs],
    job: Job,
    how: _How,
) -> CalibrationRecord:
    try:
        outcome = how.stages.solve(blocks, job, how.settings)
    except NothingToDo as error:
        return replace(record, status="nothing to do", reasons=(str(error),))
    except (ArraycalError, ConfigurationError) as error:
        log.error("%s: %s", record.calibration, error)  # noqa: TRY400  the message says it all
        return replace(record, reasons=(str(error),))
    record = replace(
        record,
        status=outcome.verdict.status,
        reasons=outcome.verdict.reasons,
        folder=job.output.name,
        digests=file_digests(job.output),
        outliers=outcome.outliers,
        made=made_at(job.output),
    )
    if not outcome.unrecorded:
        return replace(record, trends=_trends(job, how.settings))
    # Without a fingerprint the next run does it again, and so tells the history again.
    reasons = (*record.reasons, f"not in the history: {outcome.unrecorded}")
    status = "degraded" if record.status == "usable" else record.status
    return replace(record, status=status, reasons=reasons, fingerprint="")


def _trends(job: Job, settings: Settings) -> tuple[str, ...]:
    if not job.record or job.night is None:
        return ()
    return trend_news(job.observable.name, job.night, job.configuration, settings)
