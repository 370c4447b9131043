"""Files of a night below the data folder, and which nights there is something to do for."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from arraycal.calib.dl2.observed import FIRST_NIGHT, dates_in, last_night
from arraycal.calib.nights.kept import standing
from arraycal.calib.nights.night_blocks import LeftOut, NightFiles, night_files
from arraycal.calib.nights.record import NIGHT_FILE, read_night
from arraycal.calib.nights.time_index import TimeIndex
from arraycal.config.errors import ConfigurationError
from arraycal.config.settings import Settings
from arraycal.flows.jobs.outputs import output_folder
from arraycal.flows.jobs.parameters import NightlyParameters, NightOptions
from arraycal.flows.jobs.path_patterns import absolute, fixed_part, search

__all__ = [
    "check_data_folder",
    "find_night",
    "night_folder",
    "nights_to_do",
    "overdue",
    "unfinished_nights",
]

log = logging.getLogger("arraycal.flows")

TIME_INDEX = "observation_times.json"
DAY = timedelta(days=1)


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
    return output_folder(options.output, settings) / night.isoformat()


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
        Sorted out by observation time. A link that leads nowhere, or out of the data folder, is
        left out of every night that it may matter to.

    Raises
    ------
    ConfigurationError
        If it is not known where the data are, or they are not there.
    """
    root = absolute(_data_root(options, settings))
    found = _candidates(night, options.blocks, root)
    times = TimeIndex(settings.cache_root / TIME_INDEX)
    files = night_files(
        night,
        settings.time_zone,
        found.files,
        by_path=[path for path, day in found.by_path.items() if day == night],
        by_next_path=[path for path, day in found.by_path.items() if day != night],
        root=root,
        now=datetime.now(UTC),
        settle_s=options.settle_s,
        time_of=times,
    )
    times.save()
    files = replace(files, left_out=(*files.left_out, *_links_of(night, found, root)))
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
    # Not an empty night: a disk that is not mounted must not look like one.
    if root is None:
        _refuse_missing_folder(options.blocks)
    elif not root.is_dir():
        advice = "Is a disk not mounted?"
        if root == settings.model_copy(update={"data_root": None}).data_folder:
            advice = (
                "It is the default one: `arraycal up` makes it. Set ARRAYCAL_DATA_ROOT, or give "
                "--blocks, for blocks elsewhere."
            )
        raise ConfigurationError(
            f"the data folder {root} is not there (ARRAYCAL_DATA_ROOT). {advice}"
        )
    return root


def _refuse_missing_folder(pattern: str) -> None:
    """Refuse an absolute pattern in a folder that is not there."""
    path = Path(pattern).expanduser()
    fixed = fixed_part(path)
    folder = path.parent if fixed == path else fixed
    if not folder.is_dir():
        raise ConfigurationError(
            f"blocks of nights should match {pattern}, and the folder {folder} is not there. Is a "
            "disk not mounted?"
        )


def check_data_folder(options: NightOptions, settings: Settings) -> None:
    """Look for the folder of the blocks, before anything is written.

    Raises
    ------
    ConfigurationError
        If it is not known where the data are, or they are not there.
    """
    _data_root(options, settings)


@dataclass(frozen=True)
class _Candidates:
    """What matches the pattern: files, links that cannot be followed, and nights by folder."""

    files: list[Path]
    links: dict[Path, str]
    by_path: dict[Path, date]


def _candidates(night: date, pattern: str, root: Path | None) -> _Candidates:
    """Look for a pattern, of the night and of the next one where folders have dates."""
    days = {pattern.format(night=day): day for day in (night, night + DAY)}
    # A folder by the month says of no file in it which night it is of.
    is_by_night = len(days) > 1 and pattern.format(night=night - DAY) not in days
    files: dict[Path, Path] = {}
    links: dict[Path, str] = {}
    by_path: dict[Path, date] = {}
    for text, day in days.items():
        found, refused = search(text, root)
        broken = {path: _broken(path) for path in found if not path.exists()}
        refused |= {path: reason for path, reason in broken.items() if reason}
        for path in found:
            if path not in broken:
                files.setdefault(path.resolve(), path)
        links |= refused
        if is_by_night:
            by_path = dict.fromkeys((*found, *refused), day) | by_path
    return _Candidates(list(files.values()), links, by_path)


