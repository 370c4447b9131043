"""One night, or several: blocks found, calibrations in order, one verdict each. No Prefect.

What runs the stages of one calibration is passed in: tasks of Prefect, or plain calls.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from calib.blocks import BlockPairs
from calib.cache import file_digest
from calib.errors import ArraycalError, NothingToDo
from calib.locks import exclusive
from calib.night_files import NightFiles, night_files
from calib.night_index import INDEX
from calib.night_record import (
    CalibrationRecord,
    NightRecord,
    file_digests,
    file_stamp,
    fingerprint,
    judge_night,
    read_night,
    write_night,
)
from calib.nights import last_night
from calib.observables import ENERGY_CROSS, ENERGY_INTER, IMAGE_INTER, OBSERVABLES
from calib.store import RESULT, own_version, provenance, remove_scratch
from calib.time_index import TimeIndex
from config.dumping import to_yaml
from config.errors import ConfigurationError
from config.settings import Settings
from flows.job import Job, Outcome, configured, inside, look_for
from flows.logs import log_file
from flows.night_index import index_nights
from flows.parameters import NightCalibration, NightlyParameters, NightOptions
from flows.trend_news import trend_news

if TYPE_CHECKING:
    from calib.report.trends_page import SeenTrends

__all__ = [
    "Stages",
    "calibrate_night",
    "calibrate_nights",
    "find_night",
    "night_folder",
    "nights_to_do",
    "unfinished_nights",
]

log = logging.getLogger("arraycal.flows")

LOCK_FILE = ".lock"
TIME_INDEX = "observation_times.json"


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


def calibrate_nights(
    nights: Iterable[date], options: NightOptions, settings: Settings, stages: Stages
) -> list[NightRecord]:
    """Calibrate nights one after the other, then bring their index up to date.

    See `calibrate_night`. Nights that were done before the machine failed are in the index, too.
    """
    records: list[NightRecord] = []
    try:
        for night in nights:
            records.append(calibrate_night(night, options, settings, stages))
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
    night: date, options: NightOptions, settings: Settings, stages: Stages
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

    Returns
    -------
    NightRecord
        The verdict; it is on disk already.

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
        stamps = tuple((str(path), file_stamp(path)) for path in files.blocks)
        jobs = [_job(item, files, folder, settings) for item in options.calibrations]
        before = read_night(folder)
        records: list[CalibrationRecord] = []
        for job in jobs if files.blocks else []:
            ready = _with_energies(job, records)
            records.append(_calibrate(ready, before, settings, stages, again=options.again))
        status, reasons = judge_night(files, records)
        record = NightRecord(
            night=night,
            time_zone=settings.time_zone,
            status=status,
            reasons=reasons,
            is_complete=not files.waiting,
            calibrations=tuple(records),
            blocks=stamps,
            waiting=tuple((str(item.path), item.reason) for item in files.waiting),
            left_out=tuple((str(item.path), item.reason) for item in files.left_out),
            provenance=provenance(stages.command),
        )
        write_night(folder, record)
        return record


def night_folder(night: date, options: NightOptions, settings: Settings) -> Path:
    """Folder of the results of a night.

    Raises
    ------
    ConfigurationError
        If it is not known where results go.
    """
    root = settings.output_root
    if root is None and not Path(options.output).expanduser().is_absolute():
        raise ConfigurationError(
            f"results of nights should go to {options.output!r}, and it is not known from where: "
            "set ARRAYCAL_OUTPUT_ROOT, or give an absolute folder as output"
        )
    absolute = None if root is None else root.resolve()
    return inside(options.output, absolute, "output_root") / night.isoformat()


def find_night(night: date, options: NightOptions, settings: Settings) -> NightFiles:
    """Find the files of a night.

    Parameters
    ----------
    night : date
        Date of the evening.
    options : NightOptions
        Its pattern: with ``{night:...}``, the folders of that date and of the next one are
        searched, because some sites begin a new one at midnight.
    settings : Settings
        Time zone, data folder, and the cache of observation times.

    Returns
    -------
    NightFiles
        Sorted out by observation time.

    Raises
    ------
    ConfigurationError
        If it is not known where the data are, or they are not there.
    """
    root = _data_root(options, settings)
    named = _candidates(options.blocks, night, root)
    more = named
    if "{night" in options.blocks:
        more = named + _candidates(options.blocks, night + timedelta(days=1), root)
    else:
        named = []
    times = TimeIndex(settings.cache_root / TIME_INDEX)
    files = night_files(
        night,
        settings.time_zone,
        dict.fromkeys(more),
        by_path=named,
        now=datetime.now(UTC),
        settle_s=options.settle_s,
        time_of=times,
    )
    times.save()
    for item in (*files.left_out, *files.waiting):
        log.warning("%s is left out: %s", item.path, item.reason)
    log.info(
        "night %s: %d blocks; %d files are of other nights",
        night,
        len(files.blocks),
        files.n_others,
    )
    return files


def _data_root(options: NightOptions, settings: Settings) -> Path | None:
    root = settings.data_root
    if root is None and not Path(options.blocks).expanduser().is_absolute():
        raise ConfigurationError(
            f"blocks of nights should match {options.blocks!r}, and it is not known where: set "
            "ARRAYCAL_DATA_ROOT, or give an absolute pattern"
        )
    if root is not None and not root.is_dir():
        # Not an empty night: a disk that is not mounted must not look like one.
        raise ConfigurationError(
            f"the data folder {root} is not there (ARRAYCAL_DATA_ROOT). Is a disk not mounted?"
        )
    return root


def _candidates(pattern: str, night: date, root: Path | None) -> list[Path]:
    found = look_for([pattern.format(night=night)], root, quiet=True)
    return [path for path in found if path.exists()]


def nights_to_do(parameters: NightlyParameters, settings: Settings, moment: datetime) -> list[date]:
    """Nights of a nightly run: the one asked for, or the last one and unfinished ones before."""
    if parameters.night is not None:
        return [parameters.night]
    night = last_night(moment, settings.time_zone)
    earlier = [night - timedelta(days=n) for n in range(parameters.look_back, 0, -1)]
    return [*unfinished_nights(earlier, parameters.options, settings), night]


def unfinished_nights(
    nights: Sequence[date], options: NightOptions, settings: Settings
) -> list[date]:
    """Those nights that have other blocks than at their last complete run."""
    return [night for night in nights if _is_unfinished(night, options, settings)]


def _is_unfinished(night: date, options: NightOptions, settings: Settings) -> bool:
    record = read_night(night_folder(night, options, settings))
    files = find_night(night, options, settings)
    stamps = {(str(path), file_stamp(path)) for path in files.blocks}
    if record is None:
        return bool(stamps)
    is_covered = all(record.of(item.calibration) for item in options.calibrations)
    return set(record.blocks) != stamps or bool(stamps and not is_covered)


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


def _calibrate(
    job: Job,
    before: NightRecord | None,
    settings: Settings,
    stages: Stages,
    *,
    again: str,
) -> CalibrationRecord:
    """Run one calibration, or find that its results are what they would be."""
    remove_scratch(job.output)
    with log_file(job.output, settings.log_level):
        blocks = stages.pairs(job, settings)
        key = _fingerprint(job, blocks)
        record = CalibrationRecord(
            calibration=job.observable.name,
            status="unusable",
            fingerprint=key,
            n_blocks=len(blocks),
            n_cached=sum(block.cached for block in blocks),
        )
        old = before.of(record.calibration) if before else None
        is_same = old is not None and old.fingerprint == key
        if again == "changed" and old and is_same and old.is_intact(job.output.parent):
            log.info("%s: nothing has changed, the results stay", record.calibration)
            return replace(old, n_cached=record.n_cached, is_reused=True)
        return _solved(record, blocks, job, settings, stages)


def _fingerprint(job: Job, blocks: Sequence[BlockPairs]) -> str:
    section = job.configuration.CalculateCrossCalibration
    named = {name: getattr(section, name) for name in ("inter_calibration", "simulation_reference")}
    named["compare"] = job.configuration.CalculateInterCalibration.compare
    inputs = {name: file_digest(Path(path)) for name, path in named.items() if path is not None}
    text = to_yaml(job.configuration)
    return fingerprint(job.observable.name, text, blocks, own_version(), inputs)


def _solved(
    record: CalibrationRecord,
    blocks: list[BlockPairs],
    job: Job,
    settings: Settings,
    stages: Stages,
) -> CalibrationRecord:
    try:
        outcome = stages.solve(blocks, job, settings)
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
    )
    if not outcome.unrecorded:
        return replace(record, trends=_trends(job, settings))
    # Without a fingerprint the next run does it again, and so tells the history again.
    reasons = (*record.reasons, f"not in the history: {outcome.unrecorded}")
    status = "degraded" if record.status == "usable" else record.status
    return replace(record, status=status, reasons=reasons, fingerprint="")


def _trends(job: Job, settings: Settings) -> tuple[str, ...]:
    if not job.record or job.night is None:
        return ()
    return trend_news(job.observable.name, job.night, job.configuration, settings)
