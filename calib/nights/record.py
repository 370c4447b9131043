"""The verdict on a night: one ``night.json`` per night, for machines and for the next run.

It is written last, so whoever sees it sees the results it speaks of, and it says what they were
made from: a later run with the same blocks, configuration and version finds its results here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from arraycal.calib.disk.files import file_digest, sync
from arraycal.calib.disk.naming import naming
from arraycal.calib.disk.texts import read_json
from arraycal.calib.errors import CannotCompute
from arraycal.calib.publish.writing import FILES, RESULT
from arraycal.calib.schema import SCHEMA_ID

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from arraycal.calib.blocks.stage import BlockPairs
    from arraycal.calib.nights.night_blocks import NightFiles

__all__ = [
    "NIGHT_FILE",
    "CalibrationRecord",
    "NightRecord",
    "NightStatus",
    "file_digests",
    "file_stamp",
    "fingerprint",
    "judge_night",
    "load_night",
    "made_at",
    "read_night",
    "write_night",
]

NIGHT_FILE = "night.json"
#: Layout of ``night.json``; another number is not read.
NIGHT_SCHEMA = 1
#: What reading a damaged one raises.
DAMAGES = (ValueError, KeyError, TypeError, AttributeError, RecursionError)

NightStatus = Literal["usable", "degraded", "unusable", "nothing to do"]
#: Lists of texts in the record of a calibration.
LISTS = ("reasons", "outliers", "trends", "failed")
#: Of a calibration with which nothing is wrong.
SOUND = ("usable", "nothing to do")


@dataclass(frozen=True)
class CalibrationRecord:
    """Outcome of one calibration of a night.

    Parameters
    ----------
    calibration : str
        Name of the observable.
    status : {"usable", "degraded", "unusable", "nothing to do"}
        The verdict.
    reasons : tuple of str
        What is wrong with it.
    fingerprint : str
        Hash of everything the result depends on: see `fingerprint`.
    folder : str
        Folder of the results, relative to that of the night; empty without results.
    digests : dict of str to str
        Hash of every result file by name.
    n_blocks, n_cached : int
        Blocks asked for, and how many of them were in the cache already.
    is_reused : bool
        Whether the results of an earlier run were found unchanged.
    outliers : tuple of str
        Telescopes that stand out from their siblings, as ``MST 7``.
    trends : tuple of str
        Telescopes whose trend this night has given a flag, each with what was found.
    made : str
        When the results were made, ISO 8601; empty without results.
    is_outdated : bool
        Whether the night has got other blocks since, in a run of other calibrations.
    failed : tuple of str
        Paths of blocks that could not be used; no result stands on them.
    """

    calibration: str
    status: NightStatus
    reasons: tuple[str, ...] = ()
    fingerprint: str = ""
    folder: str = ""
    digests: dict[str, str] = field(default_factory=dict)
    n_blocks: int = 0
    n_cached: int = 0
    is_reused: bool = False
    outliers: tuple[str, ...] = ()
    trends: tuple[str, ...] = ()
    made: str = ""
    is_outdated: bool = False
    failed: tuple[str, ...] = ()

    def has_results(self, night_folder: Path) -> bool:
        """Whether result files are on disk, of whatever content."""
        return bool(self.folder) and all(
            (night_folder / self.folder / name).is_file() for name in FILES
        )

    def is_intact(self, night_folder: Path) -> bool:
        """Whether the results are on disk exactly as they were published."""
        if not self.folder or set(self.digests) != set(FILES):
            return False
        return file_digests(night_folder / self.folder) == self.digests


@dataclass(frozen=True)
class NightRecord:
    """The verdict on a night.

    Parameters
    ----------
    night : date
        Date of the evening.
    time_zone : str
        Noon to noon on which clock.
    status : {"usable", "degraded", "unusable", "nothing to do"}
        The verdict.
    reasons : tuple of str
        What is wrong.
    remarks : tuple of str
        What one should know, and is not wrong with the results.
    is_complete : bool
        False while files of the night are still being written.
    calibrations : tuple of CalibrationRecord
        In the order of their runs.
    blocks : tuple of (str, str)
        Path of every file that was calibrated, and its `file_stamp` before.
    waiting, left_out : tuple of (str, str)
        Path and reason of files that were not.
    provenance : dict
        Versions, command, time.
    """

    night: date
    time_zone: str
    status: NightStatus
    reasons: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    is_complete: bool = True
    calibrations: tuple[CalibrationRecord, ...] = ()
    blocks: tuple[tuple[str, str], ...] = ()
    waiting: tuple[tuple[str, str], ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """``2026-11-22 degraded: energy-inter: 1 block left out ...``."""
        notes = "; ".join((*self.reasons, *self.remarks))
        return f"{self.night} {self.status}{f': {notes}' if notes else ''}"

    def of(self, calibration: str) -> CalibrationRecord | None:
        """Record of one calibration."""
        found = (item for item in self.calibrations if item.calibration == calibration)
        return next(found, None)


def fingerprint(
    calibration: str,
    configuration: str,
    blocks: Sequence[BlockPairs],
    version: str,
    inputs: Mapping[str, str] | None = None,
) -> str:
    """Hash of everything that decides a result.

    Parameters
    ----------
    calibration : str
        Name of the observable.
    configuration : str
        All options as text.
    blocks : sequence of BlockPairs
        In any order.
    version : str
        Version of arraycal.
    inputs : mapping of str to str, optional
        Hashes of other files this one stands on.

    Returns
    -------
    str
        Hexadecimal; equal for equal results.
    """
    files = sorted((block.digest, block.status, str(block.path), block.reason) for block in blocks)
    content = [SCHEMA_ID, version, calibration, configuration, files, dict(inputs or {})]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def file_stamp(path: Path) -> str:
    """Size and modification time of a file, empty if it is gone: tells whether it is a new one."""
    try:
        found = path.stat()
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"


def file_digests(folder: Path) -> dict[str, str]:
    """Hash of every result file of a folder by name; a file that is not there is left out."""
    return {name: file_digest(folder / name) for name in FILES if (folder / name).is_file()}


def made_at(folder: Path) -> str:
    """When the result in a folder was made, ISO 8601; empty if it does not say."""
    try:
        content = read_json(folder / RESULT)
        return datetime.fromisoformat(content["provenance"]["time_utc"]).isoformat()
    except (OSError, *DAMAGES):
        return ""


def judge_night(
    files: NightFiles, calibrations: Sequence[CalibrationRecord]
) -> tuple[NightStatus, tuple[str, ...]]:
    """One verdict from those of the calibrations and from what was left out.

    Parameters
    ----------
    files : NightFiles
        What was found.
    calibrations : sequence of CalibrationRecord
        What was made of it.

    Returns
    -------
    status : str
        ``nothing to do`` without blocks; ``unusable`` when no calibration can be used;
        ``degraded`` when something is wrong with one of them or with a file, or one was made from
        other blocks; else ``usable``.
    reasons : tuple of str
        Everything that is wrong, each with its calibration or file.
    """
    reasons = [f"{item.path.name} left out: {item.reason}" for item in files.left_out]
    reasons += [f"{item.path.name} waits: {item.reason}" for item in files.waiting]
    if not (files.blocks or calibrations):
        return "nothing to do", (*reasons, *([] if files.waiting else ["no block was found"]))
    reasons += _said_once([item for item in calibrations if item.status != "usable"])
    reasons += [
        f"{item.calibration} was made from other blocks, on {item.made[:10]}"
        for item in calibrations
        if item.is_outdated
    ]
    relevant = [item.status for item in calibrations if item.status != "nothing to do"]
    if not relevant:
        return "nothing to do", tuple(reasons)
    if all(status == "unusable" for status in relevant):
        return "unusable", tuple(reasons)
    is_sound = all(item.status in SOUND and not item.is_outdated for item in calibrations)
    is_whole = not (files.left_out or files.waiting)
    return "usable" if is_sound and is_whole else "degraded", tuple(reasons)


def _said_once(calibrations: Sequence[CalibrationRecord]) -> list[str]:
    """Reasons of calibrations; one that several share is said once, with their names."""
    sharing: dict[tuple[str, str], list[str]] = {}
    for item in calibrations:
        for reason in dict.fromkeys(item.reasons):
            sharing.setdefault((item.status, reason), []).append(item.calibration)
    together: dict[str, list[str]] = {
        f"{item.calibration} {item.status}": [] for item in calibrations if not item.reasons
    }
    for (status, reason), names in sharing.items():
        together.setdefault(f"{', '.join(names)} {status}", []).append(reason)
    return [f"{who} ({'; '.join(why)})" if why else who for who, why in together.items()]


def write_night(folder: Path, record: NightRecord) -> Path:
    """Write ``night.json`` into the folder of a night, whole or not at all.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OSError
        If the folder cannot be written; an earlier record stays then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {"schema": NIGHT_SCHEMA, **asdict(record), "night": record.night.isoformat()}
    # One name, not a random one: the night is locked, and what a killed run left is overwritten.
    temporary = folder / f".{NIGHT_FILE}.tmp"
    with naming(folder / NIGHT_FILE):
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        sync(temporary)
    temporary.replace(folder / NIGHT_FILE)
    sync(folder)
    return folder / NIGHT_FILE


