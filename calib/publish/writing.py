"""Results on disk: the monitoring file, ``result.json`` and the report, all or none.

Everything is written into a scratch folder inside the output folder and flushed to the disk before
the first file is renamed to its place. Whatever goes wrong before that leaves the output
folder as it was; ``result.json`` arrives last, so who sees it sees the rest. A run that is killed
in between leaves files of one run alone, and the next one puts the others in their place.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import platform
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from arraycal.calib import report
from arraycal.calib.disk.files import refuse_file_in_the_way, replace_file, sync
from arraycal.calib.disk.locks import alone
from arraycal.calib.disk.publication import finish_publication, put_in_place
from arraycal.calib.disk.scratch import scratch_folder
from arraycal.calib.errors import WrongUsage
from arraycal.calib.monitoring.published_tables import monitoring_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from arraycal.calib.observables import Observable
    from arraycal.calib.result.result import CalibrationResult

__all__ = [
    "INDEX",
    "MONITORING",
    "REPORT",
    "RESULT",
    "Published",
    "own_version",
    "provenance",
    "publish",
    "publish_report",
    "refuse_existing",
    "reserved",
]

log = logging.getLogger("arraycal.calib")

MONITORING, REPORT, RESULT = "monitoring.h5", "report.html", "result.json"
#: The page over all nights, in the folder of their folders.
INDEX = "index.html"
#: Held while a run is at work in the folder of its results.
LOCK = ".running"
#: In the order in which they appear.
FILES = (MONITORING, REPORT, RESULT)
#: Packages whose version can change a number, or how a run behaved.
PACKAGES = (
    *("arraycal", "polars", "numpy", "scipy", "h5py", "hdf5plugin", "astropy", "prefect"),
    *("matplotlib", "SQLAlchemy", "alembic"),
)


@dataclass(frozen=True)
class Published:
    """Where the results are.

    Parameters
    ----------
    monitoring : Path
        Coefficients and companion tables for ctapipe.
    result : Path
        The same numbers as JSON.
    report : Path
        The same for people.
    """

    monitoring: Path
    result: Path
    report: Path


def provenance(command: str) -> dict[str, Any]:
    """Say what made a result, and when.

    Parameters
    ----------
    command : str
        What the user typed, or the call that stands for it.

    Returns
    -------
    dict
        ``command``, ``time_utc`` (ISO 8601), ``python``, ``platform`` and ``versions`` by package;
        a package that is not installed is left out.
    """
    versions = {name: found for name in PACKAGES if (found := _version(name))}
    return {
        "command": command,
        "time_utc": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
    }


def own_version() -> str:
    """Version of arraycal; ``not installed`` in a bare checkout."""
    return _version("arraycal")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        # a checkout that was never installed still has results worth keeping
        return "not installed" if package == "arraycal" else ""


def refuse_existing(output: Path, *, overwrite: bool) -> None:
    """Raise if results cannot go into a folder; cheap enough to ask before the work is done.

    Parameters
    ----------
    output : Path
        Folder of the results; it need not exist.
    overwrite : bool
        Whether results that are there may be replaced.

    Raises
    ------
    WrongUsage
        If `output` is a file, or holds results and `overwrite` is not given, or holds a folder
        where a result belongs.
    """
    refuse_file_in_the_way(output)
    folders = [name for name in FILES if (output / name).is_dir()]
    if folders:
        msg = f"{output}: {', '.join(folders)} is a folder where a result belongs. Move it away."
        raise WrongUsage(msg)
    found = [name for name in FILES if (output / name).exists()]
    if found and not overwrite:
        msg = (
            f"{output} already holds {', '.join(found)}. "
            "Choose another --output, or replace them with --overwrite."
        )
        raise WrongUsage(msg)


@contextmanager
def reserved(output: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the folder of a result for one run, from before its work to its end.

    What an earlier run was killed over is put in its place first.

    Parameters
    ----------
    output : Path
        Folder of the results; created if absent.
    wait : bool
        Whether to wait for another run there to end.

    Raises
    ------
    WrongUsage
        If `output` is a file, or another run is there and this one is not to wait.
    OSError
        If the folder cannot be written to.
    """
    refuse_file_in_the_way(output)
    with alone(output / LOCK, wait=wait):
        if finish_publication(output, FILES):
            log.warning("%s: the results of a run that was killed are complete now", output)
        yield


def publish(
    result: CalibrationResult, observable: Observable, output: Path, *, overwrite: bool
) -> Published:
    """Write a result for ctapipe, for programs and for people.

    Parameters
    ----------
    result : CalibrationResult
        What to write.
    observable : Observable
        Which calibration it is: decides where the coefficients go in the monitoring file.
    output : Path
        The folder; created if absent.
    overwrite : bool
        Replace results that are there.

    Returns
    -------
    Published
        The files.

    Raises
    ------
    WrongUsage
        See `refuse_existing`.
    OSError
        If the folder cannot be written to; nothing in it has changed then.
    """
    refuse_existing(output, overwrite=overwrite)
    with ExitStack() as stack:
        with _explained(output):
            output.mkdir(parents=True, exist_ok=True)
            scratch = stack.enter_context(scratch_folder(output))
            _write_all(result, observable, output, scratch)
        put_in_place(scratch, output, FILES)
    return Published(output / MONITORING, output / RESULT, output / REPORT)


def publish_report(result: CalibrationResult, output: Path) -> Path:
    """Write the report alone, whole or not at all.

    Parameters
    ----------
    result : CalibrationResult
        What is in the folder already.
    output : Path
        The folder of the result.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    OSError
        If the folder cannot be written to; the page is as it was then.
    """
    with _explained(output):
        replace_file(output / REPORT, _page(result, output))
    return output / REPORT


def _page(result: CalibrationResult, output: Path) -> bytes:
    """Report of a result in its folder; one in the folder of its night links to the index."""
    nights = result.provenance.get("nights")
    index = f"../../{INDEX}" if nights == [output.parent.name] else ""
    return report.html(result, index).encode("utf-8", "replace")


def _write_all(
    result: CalibrationResult, observable: Observable, output: Path, folder: Path
) -> None:
    """Write the three files for a folder into another, complete on the disk when this returns."""
    text = json.dumps(result.to_json(), indent=1, allow_nan=False)
    contents = {
        RESULT: f"{text}\n".encode(),
        REPORT: _page(result, output),
        MONITORING: monitoring_file(result, observable),
    }
    for name in FILES:
        (folder / name).write_bytes(contents[name])
        sync(folder / name)


@contextmanager
def _explained(output: Path) -> Iterator[None]:
    """Say in an error what could not be done where, and what now; its number stays."""
    try:
        yield
    except OSError as error:
        number = error.errno or errno.EIO
        reason = os.strerror(number) if error.errno else str(error)
        msg = (
            f"the results cannot be written to {output}: {reason}. Nothing there was changed. "
            "Make room or make it writable, or choose another --output."
        )
        raise OSError(number, msg) from error
