"""From blocks or pairs to a result."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arraycal.calib.blocks.cache import PairCache
from arraycal.calib.blocks.stage import BlockPairs
from arraycal.calib.calibrate import calibrate as calibrate_blocks
from arraycal.calib.errors import WrongUsage
from arraycal.calib.pairs.rules import pair_configuration
from arraycal.calib.publish.writing import provenance
from arraycal.face.blocks import Blocks, read
from arraycal.face.calibrations import Calibration, as_calibration
from arraycal.face.pairs import TABLE, Pairs, pairs
from arraycal.face.results import Result

if TYPE_CHECKING:
    from arraycal.face.arrays import Array

__all__ = ["calibrate"]

#: What stands for a command line in the provenance.
CALL = "arraycal.calibrate in Python"
#: Name of the one cache entry of a table.
KEY = "table"


def calibrate(
    data: Any,  # noqa: ANN401  any library's table among others
    calibration: Calibration | str | None = None,
    array: Array | None = None,
    *,
    cache: str | Path | None = None,
) -> Result:
    """Calibrate an array.

    Parameters
    ----------
    data : Blocks, Pairs, paths or table
        What `arraycal.read` or `arraycal.pairs` gave, or what these take.
    calibration : Calibration or str, optional
        Of `arraycal.preset`, or the name of one. By default the one of blocks or pairs; blocks that
        were read for other options are read again.
    array : Array, optional
        The telescopes of a table.
    cache : str or Path, optional
        As of `arraycal.read`, for paths.

    Returns
    -------
    Result
        Coefficients, what explains them, and a verdict.

    Raises
    ------
    CannotCompute
        If no block can be used; the message says why.
    NothingToDo
        If there is nothing to compare.
    WrongUsage, ConfigurationError
        If something was asked for that the data do not have.
    """
    given = _given(data, calibration, array, cache)
    if isinstance(given, Blocks):
        return _solved(given.outcomes, given.calibration)
    with tempfile.TemporaryDirectory(prefix="arraycal-") as folder:
        return _solved([_as_outcome(given, Path(folder))], given.calibration)


def _given(
    data: Any,  # noqa: ANN401
    calibration: Calibration | str | None,
    array: Array | None,
    cache: str | Path | None,
) -> Blocks | Pairs:
    """Blocks or pairs, made for the calibration that is wanted."""
    if isinstance(data, Blocks | Pairs):
        chosen = data.calibration if calibration is None else as_calibration(calibration)
        return data if chosen == data.calibration else _made_for(chosen, data)
    if calibration is None:
        raise WrongUsage(
            "no calibration is given; expected one as in calibrate(data, 'energy-inter')"
        )
    if _are_paths(data):
        return read(data, calibration, cache=cache)
    return pairs(data, array, calibration)


def _are_paths(data: object) -> bool:
    if isinstance(data, Sequence) and not isinstance(data, str):
        return all(isinstance(item, str | Path) for item in data)
    return isinstance(data, str | Path)


def _made_for(chosen: Calibration, data: Blocks | Pairs) -> Blocks | Pairs:
    if isinstance(data, Blocks):
        # From the cache, unless the rows would be others.
        return read(data.paths, chosen, cache=data.cache)
    mine, theirs = (
        pair_configuration(item.observable, item.configuration)
        for item in (chosen, data.calibration)
    )
    if mine != theirs:
        raise WrongUsage(
            "the pairs were made with options that select other rows; make them again with this "
            "calibration."
        )
    return replace(data, calibration=chosen)


def _as_outcome(given: Pairs, folder: Path) -> BlockPairs:
    """Pairs as those of one block that is in the cache."""
    cache = PairCache(folder)
    return BlockPairs(
        Path(TABLE),
        "ok",
        obs_ids=tuple(given.frame["obs_id"].unique().sort()),
        subarray=given.array.subarray,
        entry=cache.store(KEY, [given.frame], given.summary),
    )


def _solved(outcomes: Sequence[BlockPairs], chosen: Calibration) -> Result:
    made_by = provenance(CALL)
    return Result(calibrate_blocks(outcomes, chosen.observable, chosen.configuration, made_by))
