"""What a run of a night does not make anew: results whose blocks are gone, other calibrations.

Blocks are archived, and results stay: a published night whose blocks have disappeared keeps its
verdict. Where some are gone and others are new, results of fewer blocks would replace those of
more, so the old ones are kept, too, until somebody asks for new ones.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from arraycal.calib.nights.night_blocks import LeftOut, NightFiles
from arraycal.calib.nights.record import file_stamp, judge_night

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from arraycal.calib.nights.record import CalibrationRecord, NightRecord

    Stamps = tuple[tuple[str, str], ...]

__all__ = ["Standing", "kept_calibrations", "kept_record", "standing"]

#: What is said of a file that has disappeared since.
WAS = "no longer there; when it was:"
#: Names in a sentence, before it says how many more there are.
MAX_NAMED = 5


@dataclass(frozen=True)
class Standing:
    """A night as a run finds it, beside its record.

    Parameters
    ----------
    files : NightFiles
        Its files; what is not taken because results are kept is left out.
    blocks : tuple of (str, str)
        Path and stamp of the blocks that its results are, or will be, made from.
    remarks : tuple of str
        Which blocks of the record are no longer there.
    is_kept : bool
        Whether the published results stay, because they cannot be made again.
    """

    files: NightFiles
    blocks: Stamps
    remarks: tuple[str, ...] = ()
    is_kept: bool = False

    def is_news(self, before: NightRecord) -> bool:
        """Whether the record would say something else than it does.

        A file that has begun to wait is no news: it will be a block, of this night or another one.
        """
        left_out = {str(item.path) for item in self.files.left_out}
        waiting = {str(item.path) for item in self.files.waiting}
        return (
            set(self.blocks) != set(before.blocks)
            or left_out != {path for path, _ in before.left_out}
            or not waiting.issuperset(path for path, _ in before.waiting)
        )


def standing(
    files: NightFiles, before: NightRecord | None, folder: Path, *, again: str = "changed"
) -> Standing:
    """Compare what there is of a night with its record.

    Parameters
    ----------
    files : NightFiles
        What was found.
    before : NightRecord or None
        Of the run before, if there was one.
    folder : Path
        Of the night.
    again : {"changed", "always"}
        With ``always``, results are made of what blocks there are.

    Returns
    -------
    Standing
        Published results are kept when a block of theirs cannot be calibrated now. A block that
        lies elsewhere under its name has only moved.
    """
    blocks = tuple((str(path), file_stamp(path)) for path in files.blocks)
    if before is None or not any(item.has_results(folder) for item in before.calibrations):
        return Standing(files, blocks)
    missing = _names(_used(before)) - _names(path for path, _ in blocks)
    if not missing:
        return Standing(files, blocks)
    here = _names(item.path for item in (*files.waiting, *files.left_out))
    gone = sorted((missing - here).elements())
    if again == "always" and blocks:
        return Standing(files, blocks, _gone(gone, before, "the results are without them"))
    left_out = (*files.left_out, *_not_taken(blocks, before), *_gone_too(files, before))
    action = f"the results of {_day(before)} are kept"
    if blocks:
        action += f" (arraycal nightly --night {before.night} --again calibrates what is there)"
    remarks = _gone(gone, before, action)
    return Standing(replace(files, left_out=left_out), before.blocks, remarks, is_kept=True)


def kept_record(before: NightRecord, found: Standing, wanted: Iterable[str]) -> NightRecord:
    """Record of a night whose results are kept: its verdict, and what was found since.

    Calibrations that are wanted and were never made cannot be made like the others any more.
    """
    calibrations = tuple(replace(item, is_reused=True, n_cached=0) for item in before.calibrations)
    status, reasons = judge_night(found.files, calibrations)
    never = [name for name in wanted if before.of(name) is None]
    reasons += tuple(f"{name} was not made, and blocks are no longer there" for name in never)
    if never and status == "usable":
        status = "degraded"
    return replace(
        before,
        status=status,
        reasons=reasons,
        remarks=found.remarks,
        is_complete=not found.files.waiting,
        calibrations=calibrations,
        waiting=tuple((str(item.path), item.reason) for item in found.files.waiting),
        left_out=tuple((str(item.path), item.reason) for item in found.files.left_out),
    )


def kept_calibrations(
    before: NightRecord | None, made: Collection[str], blocks: Stamps, folder: Path
) -> list[CalibrationRecord]:
    """Records of calibrations that a run does not make, and whose results are still there.

    Parameters
    ----------
    before : NightRecord or None
        Of the run before.
    made : collection of str
        Calibrations of this run.
    blocks : tuple of (str, str)
        Path and stamp of the blocks of the night now.
    folder : Path
        Of the night.

    Returns
    -------
    list of CalibrationRecord
        With those that had given no results. Marked as outdated if the blocks have changed.
    """
    if before is None:
        return []
    # A block that lies elsewhere under its name has only moved.
    is_new = _contents(before.blocks) != _contents(blocks)
    return [
        replace(item, is_reused=True, is_outdated=item.is_outdated or is_new)
        for item in before.calibrations
        if item.calibration not in made and (not item.folder or item.has_results(folder))
    ]


def _used(before: NightRecord) -> list[str]:
    """Blocks that results stand on: those that failed in every calibration are in none."""
    failed = [set(item.failed) for item in before.calibrations if item.n_blocks]
    nowhere = set.intersection(*failed) if failed else set()
    return [path for path, _ in before.blocks if path not in nowhere]


def _contents(blocks: Stamps) -> Counter[tuple[str, str]]:
    return Counter((Path(path).name, stamp) for path, stamp in blocks)


def _names(paths: Iterable[str | Path]) -> Counter[str]:
    return Counter(Path(path).name for path in paths)


def _gone(names: Sequence[str], before: NightRecord, action: str) -> tuple[str, ...]:
    if not names:
        return ()
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    are = "is" if len(names) == 1 else "are"
    named = ", ".join(names[:MAX_NAMED])
    n_all = len(before.blocks)
    return (f"{len(names)} of {n_all} blocks {are} no longer there ({named}{more}); {action}",)


def _not_taken(blocks: Stamps, before: NightRecord) -> list[LeftOut]:
    """New and changed blocks, which the kept results do not hold."""
    known = _contents(before.blocks)
    reason = f"not in the results of {_day(before)}, which are kept as blocks of theirs are missing"
    new = [Path(path) for path, stamp in blocks if (Path(path).name, stamp) not in known]
    return [LeftOut(path, reason) for path in new]


def _gone_too(files: NightFiles, before: NightRecord) -> list[LeftOut]:
    """What was not calibrated before, and has disappeared with the blocks."""
    seen = {str(item.path) for item in (*files.waiting, *files.left_out)} | set(
        map(str, files.blocks)
    )
    return [
        LeftOut(Path(path), reason if reason.startswith(WAS) else f"{WAS} {reason}")
        for path, reason in (*before.waiting, *before.left_out)
        if path not in seen and not file_stamp(Path(path))
    ]


def _day(before: NightRecord) -> str:
    """When the results were made."""
    made = max((item.made for item in before.calibrations), default="")
    return made[:10] or "an unknown day"