def _broken(path: Path) -> str:
    """Say where a link leads that cannot be followed; empty for a name that is not there at all."""
    return f"it is a link to {path.readlink()}, which is not there" if path.is_symlink() else ""


def _links_of(night: date, found: _Candidates, root: Path | None) -> list[LeftOut]:
    """Links that may matter to a night: those of another one say so by their path."""
    below = {path: path.relative_to(root) if root else path for path in found.links}
    stated = {
        path: {found.by_path[path]} if path in found.by_path else dates_in(below[path])
        for path in found.links
    }
    return [
        LeftOut(path, reason)
        for path, reason in found.links.items()
        if not stated[path] or night in stated[path]
    ]


def nights_to_do(parameters: NightlyParameters, settings: Settings, moment: datetime) -> list[date]:
    """Nights of a nightly run: the one asked for, or the last one and unfinished ones before."""
    if parameters.night is not None:
        return [parameters.night]
    night = last_night(moment, settings.time_zone)
    earlier = [night - n * DAY for n in range(parameters.look_back, 0, -1)]
    return [*unfinished_nights(earlier, parameters.options, settings), night]


def unfinished_nights(
    nights: Sequence[date], options: NightOptions, settings: Settings
) -> list[date]:
    """Those nights of which there is more, or something else, than at their last run."""
    return [night for night in nights if _is_unfinished(night, options, settings)]


def _is_unfinished(night: date, options: NightOptions, settings: Settings) -> bool:
    folder = night_folder(night, options, settings)
    record = read_night(folder)
    files = find_night(night, options, settings)
    if record is None:
        return bool(files.blocks)
    found = standing(files, record, folder)
    is_covered = all(
        item is not None and not item.is_outdated
        for item in (record.of(wanted.calibration) for wanted in options.calibrations)
    )
    return found.is_news(record) or bool(files.blocks and not is_covered and not found.is_kept)


def overdue(parameters: NightlyParameters, settings: Settings, moment: datetime) -> tuple[str, ...]:
    """Say which blocks no run of the schedule will take: their nights are too long ago.

    Parameters
    ----------
    parameters : NightlyParameters
        Of the run. Where the pattern has the night, folders of older nights are not looked at.
    settings : Settings
        Where things are.
    moment : datetime
        When the run was meant to start.

    Returns
    -------
    tuple of str
        A remark, or none.
    """
    options = parameters.options
    if parameters.night is not None or "{night" in options.blocks:
        return ()
    night = last_night(moment, settings.time_zone)
    first = night - parameters.look_back * DAY
    older: dict[date, list[Path]] = {}
    for day, path in find_night(night, options, settings).others:
        if FIRST_NIGHT <= day < first:
            older.setdefault(day, []).append(path)
    left = {
        day: len(_not_taken(paths, night_folder(day, options, settings)))
        for day, paths in sorted(older.items())
    }
    return _overdue({day: n for day, n in left.items() if n}, first)


def _overdue(left: dict[date, int], first: date) -> tuple[str, ...]:
    if not left:
        return ()
    n_blocks = sum(left.values())
    blocks = "1 block belongs" if n_blocks == 1 else f"{n_blocks} blocks belong"
    action = f"run arraycal nightly --night {min(left)}"
    if len(left) > 1:
        action = f"run a backfill from {min(left)} to {max(left)}"
    text = f"{blocks} to nights before {first}, and no run of the schedule takes them: {action}"
    log.warning("%s", text)
    return (text,)


def _not_taken(paths: Sequence[Path], folder: Path) -> list[Path]:
    """Files of a night that came after its last run; its record is read only if there are some."""
    try:
        noted = (folder / NIGHT_FILE).stat().st_mtime_ns
    except OSError:
        return list(paths)
    late = [path for path in paths if _changed_ns(path) > noted]
    record = read_night(folder) if late else None
    known = {Path(text).name for text, _ in record.blocks} if record is not None else set()
    return [path for path in late if path.name not in known]


def _changed_ns(path: Path) -> int:
    """When a file came or changed; 0 if it has just gone."""
    try:
        return path.stat().st_ctime_ns
    except OSError:
        return 0
