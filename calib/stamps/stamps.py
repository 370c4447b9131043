"""Block file to STAMPS: one row per telescope and shower that can tell something of its clock.

A row is a stamp relative to the middle stamp of its shower, in whole quarter nanoseconds, with
what its prediction needs: direction, core and height of the shower, image size, pointing. Every
row that is left out is counted under the first rule that refuses it. A file whose stamps were
rounded or made up is refused as a whole.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from arraycal.calib import dl2, hdf5
from arraycal.calib.dl2.columns import TELESCOPE_TRIGGER
from arraycal.calib.dl2.door import Door, open_door, short_table_name
from arraycal.calib.dl2.findings import (
    CONTRADICTION,
    NO_SHOWER,
    REPEATED,
    TELESCOPE_LEVEL,
    Findings,
    example,
)
from arraycal.calib.errors import CannotCompute
from arraycal.calib.stamps.aim import array_pointing, read_pointings
from arraycal.calib.stamps.columns import StampColumns, stamp_columns
from arraycal.calib.stamps.front import direction, front, separation_deg
from arraycal.calib.stamps.trigger import QUARTERS_PER_S, TriggerReader, altitude_m
from arraycal.calib.stamps.usable import refuse_useless
from arraycal.calib.subarray import refuse_unlike, value_by_telescope

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from arraycal.calib.dl2.block import Block
    from arraycal.calib.dl2.pointing import Pointing
    from arraycal.config.models import CalculateTimingCalibrationOptions, Configuration

    Bools = npt.NDArray[np.bool_]

__all__ = [
    "RULES",
    "STAMPS",
    "STAMPS_ID",
    "Facts",
    "altitude_of",
    "check_block",
    "stamp_windows",
]

#: Changes whenever the meaning of STAMPS does: old caches then miss.
STAMPS_ID = "stamps-3"

#: One row per stamp in use, sorted by shower. The stamp is ``shower_s`` whole seconds (TAI since
#: 1970) plus ``shower_quarters + delay_quarters`` quarter nanoseconds. The size may be NaN; errors
#: of the core are unless they come from the file.
STAMPS = pl.Schema(
    {
        "obs_id": pl.Int64,
        "event_id": pl.Int64,
        "tel_id": pl.UInt16,
        "shower_s": pl.Int64,
        "shower_quarters": pl.Int64,
        "delay_quarters": pl.Int64,
        "size": pl.Float64,
        "alt_deg": pl.Float64,
        "az_deg": pl.Float64,
        "core_x_m": pl.Float64,
        "core_y_m": pl.Float64,
        "core_error_x_m": pl.Float64,
        "core_error_y_m": pl.Float64,
        "h_max_m": pl.Float64,
        "pointing_alt_deg": pl.Float64,
        "pointing_az_deg": pl.Float64,
    }
)

#: Stamps further than this from the middle of their shower are no dates at all, s.
SAME_EPOCH_S = 1_000_000
#: Images below this multiple of the threshold hang on their fluctuations.
THRESHOLD_FACTOR = 2.0

RULES = {
    "no_event": "stamp without a row in the event tables",
    "no_stamp": "stamp missing (0 or NaN)",
    "far": "stamp days away from its shower",
    "no_shower": NO_SHOWER,
    "unequal": CONTRADICTION,
    "geometry": "no valid geometry",
    "uncertain": "direction too uncertain (max_angular_uncertainty)",
    "core_error": "core uncertainty missing, or no length (core_resolution: file)",
    "off_axis": "too far from the pointing (max_pointing_offset)",
    "distant": "too far from the shower axis (max_core_distance)",
    "faint": "image too faint (size_threshold)",
    "few": "too few telescopes (min_telescopes)",
}

#: Differences between stamps of one shower that are looked at to judge a file.
JUDGED = 200_000


@dataclass
class Facts:
    """What reading a block brings to light; filled on the way."""

    n_stamps: int = 0
    n_rows: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    differences: Counter[int] = field(default_factory=Counter)
    backwards: int = 0
    largest_backwards_s: float = 0.0
    has_sizes: bool = False
    last_s: dict[int, float] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def rows(self) -> list[tuple[str, str, int, str]]:
        """LEFT_OUT rows."""
        order = [REPEATED, *RULES.values()]
        known = sorted(self.rejected, key=lambda r: order.index(r) if r in order else len(order))
        return [
            (TELESCOPE_LEVEL, rule, self.rejected[rule], self.examples.get(rule, ""))
            for rule in known
        ]

    def add(self, findings: Findings) -> None:
        """Count the stamps that did not pass the door."""
        for rule, loss in findings.losses.items():
            self.n_stamps += loss.rows
            self.rejected[rule] += loss.rows
            self.examples.setdefault(rule, loss.example)


def check_block(block: Block, configuration: Configuration) -> None:
    """Raise `CannotCompute` if the structure of a block, or its first stamps, rule out timing."""
    stamp_columns(block, configuration)
    altitude_of(block, configuration)
    with hdf5.open_file(block.path) as file:
        door = open_door(file, block.path, block.obs_ids)
        stamps = TriggerReader(file, block, door, stream=True).first()
    facts = Facts()
    _relative(_dated(_distinct(stamps, facts, door.findings), facts), facts)
    refuse_useless(facts.differences, block.path)


def stamp_windows(
    block: Block, configuration: Configuration, facts: Facts, door: Door, *, rows: int, stream: bool
) -> Iterator[pl.DataFrame]:
    """Read STAMPS in windows of complete showers.

    Parameters
    ----------
    block : Block
        The file.
    configuration : Configuration
        All options.
    facts : Facts
        Counts, filled on the way.
    door : Door
        Of the block.
    rows : int
        About how many rows to hold at a time.
    stream : bool
        False sorts the whole file in memory first.

    Yields
    ------
    DataFrame
        Schema `STAMPS`.

    Raises
    ------
    CannotCompute
        If the file has no usable stamps or no geometry.
    UnsortedRows
        As `arraycal.calib.dl2.block.windows`.
    """
    columns = stamp_columns(block, configuration)
    facts.has_sizes = columns.size is not None
    with hdf5.open_file(block.path) as file:
        pointing = read_pointings(file, block.path)
        # The events are counted by themselves: what is left out here are stamps.
        own = replace(door, findings=Findings())
        triggers = TriggerReader(file, block, own, stream=stream)
        repeated = 0
        for window in dl2.windows(block, columns.names, rows=rows, stream=stream, door=door):
            repeated += window.repeated
            if not len(window.events):
                continue
            stamps = triggers.upto(_last_shower(window.events, block))
            stamps = _distinct(stamps, facts, own.findings)
            selected = _selected(
                stamps, window.events, columns, configuration, block, pointing, facts
            )
            if len(selected):
                facts.n_rows += len(selected)
                yield selected
        left_over = triggers.upto(None)
        facts.n_stamps += len(left_over)
        facts.rejected[RULES["no_event"]] += len(left_over)
        # The event tables repeat the same rows as the stamps, or others.
        facts.rejected[REPEATED] = max(facts.rejected[REPEATED], repeated)
        triggers.finish()
    facts.add(own.findings)
    door.findings.contradictions |= own.findings.contradictions
    door.findings.misplaced |= own.findings.misplaced
    door.findings.shortfalls += own.findings.shortfalls
    facts.rejected = Counter({rule: n for rule, n in facts.rejected.items() if n})
    refuse_useless(facts.differences, block.path)


def _last_shower(events: pl.DataFrame, block: Block) -> tuple[int, int]:
    """Ids of the shower that comes last in the file."""
    order = {obs_id: place for place, obs_id in enumerate(block.obs_ids)}
    obs_id = max(events["obs_id"].unique().to_list(), key=lambda found: order[found])
    event_id = events.filter(pl.col("obs_id") == obs_id)["event_id"].max()
    assert isinstance(event_id, int)  # noqa: S101  there are events
    return int(obs_id), event_id


def _distinct(stamps: pl.DataFrame, facts: Facts, findings: Findings) -> pl.DataFrame:
    """One of equal stamps of a telescope and shower; no stamp of a shower with unequal ones."""
    facts.n_stamps += len(stamps)
    key = ["key", "tel_id"]
    if len(stamps) == len(stamps.unique(key)):
        return stamps
    distinct = stamps.unique(maintain_order=True, keep="first")
    facts.rejected[REPEATED] += len(stamps) - len(distinct)
    unequal = distinct.select(pl.len().over(key) > 1).to_series()
    for (tel_id,), rows in distinct.filter(unequal).group_by("tel_id", maintain_order=True):
        obs_id, event_id = rows.select("obs_id", "event_id").row(0)
        tel, one = int(str(tel_id)), example(obs_id, event_id, int(str(tel_id)))
        findings.contradict(short_table_name(TELESCOPE_TRIGGER), tel, rows["key"].n_unique(), one)
        facts.examples.setdefault(CONTRADICTION, one)
    torn = distinct["key"].is_in(distinct.filter(unequal)["key"].unique().implode())
    return _keep(distinct, ~torn.to_numpy(), "unequal", facts)


def _selected(
    stamps: pl.DataFrame,
    events: pl.DataFrame,
    columns: StampColumns,
    configuration: Configuration,
    block: Block,
    pointing: tuple[Pointing, ...],
    facts: Facts,
) -> pl.DataFrame:
    """Join stamps and events, apply every rule, and count."""
    events = events.with_columns(pl.col("tel_id").cast(pl.Int64))
    joined = stamps.join(
        events, on=["obs_id", "event_id", "tel_id"], how="inner", maintain_order="left"
    )
    facts.rejected[RULES["no_event"]] += len(stamps) - len(joined)
    joined = _relative(_dated(joined, facts), facts)
    for criterion in columns.criteria:
        before = len(joined)
        joined = joined.filter(criterion.passes)
        facts.rejected[criterion.name] += before - len(joined)
    found = _with_pointing(_renamed(joined, columns), pointing)
    section = configuration.CalculateTimingCalibration
    for rule, passes in _tests(found, block, configuration).items():
        keep = passes[found["row"].to_numpy()]
        found = _keep(found, keep, rule, facts)
    enough = found.select(pl.len().over("key") >= section.min_telescopes).to_series().to_numpy()
    found = _keep(found, enough, "few", facts).sort("key", "tel_id")
    _watch_order(found, facts)
    return found.with_columns(pl.col("tel_id").cast(pl.UInt16)).select(STAMPS.names())


def _dated(stamps: pl.DataFrame, facts: Facts) -> pl.DataFrame:
    """Stamps that are there."""
    # A second may be written as 4e9 quarters: a carry that rounding left undone.
    there = (pl.col("seconds") > 0) & pl.col("quarters").is_between(0, QUARTERS_PER_S)
    return _keep(stamps, stamps.select(there).to_series().to_numpy(), "no_stamp", facts)


def _keep(frame: pl.DataFrame, keep: Bools, rule: str, facts: Facts) -> pl.DataFrame:
    facts.rejected[RULES[rule]] += int(np.count_nonzero(~keep))
    return frame.filter(pl.Series(keep))


def _relative(stamps: pl.DataFrame, facts: Facts) -> pl.DataFrame:
    """Stamps relative to the middle one of their shower, in integers throughout."""
    stamps = stamps.with_columns(
        pl.col("seconds").sort().get((pl.len() - 1) // 2).over("key").alias("middle_s")
    )
    near = (stamps["seconds"] - stamps["middle_s"]).abs().to_numpy() <= SAME_EPOCH_S
    stamps = _keep(stamps, near, "far", facts)
    if not len(stamps):
        return stamps.with_columns(
            pl.lit(0, pl.Int64).alias(name)
            for name in ("delay_quarters", "shower_s", "shower_quarters")
        )
    seconds, middle = stamps["seconds"].to_numpy(), stamps["middle_s"].to_numpy()
    quarters = QUARTERS_PER_S * (seconds - middle) + stamps["quarters"].to_numpy()
    keys = stamps["key"].to_numpy()
    _note_differences(keys, quarters, facts)
    order = np.lexsort((quarters, keys))
    start = np.flatnonzero(np.diff(keys[order], prepend=keys[order][0] - 1))
    size = np.diff(start, append=len(keys))
    median = quarters[order][start + (size - 1) // 2]
    centre = np.empty(len(keys), np.int64)
    centre[order] = np.repeat(median, size)
    return stamps.with_columns(
        pl.Series("delay_quarters", quarters - centre),
        pl.Series("shower_s", middle + centre // QUARTERS_PER_S),
        pl.Series("shower_quarters", centre % QUARTERS_PER_S),
    )


def _note_differences(
    keys: npt.NDArray[np.int64], quarters: npt.NDArray[np.int64], facts: Facts
) -> None:
    """Remember differences to the first telescope of a shower, which tell rounded stamps."""
    room = JUDGED - facts.differences.total()
    if room <= 0:
        return
    order = np.argsort(keys, kind="stable")
    keys, quarters = keys[order], quarters[order]
    same = np.flatnonzero(keys[1:] == keys[:-1])[:room]
    values, counts = np.unique(np.abs(quarters[same + 1] - quarters[same]), return_counts=True)
    facts.differences.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))


def _renamed(frame: pl.DataFrame, columns: StampColumns) -> pl.DataFrame:
    missing = pl.lit(float("nan"))
    return frame.with_row_index("row").select(
        pl.col("row").cast(pl.Int64),
        "key",
        "obs_id",
        "event_id",
        "tel_id",
        "shower_s",
        "shower_quarters",
        "delay_quarters",
        (missing if columns.size is None else pl.col(columns.size)).cast(pl.Float64).alias("size"),
        pl.col(columns.alt).alias("alt_deg"),
        pl.col(columns.az).alias("az_deg"),
        pl.col(columns.core_x).alias("core_x_m"),
        pl.col(columns.core_y).alias("core_y_m"),
        *(
            (missing if columns.core_error is None else pl.col(columns.core_error[axis]))
            .cast(pl.Float64)
            .alias(f"core_error_{'xy'[axis]}_m")
            for axis in (0, 1)
        ),
        pl.col(columns.h_max).alias("h_max_m"),
        pl.col(columns.valid).alias("valid"),
        (missing if columns.uncertainty is None else pl.col(columns.uncertainty)).alias(
            "uncertainty"
        ),
    )


def _with_pointing(frame: pl.DataFrame, pointing: tuple[Pointing, ...]) -> pl.DataFrame:
    altitude, azimuth = array_pointing(
        pointing, frame["obs_id"].to_numpy().astype(np.int64), frame["shower_s"].to_numpy()
    )
    return frame.with_columns(
        pl.Series("pointing_alt_deg", altitude), pl.Series("pointing_az_deg", azimuth)
    )


def _tests(frame: pl.DataFrame, block: Block, configuration: Configuration) -> dict[str, Bools]:
    """Which rows pass each rule about the shower, by rule."""
    section = configuration.CalculateTimingCalibration
    number = {name: frame[name].to_numpy() for name in frame.columns if name != "valid"}
    towards = direction(number["alt_deg"], number["az_deg"])
    aimed = direction(number["pointing_alt_deg"], number["pointing_az_deg"])
    core = np.stack([number["core_x_m"], number["core_y_m"], np.zeros(len(frame))], axis=1)
    places = np.asarray(block.subarray.positions_m)
    index = block.subarray.index
    node = np.array([index[tel_id] for tel_id in frame["tel_id"]], np.intp)
    needed = ("alt_deg", "az_deg", "core_x_m", "core_y_m")
    valid = frame["valid"].to_numpy() & np.all([np.isfinite(number[n]) for n in needed], axis=0)
    distance = front(places[node], core, towards).distance_m
    with np.errstate(invalid="ignore"):
        return {
            "geometry": valid,
            "uncertain": ~(number["uncertainty"] > section.max_angular_uncertainty),
            "core_error": _known_core(number, section),
            "off_axis": ~(separation_deg(towards, aimed) > section.max_pointing_offset),
            "distant": distance <= section.max_core_distance,
            "faint": _bright(number["size"], frame["tel_id"], block, configuration),
        }


def _known_core(
    number: dict[str, npt.NDArray[Any]], section: CalculateTimingCalibrationOptions
) -> Bools:
    """Which rows have the error of the core that is asked for, or need none."""
    errors = np.stack([number["core_error_x_m"], number["core_error_y_m"]])
    if section.core_resolution != "file":
        return np.ones(errors.shape[1], np.bool_)
    # A core that is not known to its distance from the telescopes is none.
    return np.asarray(((errors > 0) & (errors < section.max_core_distance)).all(axis=0))


def _bright(
    size: npt.NDArray[np.float64], tel_ids: pl.Series, block: Block, configuration: Configuration
) -> Bools:
    threshold = configuration.CalculateTimingCalibration.size_threshold
    if threshold is None:
        return np.ones(len(size), np.bool_)
    limits = value_by_telescope(threshold, block.subarray)
    refuse_unlike("size_threshold", limits, block.subarray)
    limit = np.array([limits[tel_id] for tel_id in tel_ids])
    return np.asarray(size > THRESHOLD_FACTOR * limit)


def _watch_order(frame: pl.DataFrame, facts: Facts) -> None:
    """Count showers that are stamped before their predecessor in the observation."""
    shower = frame.group_by("key", maintain_order=True).first()
    for (obs_id,), first in shower.group_by("obs_id", maintain_order=True):
        seconds = (
            first["shower_s"].to_numpy() + first["shower_quarters"].to_numpy() / QUARTERS_PER_S
        )
        steps = np.diff(seconds, prepend=facts.last_s.get(int(str(obs_id)), seconds[0]))
        facts.backwards += int(np.count_nonzero(steps < 0))
        facts.largest_backwards_s = max(facts.largest_backwards_s, float(-steps.min()))
        facts.last_s[int(str(obs_id))] = float(seconds[-1])


def altitude_of(block: Block, configuration: Configuration) -> float:
    """Height of the array above sea level, m: as configured, or as the file says.

    Raises
    ------
    CannotCompute
        If neither says it.
    """
    configured = configuration.CalculateTimingCalibration.observatory_altitude
    if configured is not None:
        return configured
    with hdf5.open_file(block.path) as file:
        found = altitude_m(file, block.path)
    if found is None:
        raise CannotCompute(
            f"{block.path}: the layout does not say where on Earth the array is "
            "(reference_itrs_x). Give CalculateTimingCalibration.observatory_altitude."
        )
    return found