def read_night(folder: Path) -> NightRecord | None:
    """Read the record of a night; None if there is none that this version understands."""
    try:
        return load_night(folder)
    except CannotCompute:
        return None


def load_night(folder: Path) -> NightRecord:
    """Read the record of a night, which has to be there.

    Raises
    ------
    CannotCompute
        If it cannot be read, is damaged, or has another layout.
    """
    try:
        raw = read_json(folder / NIGHT_FILE)
        if raw["schema"] == NIGHT_SCHEMA:
            return _record(raw)
        problem = f"it has layout {raw['schema']!r}, expected {NIGHT_SCHEMA}"
    except OSError as error:
        problem = error.strerror or str(error)
    except DAMAGES as error:
        problem = f"it is damaged ({type(error).__name__}: {error})"
    raise CannotCompute(f"{NIGHT_FILE} of {folder.name}: {problem}. Calibrate the night again.")


def _record(raw: dict[str, Any]) -> NightRecord:
    pairs = ("blocks", "waiting", "left_out")
    found: dict[str, Any] = {
        name: tuple((path, text) for path, text in raw[name]) for name in pairs
    }
    found["night"] = date.fromisoformat(raw["night"])
    found["calibrations"] = tuple(_calibration(item) for item in raw["calibrations"])
    found["reasons"] = _texts(raw["reasons"])
    found["remarks"] = _texts(raw["remarks"])
    _require_status(raw)
    content = {name: value for name, value in raw.items() if name != "schema"}
    return NightRecord(**content | found)


def _calibration(raw: dict[str, Any]) -> CalibrationRecord:
    texts = {name: _texts(raw[name]) for name in LISTS}
    _texts([raw["calibration"], raw["folder"]])
    _require_status(raw)
    return CalibrationRecord(**raw | texts)


def _require_status(raw: dict[str, Any]) -> None:
    if raw["status"] not in get_args(NightStatus):
        raise ValueError(f"status {raw['status']!r}, expected one of {get_args(NightStatus)}")


def _texts(values: Sequence[object]) -> tuple[str, ...]:
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{values!r}, expected a list of texts")
    return tuple(str(value) for value in values)
