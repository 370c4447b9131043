"""STAMPS as arrays, and the chunks of time in which offsets are followed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from arraycal.calib.fit.showers import tally
from arraycal.calib.index import node_index
from arraycal.calib.stamps.front import (
    C_M_PER_NS,
    Front,
    arrival_ns,
    core_slopes,
    direction,
    front,
    refractive_index,
)
from arraycal.calib.stamps.trigger import QUARTERS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt
    import polars as pl

    from arraycal.calib.subarray import Subarray

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = [
    "NS_PER_QUARTER",
    "WALK_SIZE",
    "Plan",
    "Setup",
    "StampedShowers",
    "make_plan",
    "prepare_stamps",
]

Scalar = TypeVar("Scalar", bound=np.generic)

NS_PER_QUARTER = 0.25
#: The walk is quoted as the delay of an image of this size, p.e.
WALK_SIZE = 100.0


@dataclass(frozen=True)
class Setup:
    """How stamps of a block become arrival times.

    Parameters
    ----------
    subarray : Subarray
        The telescopes.
    compensated : bool
        Whether the plane wave of the pointing was subtracted from the stamps.
    altitude_m : float
        Height of the array above sea level.
    h_max_range_m : (float, float)
        Credible heights of the shower maximum above sea level.
    usual_maximum_m : float
        Its height above the array where there is no credible one.
    core_error_m : float, optional
        Error of the core along x and y; by default that of the stamps, or unknown.
    """

    subarray: Subarray
    compensated: bool
    altitude_m: float
    h_max_range_m: tuple[float, float]
    usual_maximum_m: float
    core_error_m: float | None = None

    @property
    def speed_m_per_ns(self) -> float:
        """Speed of light in the air at the array."""
        return C_M_PER_NS / refractive_index(self.altitude_m)


@dataclass(frozen=True)
class StampedShowers:
    """STAMPS of complete showers as arrays, rows sorted by shower.

    Parameters
    ----------
    start : array of int, shape (n_showers + 1,)
        First row of each shower, and the number of rows.
    shower, telescope, kind : array of int, shape (n_rows,)
        Number of the shower, index of the telescope in the subarray, code of its type.
    delay_ns : array, shape (n_rows,)
        Stamp relative to the middle one of the shower, pointing compensation undone.
    position_m : array, shape (n_telescopes, 3)
        Positions of all telescopes in the GroundFrame.
    place : Front
        Where the telescopes are relative to the axis.
    core_m : array, shape (n_showers, 2)
        Core on the ground.
    core_error_m : array, shape (n_showers, 2)
        Its error; 0 where unknown.
    towards : array, shape (n_showers, 3)
        Unit vector towards the source.
    radius_m : array, shape (n_showers,)
        Distance to the shower maximum: the radius of the front at scale 1.
    brightness : array, shape (n_rows,)
        ``WALK_SIZE / size``, the walk per unit of its coefficient; 0 for unknown sizes.
    offset : array, shape (n_showers, 3)
        Direction of the shower minus that of the pointing; NaN without a pointing.
    pointing : array, shape (n_showers, 3)
        Unit vector of the pointing; NaN if unknown.
    time_s : array, shape (n_showers,)
        Date of the shower, s since 1970 (TAI).
    obs_id : array of int, shape (n_showers,)
        Its observation.
    speed_m_per_ns : float
        Speed of light in the air at the array.
    """

    start: Indices
    shower: Indices
    telescope: Indices
    kind: Indices
    delay_ns: Floats
    position_m: Floats
    place: Front
    core_m: Floats
    core_error_m: Floats
    towards: Floats
    radius_m: Floats
    brightness: Floats
    offset: Floats
    pointing: Floats
    time_s: Floats
    obs_id: npt.NDArray[np.int64]
    speed_m_per_ns: float

    def __len__(self) -> int:
        """Return the number of showers."""
        return len(self.start) - 1

    @property
    def size(self) -> Floats:
        """Image sizes, p.e.; infinite where unknown."""
        with np.errstate(divide="ignore"):
            return WALK_SIZE / self.brightness

    def predict(self, log_scale: float) -> tuple[Floats, Floats]:
        """Arrival times (ns) and their derivative with respect to ln(scale of the radius)."""
        radius = self.spread(np.exp(log_scale) * self.radius_m)
        return arrival_ns(self.place, radius, self.speed_m_per_ns)

    def core_slopes(self, log_scale: float) -> tuple[Floats, Floats]:
        """Derivatives of `predict` with respect to the core, ns/m, each of shape (2, n_rows)."""
        radius = self.spread(np.exp(log_scale) * self.radius_m)
        relative = self.position_m[self.telescope, :2] - self.core_m[self.shower]
        towards = self.towards[self.shower, :2]
        return core_slopes(self.place, relative.T, towards.T, radius, self.speed_m_per_ns)

    def total(self, values: Floats) -> Floats:
        """Sum of `values` by shower, shape (n_showers,)."""
        return tally(self.shower, values, len(self))

    def spread(self, values: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """Give every row the value of its shower, shape (n_rows,)."""
        return np.repeat(values, self.count)

    @cached_property
    def count(self) -> Indices:
        """Stamps of each shower, shape (n_showers,)."""
        return np.diff(self.start)


def prepare_stamps(stamps: pl.DataFrame, setup: Setup) -> StampedShowers:
    """Make arrays of STAMPS.

    Parameters
    ----------
    stamps : DataFrame
        Schema ``arraycal.calib.stamps.stamps.STAMPS``, complete showers in order.
    setup : Setup
        How to read them.

    Returns
    -------
    StampedShowers
        The same rows.
    """
    column = {name: stamps[name].to_numpy() for name in stamps.columns}
    same = np.diff(column["event_id"]) == 0
    same &= np.diff(column["obs_id"]) == 0
    start = np.append(0, np.flatnonzero(~same) + 1) if len(stamps) else np.empty(0, np.intp)
    first = start.astype(np.intp)
    shower = np.repeat(np.arange(len(first)), np.diff(first, append=len(stamps)))
    node = node_index(stamps["tel_id"], setup.subarray)
    positions = np.asarray(setup.subarray.positions_m)
    position = positions[node]
    towards = direction(column["alt_deg"][first], column["az_deg"][first])
    aimed = direction(column["pointing_alt_deg"][first], column["pointing_az_deg"][first])
    ground = np.stack([column[name] for name in ("core_x_m", "core_y_m")], axis=1)
    core = np.column_stack([ground, np.zeros(len(ground))])
    delay = column["delay_quarters"] * NS_PER_QUARTER
    if setup.compensated:
        delay = delay - np.einsum("ij,ij->i", aimed[shower], position) / C_M_PER_NS
    size = column["size"]
    bright = np.divide(WALK_SIZE, size, out=np.zeros(len(size)), where=size > 0)
    return StampedShowers(
        start=np.append(first, len(stamps)).astype(np.intp),
        shower=shower,
        telescope=node,
        kind=setup.subarray.type_codes[node],
        delay_ns=delay,
        position_m=positions,
        place=front(position, core, towards[shower]),
        core_m=ground,
        core_error_m=_core_error_m(column, first, setup),
        towards=towards,
        radius_m=_radius_m(column["h_max_m"][first], towards[:, 2], setup),
        brightness=bright,
        offset=towards - aimed,
        pointing=aimed,
        time_s=column["shower_s"][first] + column["shower_quarters"][first] / QUARTERS_PER_S,
        obs_id=column["obs_id"][first],
        speed_m_per_ns=setup.speed_m_per_ns,
    )


def _core_error_m(column: dict[str, npt.NDArray[Any]], first: Indices, setup: Setup) -> Floats:
    """Error of the core along x and y, as stated or as in the stamps; 0 if nothing is known."""
    if setup.core_error_m is not None:
        return np.full((len(first), 2), setup.core_error_m)
    names = ("core_error_x_m", "core_error_y_m")
    errors = np.stack([column[name][first] for name in names], axis=1)
    return np.asarray(np.nan_to_num(errors))


def _radius_m(h_max_m: Floats, sin_alt: Floats, setup: Setup) -> Floats:
    """Distance to the shower maximum along the axis; the usual one where h_max is not credible."""
    low, high = setup.h_max_range_m
    above = h_max_m - setup.altitude_m
    credible = (h_max_m >= low) & (h_max_m <= high) & (above > 0)
    return np.where(credible, above, setup.usual_maximum_m) / sin_alt


@dataclass(frozen=True)
class Plan:
    """Chunks of time: consecutive showers of one observation.

    Parameters
    ----------
    edges : array of int, shape (n_chunks + 1,)
        Number of the first shower of each chunk, counted through all blocks.
    start_s, stop_s : array, shape (n_chunks,)
        Dates of the first and the last shower.
    obs_id : array of int, shape (n_chunks,)
        The observation.
    pointing : array, shape (n_chunks, 3)
        Mean direction of the pointing; NaN if unknown.
    """

    edges: Indices
    start_s: Floats
    stop_s: Floats
    obs_id: npt.NDArray[np.int64]
    pointing: Floats

    def __len__(self) -> int:
        """Return the number of chunks."""
        return len(self.start_s)

    def chunks(self, first: int, count: int) -> Indices:
        """Chunk of each of `count` showers from number `first` on."""
        numbers = np.arange(first, first + count)
        return np.searchsorted(self.edges, numbers, side="right") - 1

    def split(self, shower: int, before_s: float, after_s: float) -> Plan:
        """Return the plan with one more edge, before a shower; dates of its neighbours given."""
        at = int(np.searchsorted(self.edges, shower, side="right"))
        if shower in self.edges:
            return self
        return Plan(
            np.insert(self.edges, at, shower),
            np.insert(self.start_s, at, after_s),
            np.insert(self.stop_s, at - 1, before_s),
            np.insert(self.obs_id, at, self.obs_id[at - 1]),
            np.insert(self.pointing, at, self.pointing[at - 1], axis=0),
        )

    def move(self, edge: int, shower: int, before_s: float, after_s: float) -> Plan:
        """Return the plan with an edge moved to a shower; dates of its neighbours given."""
        edges, start, stop = self.edges.copy(), self.start_s.copy(), self.stop_s.copy()
        edges[edge], start[edge], stop[edge - 1] = shower, after_s, before_s
        return Plan(edges, start, stop, self.obs_id, self.pointing)


def make_plan(windows: Iterable[StampedShowers], duration_s: float, min_showers: int) -> Plan:
    """Cut the showers into chunks.

    Parameters
    ----------
    windows : iterable of Showers
        All showers in order.
    duration_s : float
        Least duration of a chunk.
    min_showers : int
        Least number of showers in a chunk; what is left at the end of an observation joins the
        chunk before it.

    Returns
    -------
    Plan
        A chunk ends when it is long enough and full enough, and where the observation ends.
    """
    lengths: list[int] = []
    spans: list[tuple[float, float, int, Floats]] = []
    held: list[_Dates] = []
    for showers in windows:
        for part in _by_observation(showers):
            if held and held[-1].obs_id[0] != part.obs_id[0]:
                _cut(held, duration_s, min_showers, lengths, spans)
                held = []
            held.append(part)
    if held:
        _cut(held, duration_s, min_showers, lengths, spans)
    return Plan(
        np.append(0, np.cumsum(lengths)).astype(np.intp),
        np.array([span[0] for span in spans]),
        np.array([span[1] for span in spans]),
        np.array([span[2] for span in spans], np.int64),
        np.array([span[3] for span in spans]).reshape(-1, 3),
    )


@dataclass(frozen=True)
class _Dates:
    """What of a window the plan needs."""

    time_s: Floats
    obs_id: npt.NDArray[np.int64]
    pointing: Floats


def _by_observation(showers: StampedShowers) -> list[_Dates]:
    if not len(showers):
        return []
    cuts = np.flatnonzero(np.diff(showers.obs_id)) + 1
    parts = zip(
        np.split(showers.time_s, cuts),
        np.split(showers.obs_id, cuts),
        np.split(showers.pointing, cuts),
        strict=True,
    )
    # Copies of what is kept: views would hold the whole window in memory.
    return [_Dates(time.copy(), ids[:1].copy(), aim[:1].copy()) for time, ids, aim in parts]


def _cut(
    held: list[_Dates],
    duration_s: float,
    min_showers: int,
    lengths: list[int],
    spans: list[tuple[float, float, int, Floats]],
) -> None:
    """Cut one observation into chunks."""
    dates = np.concatenate([part.time_s for part in held])
    elapsed = np.maximum.accumulate(dates)  # clocks may be set back
    edges = [0]
    while True:
        full = edges[-1] + min_showers
        late = int(np.searchsorted(elapsed, elapsed[edges[-1]] + duration_s))
        if max(full, late) >= len(dates):
            break
        edges.append(max(full, late))
    if len(edges) > 1 and len(dates) - edges[-1] < min_showers:
        edges.pop()
    edges.append(len(dates))
    for first, last in pairwise(edges):
        part = dates[first:last]
        lengths.append(last - first)
        span = (float(part.min()), float(part.max()), int(held[0].obs_id[0]), held[0].pointing[0])
        spans.append(span)
