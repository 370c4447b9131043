"""Pixels that saturate: found in the brightest pixels of the images of a block.

A pixel that saturates stops counting at a level, so that many images share one brightest pixel.
Their number by brightest pixel falls steadily up to the level, piles up there and ends. Images of
a telescope that has such a spike are saturated from the smallest sizes seen in it on; that size
is the ceiling of the selection (`arraycal.calib.fit.selection.clearance`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from arraycal.calib.dl2.findings import TELESCOPE_LEVEL
from arraycal.calib.index import node_index
from arraycal.calib.pairs.selection import PAIR_LEVEL
from arraycal.calib.schema import REJECTED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from arraycal.calib.subarray import Subarray

    Integers = npt.NDArray[np.int64]

__all__ = [
    "MOSTLY",
    "SATURATED",
    "UNCHECKED",
    "BrightestPixels",
    "Saturation",
    "ceilings_found",
    "described",
    "lost_rows",
    "saturated_from",
    "unsaturated",
    "without_number",
]

#: Flag of a telescope without a number, and topic of the notes.
SATURATED, TOPIC = "saturated", "saturation"
#: A telescope with this share of saturated images has no room between threshold and ceiling: the
#: number of images falls with the power 1.7 of the size, so that half of them exceed 1.5 times
#: the threshold, and the margins at either end take more than that.
MOSTLY = 0.5
#: Name of the rule by which rows of such a telescope, or pairs with it, are left out.
MOSTLY_SATURATED = "most images of the {} are saturated"
#: What a block without the column is told.
UNCHECKED = (TOPIC, "not checked: the file has no intensity_max, the brightest pixel of an image")

#: Bins in the logarithm of the brightest pixel and of the size, p.e.
LOG_LOW, LOG_HIGH = math.log(1e-2), math.log(1e8)
PIXEL_STEP, SIZE_STEP = 0.002, 0.02
N_PIXEL, N_SIZE = (int((LOG_HIGH - LOG_LOW) / step) + 1 for step in (PIXEL_STEP, SIZE_STEP))
#: Widths of a spike that are tried, in bins, and the images it must hold beyond twice those just
#: below it. Equal pixels share one bin. Gains that differ from pixel to pixel smear the level; of
#: a wide spike more is asked, because the brightest few images of a falling spectrum may be close.
WIDTHS = ((1, 10), (10, 10), (50, 25), (100, 25))
#: Bins below a place that tell how many images to expect in it, and at least so many times its
#: width: the number falls with the brightest pixel, so that there are rather fewer.
REFERENCE, REFERENCE_WIDTHS = 100, 2
#: Images that may be missing there by chance; added to those found.
FEW = 3.0
#: Chance of finding any spike in a block that has none, all places looked at together.
CHANCE = 1e-3
#: Images in a spike are larger than the median of those just below it, at least this part of them,
#: because they would have had a brighter pixel; of any images half are. So many below tell.
LARGER, LEAST_BELOW = 0.75, 10
#: Images above a spike, at most this part of those in it.
ABOVE = 0.1
#: Part of the saturated images below the ceiling.
ONSET = 0.02


class Saturation(NamedTuple):
    """What was found of one telescope of one block.

    Parameters
    ----------
    tel_id : int
        Telescope.
    level : float
        Brightest pixel of saturated images, p.e.
    images, saturated : int
        Images with a size and a brightest pixel, and those that reach the level.
    ceiling : float
        Size above which images saturate, p.e.
    """

    tel_id: int
    level: float
    images: int
    saturated: int
    ceiling: float

    @property
    def share(self) -> float:
        """Part of the images that are saturated."""
        return self.saturated / self.images

    @property
    def mostly(self) -> bool:
        """Whether so many are that nothing is left to compare."""
        return self.share >= MOSTLY


@dataclass
class BrightestPixels:
    """Counts images by telescope, brightest pixel and size; memory does not grow with the block."""

    subarray: Subarray
    cells: Integers = field(default_factory=lambda: np.empty(0, np.int64))
    counts: Integers = field(default_factory=lambda: np.empty(0, np.int64))

    def add(self, events: pl.DataFrame, size: str, brightest: str) -> None:
        """Count the images of some EVENTS."""
        known = events.filter(
            pl.all_horizontal(
                (pl.col(name) > 0) & pl.col(name).is_finite() for name in (size, brightest)
            )
        )
        cell = node_index(known["tel_id"], self.subarray).astype(np.int64)
        for name, step, n in ((brightest, PIXEL_STEP, N_PIXEL), (size, SIZE_STEP, N_SIZE)):
            logs = np.log(known[name].to_numpy().astype(float))
            cell = cell * n + np.clip(((logs - LOG_LOW) / step).astype(np.int64), 0, n - 1)
        cells, where = np.unique(np.concatenate([self.cells, cell]), return_inverse=True)
        counts = np.concatenate([self.counts, np.ones(len(cell), np.int64)])
        self.cells, self.counts = cells, np.bincount(where, counts).astype(np.int64)

    def found(self) -> list[Saturation]:
        """Find the telescopes that saturate.

        Each by its own images; those whose own images do not tell, by all such of their type.
        """
        if not len(self.cells):
            return []
        node, rest = np.divmod(self.cells, N_PIXEL * N_SIZE)
        pixel, size = np.divmod(rest, N_SIZE)
        levels: dict[int, tuple[int, int]] = {}
        for members in self._groups():
            unknown = [i for i in members if i not in levels]
            rows = np.isin(node, unknown)
            level = spike(np.bincount(pixel[rows], self.counts[rows], N_PIXEL), self.places)
            if level is not None and _larger(level, pixel[rows], size[rows], self.counts[rows]):
                levels |= dict.fromkeys(unknown, level)
        found = []
        for i, (low, high) in sorted(levels.items()):
            own = node == i
            top = own & (pixel >= low)
            if top.any():
                found.append(
                    Saturation(
                        self.subarray.tel_ids[i],
                        _value(0.5 * (low + high), PIXEL_STEP),
                        int(self.counts[own].sum()),
                        int(self.counts[top].sum()),
                        _value(_low_quantile(size[top], self.counts[top]), SIZE_STEP),
                    )
                )
        return found

    @property
    def places(self) -> int:
        """Number of places in which a spike is looked for."""
        return N_PIXEL * len(WIDTHS) * len(self._groups())

    def _groups(self) -> list[list[int]]:
        """Return telescopes one by one, then types."""
        kinds = self.subarray.type_codes
        types = [np.flatnonzero(kinds == code).tolist() for code in range(int(kinds.max()) + 1)]
        return [*([i] for i in range(len(kinds))), *types]


def spike(histogram: npt.NDArray[np.number[Any]], places: int = 1) -> tuple[int, int] | None:
    """Find the bins in which a falling distribution piles up and ends.

    Parameters
    ----------
    histogram : array, shape (n_bins,)
        Images by brightest pixel.
    places : int
        Number of places in which this and other histograms are searched, all of which count in the
        chance of finding a spike where there is none.

    Returns
    -------
    (int, int) or None
        First bin of the spike and the one after its last; None if there is no spike.

    Examples
    --------
    >>> spike(np.array([40.0, 20.0, 10.0, 5.0, 60.0, 0.0]))
    (4, 5)
    >>> spike(np.array([40.0, 20.0, 10.0, 5.0, 2.0, 0.0])) is None
    True
    """
    from scipy.special import pdtrc  # late: blocks from the cache need no scipy

    up_to = np.concatenate([[0.0], np.cumsum(histogram)])
    n = len(histogram)
    for width, least in WIDTHS:
        starts = np.arange(n - width + 1)
        inside = up_to[starts + width] - up_to[starts]
        above = up_to[-1] - up_to[starts + width]
        below = up_to[starts] - up_to[np.maximum(starts - width, 0)]
        # The chance is dear to compute, and few places, if any, get as far.
        tall = starts[(inside >= least + 2 * below) & (above <= ABOVE * inside)]
        reach = np.minimum(max(REFERENCE, REFERENCE_WIDTHS * width), np.maximum(tall, 1))
        expected = (up_to[tall] - up_to[np.maximum(tall - reach, 0)] + FEW) * width / reach
        fits = tall[pdtrc(np.maximum(inside[tall] - 1, 0), expected) < CHANCE / places]
        if len(fits):
            start = int(fits[np.argmax(inside[fits])])
            held = np.flatnonzero(histogram[start : start + width])
            return start + int(held[0]), start + int(held[-1]) + 1
    return None


def _larger(level: tuple[int, int], pixel: Integers, size: Integers, counts: Integers) -> bool:
    """Whether the images of a spike are also the larger ones."""
    width = level[1] - level[0]
    reach = max(REFERENCE, REFERENCE_WIDTHS * width)
    below = (pixel >= level[0] - reach) & (pixel < level[0])
    if counts[below].sum() < LEAST_BELOW:
        return True
    usual = np.median(np.repeat(size[below], counts[below]))
    top = (pixel >= level[0]) & (pixel < level[1])
    return bool(counts[top & (size > usual)].sum() >= LARGER * counts[top].sum())


def _low_quantile(bins: Integers, counts: Integers) -> int:
    """Bin below which lie no more than the part `ONSET` of the counts."""
    order = np.argsort(bins, kind="stable")
    reached = np.cumsum(counts[order]) > ONSET * counts.sum()
    return int(bins[order][np.argmax(reached)])


def _value(position: float, step: float) -> float:
    return math.exp(LOG_LOW + position * step)


def described(found: Sequence[Saturation], subarray: Subarray) -> list[tuple[str, str]]:
    """Notes on a block, one for every type that saturates."""
    notes = []
    types = dict(zip(subarray.tel_ids, subarray.types, strict=True))
    for tel_type in sorted(set(subarray.types)):
        own = [item for item in found if types[item.tel_id] == tel_type]
        if own:
            images, saturated = (sum(getattr(i, n) for i in own) for n in ("images", "saturated"))
            lowest = min(own, key=lambda item: item.ceiling)
            note = (
                f"{saturated:,} of {images:,} images of {len(own)} {tel_type} are saturated: "
                f"their brightest pixel stops at {lowest.level:.3g} p.e., from sizes of "
                f"{lowest.ceiling:,.0f} p.e. on"
            )
            notes.append((TOPIC, note))
    return notes


def ceilings_found(blocks: Iterable[Sequence[Saturation]], subarray: Subarray) -> dict[int, float]:
    """Lowest ceiling of every telescope, ln(p.e.), where it is not left out altogether."""
    ceilings = dict.fromkeys(subarray.tel_ids, math.inf)
    for found in blocks:
        for item in found:
            if not item.mostly:
                ceilings[item.tel_id] = min(ceilings[item.tel_id], math.log(item.ceiling))
    return ceilings


def without_number(blocks: Sequence[Sequence[Saturation]]) -> dict[int, tuple[str, str]]:
    """What to say of a telescope should it get no number: flag and reason, by id.

    The flag is that of a telescope which saturates in every block; it is empty where that may have
    been the reason, beside others.
    """
    found: dict[int, list[Saturation]] = {}
    for item in (item for block in blocks for item in block):
        found.setdefault(item.tel_id, []).append(item)
    return {
        tel_id: (
            SATURATED if len(items) == len(blocks) else "",
            saturated_from(items),
        )
        for tel_id, items in sorted(found.items())
    }


ALL = "all"


def saturated_from(items: Sequence[Saturation]) -> str:
    """How many images of a telescope are saturated, and from which size on."""
    share, lowest = _share(items), min(item.ceiling for item in items)
    onset = "" if share == ALL else f", from sizes of {lowest:,.0f} p.e. on"
    return f"{share} of its images are saturated{onset}"


def _share(items: Sequence[Saturation]) -> str:
    saturated, images = sum(i.saturated for i in items), sum(i.images for i in items)
    return ALL if saturated == images else f"{saturated / images:.1%}"


def unsaturated(rows: pl.DataFrame, found: Sequence[Saturation]) -> pl.DataFrame:
    """ROWS or PAIRS without the telescopes of which most images are saturated."""
    lost = _left_out(found)
    return rows.filter(~_with_any(lost, rows.columns)) if lost else rows


def lost_rows(rows: pl.LazyFrame, found: Sequence[Saturation]) -> pl.DataFrame:
    """REJECTED rows of what `unsaturated` leaves out of ROWS or PAIRS, by type."""
    lost = _left_out(found)
    if not lost:
        return REJECTED.to_frame()
    names = rows.collect_schema().names()
    level = TELESCOPE_LEVEL if TELESCOPE in names else PAIR_LEVEL
    left_out = rows.filter(_with_any(lost, names))
    counts = left_out.group_by("tel_type").len().sort("tel_type").collect()
    found_rows = [(level, MOSTLY_SATURATED.format(kind), n) for kind, n in counts.rows()]
    return pl.DataFrame(found_rows, schema=REJECTED, orient="row")


def _left_out(found: Iterable[Saturation]) -> list[int]:
    return [item.tel_id for item in found if item.mostly]


#: Columns with a telescope: of ROWS, and of PAIRS.
TELESCOPE, SIDES = "tel_id", ("tel_id_1", "tel_id_2")


def _with_any(tel_ids: Sequence[int], names: Sequence[str]) -> pl.Expr:
    columns = (TELESCOPE,) if TELESCOPE in names else SIDES
    return pl.any_horizontal(pl.col(name).is_in(tel_ids) for name in columns)
