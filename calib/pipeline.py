"""The stages in order: what a Prefect task wraps and what ``--direct`` calls.

`pairs_of_block` is per block and may run anywhere; `calibrate` needs all blocks but only their
cached PAIRS. Neither lets one bad file spoil the rest: it is left out, with its reason, and
stays visible in the result.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from calib import cross, dl2
from calib.cache import Entry, PairCache
from calib.coefficients import assemble
from calib.comparison import read_other, with_comparison
from calib.cross_inter import from_result, read_inter, three_step_result
from calib.curve import Knots
from calib.curve_table import with_curves, with_notes, with_residuals
from calib.errors import ArraycalError, CannotCompute
from calib.fit import FitOptions, fit
from calib.model import NO_CURVE
from calib.observables import ENERGY_INTER, IMAGE_INTER
from calib.pairs import (
    REPEATED,
    TELESCOPE_LEVEL,
    merge_participation,
    merge_rejected,
    pair_events,
)
from calib.result import BLOCKS
from calib.rules import pair_configuration, pair_rules, pairs_to_form, value_by_telescope
from calib.schema import PARTICIPATION, REJECTED
from calib.showers import Showers, prepare
from config.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from calib.cross_three_step import Inter
    from calib.observables import Observable
    from calib.pairs import PairRules
    from calib.result import CalibrationResult
    from calib.subarray import Subarray
    from config.models import Configuration

__all__ = [
    "BlockPairs",
    "calibrate",
    "fit_options",
    "pairs_of_block",
    "select_blocks",
    "window_rows",
]

#: Pair rows kept in memory between passes; beyond it every pass reads the cache again.
IN_MEMORY_PAIRS = 4_000_000


@dataclass(frozen=True)
class BlockPairs:
    """Outcome of the per-block stage.

    Parameters
    ----------
    path : Path
        The block file.
    status : {"ok", "failed", "excluded"}
        ``failed``: nothing could be made of it; ``excluded``: sound, but not with the others.
    reason : str
        Why not ``ok``.
    digest, data_model : str
        Hash of the content and version of the data model, as far as known.
    obs_ids : tuple of int
        Observations in the file.
    subarray : Subarray or None
        Its telescopes.
    entry : Entry or None
        Its cached PAIRS.
    cached : bool
        Whether they had been there already.
    companion : BlockPairs or None
        The same block for the inter-calibration that a calibration starts from.
    """

    path: Path
    status: Literal["ok", "failed", "excluded"]
    reason: str = ""
    digest: str = ""
    data_model: str = ""
    obs_ids: tuple[int, ...] = ()
    subarray: Subarray | None = None
    entry: Entry | None = None
    cached: bool = False
    companion: BlockPairs | None = None

    @property
    def n_events(self) -> int:
        """Telescope events read."""
        return int(self.entry.summary["n_events"]) if self.entry else 0

    @property
    def n_pairs(self) -> int:
        """Pair rows."""
        return int(self.entry.summary["n_pairs"]) if self.entry else 0

    @property
    def notes(self) -> list[tuple[str, str]]:
        """What a reader must know about the selection: topic and text."""
        notes = self.entry.summary.get("notes", []) if self.entry else []
        return [(topic, text) for topic, text in notes]

    @property
    def rejected(self) -> pl.DataFrame:
        """REJECTED rows of the block."""
        rows = self.entry.summary["rejected"] if self.entry else []
        return pl.DataFrame(rows, schema=REJECTED, orient="row")

    @property
    def participation(self) -> pl.DataFrame:
        """PARTICIPATION of the telescopes of the block."""
        rows = self.entry.summary.get("participation", []) if self.entry else []
        return pl.DataFrame(rows, schema=PARTICIPATION, orient="row")


def pairs_of_block(
    path: Path, observable: Observable, configuration: Configuration, cache_root: Path
) -> BlockPairs:
    """Make, or find in the cache, the PAIRS of one block.

    Parameters
    ----------
    path : Path
        The block file.
    observable : Observable
        The calibration.
    configuration : Configuration
        All options.
    cache_root : Path
        Folder of cached PAIRS.

    Returns
    -------
    BlockPairs
        A file that cannot be used is a result with its reason, not an exception.

    Raises
    ------
    OSError
        If the cache cannot be written: infrastructure, not the block's fault.
    """
    made = _pairs_of_block(path, observable, configuration, cache_root)
    options = configuration.CalculateCrossCalibration
    if not _inter_first(observable, configuration) or options.inter_calibration is not None:
        return made
    companion = _pairs_of_block(path, ENERGY_INTER, configuration, cache_root)
    if made.status == "ok" and companion.status != "ok":
        return replace(made, status="failed", reason=companion.reason)
    return replace(made, companion=companion)


def _pairs_of_block(
    path: Path, observable: Observable, configuration: Configuration, cache_root: Path
) -> BlockPairs:
    cache = PairCache(cache_root)
    failed = BlockPairs(path, "failed")
    try:
        block = dl2.open_block(path)
        failed = replace(
            failed,
            data_model=block.data_model,
            obs_ids=block.obs_ids,
            subarray=block.subarray,
            digest=cache.digest(path),
        )
        before = _state(path)
        key = cache.key(failed.digest, pair_configuration(observable, configuration))
        entry = cache.load(key)
        if entry is not None:
            return replace(failed, status="ok", entry=entry, cached=True)
        entry = _compute(block, observable, configuration, cache, key, before)
        return replace(failed, status="ok", entry=entry)
    except (ArraycalError, ConfigurationError) as error:
        reason = str(error)
        return replace(failed, reason=reason if str(path) in reason else f"{path}: {reason}")


def _compute(
    block: dl2.Block,
    observable: Observable,
    configuration: Configuration,
    cache: PairCache,
    key: str,
    before: tuple[int, int],
) -> Entry:
    for stream in (True, False):
        summary: dict[str, Any] = {}
        windows = _pair_windows(block, observable, configuration, summary, stream=stream)
        try:
            return cache.store(key, _unless_changed(windows, block.path, before), summary)
        except dl2.UnsortedRows:
            if not stream:
                raise
    raise AssertionError


def _state(path: Path) -> tuple[int, int]:
    """Size and modification time, which change when a file is written to."""
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _unless_changed(
    windows: Iterator[pl.DataFrame], path: Path, before: tuple[int, int]
) -> Iterator[pl.DataFrame]:
    """Pass windows on; raise at the end if the file was written to while it was read."""
    yield from windows
    if _state(path) != before:
        raise CannotCompute(
            f"{path}: the file changed while it was read. Wait until it is complete and run again."
        )


def window_rows(rules: PairRules, chunk_size: int) -> int:
    """Telescope events to hold at a time for a window of about `chunk_size` showers.

    Memory goes with the pair rows: a filter of pairs leaves few, without it a shower of M
    telescopes has M(M-1)/2.
    """
    return chunk_size * (10 if rules.tests else 3)


def _pair_windows(
    block: dl2.Block,
    observable: Observable,
    configuration: Configuration,
    summary: dict[str, Any],
    *,
    stream: bool,
) -> Iterator[pl.DataFrame]:
    """Yield PAIRS window by window and leave the counts in `summary`."""
    rules = pair_rules(observable, configuration, block)
    if rules.shower:
        summary["shower_columns"] = [name for name, _ in rules.shower]
    allowed = pairs_to_form(observable, configuration, block.subarray)
    rows = window_rows(rules, getattr(configuration, observable.section).chunk_size)
    rejected: list[pl.DataFrame] = []
    participation: list[pl.DataFrame] = []
    n_events = n_pairs = repeated = 0
    for window in dl2.windows(block, rules.columns, rows=rows, stream=stream):
        paired = pair_events(window.events, rules, block.subarray, allowed)
        rejected.append(paired.rejected)
        participation.append(paired.participation)
        repeated += window.repeated
        n_events += len(window.events) + window.repeated
        n_pairs += len(paired.pairs)
        if len(paired.pairs):
            yield paired.pairs
    if repeated:
        row = (TELESCOPE_LEVEL, REPEATED, repeated)
        rejected.append(pl.DataFrame([row], REJECTED, orient="row"))
    counts = merge_rejected(rejected).rows()
    notes = [list(note) for note in rules.notes]
    summary.update(n_events=n_events, n_pairs=n_pairs, rejected=counts, notes=notes)
    if rules.min_per_type is not None:
        summary.update(participation=merge_participation(participation).rows())


def select_blocks(blocks: Sequence[BlockPairs]) -> list[BlockPairs]:
    """Exclude blocks that do not go together with the others.

    The array of most blocks is the array of the night; a block with another one is excluded.
    Of two files with an observation in common the second one is.

    Parameters
    ----------
    blocks : sequence of BlockPairs
        In any order.

    Returns
    -------
    list of BlockPairs
        All of them, ordered by observation and path, some now ``excluded``.
    """
    ordered = sorted(blocks, key=lambda block: (block.obs_ids, str(block.path)))
    usual = _usual_array(ordered)
    seen: dict[int, Path] = {}
    result = []
    for block in ordered:
        reason = _misfit(block, usual, seen) if block.status == "ok" else ""
        if block.status == "ok" and not reason:
            seen |= dict.fromkeys(block.obs_ids, block.path)
        result.append(replace(block, status="excluded", reason=reason) if reason else block)
    return result


def _usual_array(blocks: Sequence[BlockPairs]) -> Subarray | None:
    """Return the array of most blocks; of equally many, that of the first block."""
    # Files may call the same array by different names.
    arrays = Counter(
        replace(block.subarray, name="")
        for block in blocks
        if block.status == "ok" and block.subarray
    )
    return arrays.most_common(1)[0][0] if arrays else None


def _misfit(block: BlockPairs, usual: Subarray | None, seen: Mapping[int, Path]) -> str:
    """Why a sound block does not go with the others; empty if it does."""
    difference = usual.difference(block.subarray) if usual and block.subarray else None
    if difference is not None:
        return f"{block.path}: another array than the other blocks, {difference}"
    repeated = [obs_id for obs_id in block.obs_ids if obs_id in seen]
    if repeated:
        return f"{block.path}: obs_id {repeated[0]} is already in {seen[repeated[0]]}"
    return ""


def calibrate(
    blocks: Sequence[BlockPairs],
    observable: Observable,
    configuration: Configuration,
    provenance: dict[str, Any] | None = None,
) -> CalibrationResult:
    """Solve the array from the cached PAIRS of its blocks.

    Parameters
    ----------
    blocks : sequence of BlockPairs
        All blocks, failed ones included.
    observable : Observable
        The calibration.
    configuration : Configuration
        All options.
    provenance : dict, optional
        Passed on into the result.

    Returns
    -------
    CalibrationResult
        Coefficients and everything that explains them.

    Raises
    ------
    CannotCompute
        If no block is left; the message lists why.
    """
    judged = select_blocks(blocks)
    good = [block for block in judged if block.status == "ok" and block.entry]
    if not good:
        reasons = "\n".join(f"  {block.reason}" for block in judged)
        msg = f"none of the {len(judged)} blocks can be used:\n{reasons}"
        raise CannotCompute(msg)
    subarray = good[0].subarray
    assert subarray is not None  # noqa: S101  a block that is ok has one
    tables: dict[str, Any] = {
        "blocks": block_table(judged),
        "rejected": merge_rejected(block.rejected for block in good),
        "obs_ids": tuple(sorted({obs_id for block in good for obs_id in block.obs_ids})),
        "provenance": provenance or {},
    }
    if observable.scope != "same_type":
        cross.check_types(subarray, configuration.CalculateCrossCalibration.reference_subsystem)
    windows = _windows(good, subarray)
    if _inter_first(observable, configuration):
        inter = _inter(good, subarray, configuration, tables)
        counts = merge_participation(block.participation for block in good)
        return three_step_result(
            windows, inter, counts, subarray, observable, configuration, tables
        )
    options = fit_options(configuration, subarray)
    if observable.scope != "same_type":
        options = replace(options, slope=cross.energy_slopes(subarray, configuration))
    fitted = fit(windows, subarray, options)
    if observable.scope == "same_type":
        result = assemble(fitted, subarray, observable, configuration, **tables)
        notes = [(str(block.path), *note) for block in good for note in block.notes]
        least = configuration.RelativeThroughputFitter.min_events
        result = with_residuals(
            with_curves(result, fitted, subarray),
            fitted,
            windows,
            subarray,
            least=least,
            unit=observable.unit,
        )
        compare = configuration.CalculateInterCalibration.compare
        if compare is not None and observable is IMAGE_INTER:
            result = with_comparison(result, read_other(Path(compare)))
        return with_notes(result, notes)
    joint = cross.joint_scale(fitted, subarray, configuration)
    result = assemble(fitted, subarray, observable, configuration, **tables, scaled=joint.scaled)
    return cross.describe_types(result, joint, fitted, windows, subarray, configuration)


def _inter_first(observable: Observable, configuration: Configuration) -> bool:
    """Whether a calibration starts from an inter-calibration."""
    method = configuration.CalculateCrossCalibration.method
    return observable.scope == "any" and method == "three_step"


def _inter(
    blocks: Sequence[BlockPairs],
    subarray: Subarray,
    configuration: Configuration,
    tables: Mapping[str, Any],
) -> Inter:
    """Read the inter-calibration, or make it of the same blocks."""
    options = configuration.CalculateCrossCalibration
    if options.inter_calibration is not None:
        allowed = options.allow_other_observations
        path = Path(options.inter_calibration)
        return read_inter(path, subarray, tables["obs_ids"], allow_other=allowed)
    parts = [block.companion for block in blocks if block.companion]
    result = calibrate(parts, ENERGY_INTER, configuration, tables["provenance"])
    return from_result(result, subarray)


def _windows(blocks: Sequence[BlockPairs], subarray: Subarray) -> Callable[[], Iterable[Showers]]:
    """Showers of all blocks, held in memory when they fit."""

    def read() -> Iterator[Showers]:
        for block in blocks:
            for pairs in block.entry.windows() if block.entry else ():
                yield prepare(pairs, subarray)

    if sum(block.n_pairs for block in blocks) > IN_MEMORY_PAIRS:
        return read
    kept = list(read())
    return lambda: kept


def fit_options(configuration: Configuration, subarray: Subarray) -> FitOptions:
    """Options of the fit, with thresholds by telescope in ln(value)."""
    fitter, selection = configuration.RelativeThroughputFitter, configuration.ShowerSelection
    threshold: Any = selection.threshold
    if threshold is not None and threshold != "auto":
        values = value_by_telescope(threshold, subarray)
        threshold = {i: math.log(v) if v > 0 else -math.inf for i, v in values.items()}
    ceiling: Any = None
    if selection.ceiling is not None:
        limits = value_by_telescope(selection.ceiling, subarray)
        ceiling = {i: math.log(v) if v > 0 else -math.inf for i, v in limits.items()}
    return FitOptions(
        knots=_knots(configuration, subarray),
        ceiling=ceiling,
        estimator=fitter.estimator,
        min_events=fitter.min_events,
        min_common=fitter.min_common_events,
        robust=fitter.robust,
        threshold=threshold,
        margin=selection.margin,
        binned_resolution=selection.resolution == "binned",
        max_iterations=selection.max_iterations,
    )


def _knots(configuration: Configuration, subarray: Subarray) -> Knots:
    """Knots of the distance curves by type; none where they are not wanted or cannot be fitted."""
    options = configuration.DistanceCurve
    if options.knots is None or configuration.RelativeThroughputFitter.estimator == "pair":
        return NO_CURVE
    by_telescope = value_by_telescope(options.range, subarray)
    by_type: dict[str, set[tuple[float, float]]] = {}
    for tel_id, tel_type in zip(subarray.tel_ids, subarray.types, strict=True):
        by_type.setdefault(tel_type, set()).add(by_telescope[tel_id])
    uneven = sorted(tel_type for tel_type, ranges in by_type.items() if len(ranges) > 1)
    if uneven:
        raise ConfigurationError(
            f"DistanceCurve.range differs between telescopes of one type ({', '.join(uneven)}); "
            "a type has one curve"
        )
    return Knots.spaced([ranges.pop() for _, ranges in sorted(by_type.items())], options.knots)


def block_table(blocks: Sequence[BlockPairs]) -> pl.DataFrame:
    """Return the blocks as a table of schema ``calib.result.BLOCKS``."""
    rows = [
        (
            str(block.path),
            block.status,
            block.reason,
            " ".join(map(str, block.obs_ids)),
            block.data_model,
            block.digest,
            block.n_events,
            block.n_pairs,
            block.cached,
        )
        for block in blocks
    ]
    return pl.DataFrame(rows, schema=BLOCKS, orient="row")
