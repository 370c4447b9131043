"""What all figures share: their look, colours by telescope type, and safe text.

Colours are those of Okabe and Ito, told apart by everyone; types also differ in their marker and
in the dashes of their lines, for paper without colours.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = [
    "ABSENT",
    "DIVERGING",
    "FAINT",
    "INK",
    "QUIET",
    "STYLE",
    "Look",
    "Margins",
    "label_telescopes",
    "legend_above",
    "log_axis",
    "looks",
    "name_ticks",
    "new_figure",
    "plain",
    "powers_of_ten",
    "telescope_lines",
]

INK, QUIET, FAINT = "#1b1f24", "#6b7280", "#dfe3e8"
#: White in the middle; red and blue differ in hue for every kind of colour vision.
DIVERGING = "RdBu_r"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES: tuple[Any, ...] = (
    "-",
    (0, (5, 2)),
    (0, (1, 1)),
    (0, (5, 1, 1, 1)),
    (0, (8, 3)),
    (0, (3, 3)),
)
#: Background of what is not known, beside colours whose middle is white.
ABSENT = "#eeeeee"
POINTS_PER_IN = 72
#: The font of the figures has every Latin letter below this code; other scripts it may not have.
FIRST_WITHOUT_GLYPH = 0x250
SUPERSCRIPTS = str.maketrans(
    "-0123456789",
    "\N{SUPERSCRIPT MINUS}\N{SUPERSCRIPT ZERO}\N{SUPERSCRIPT ONE}\N{SUPERSCRIPT TWO}"
    "\N{SUPERSCRIPT THREE}\N{SUPERSCRIPT FOUR}\N{SUPERSCRIPT FIVE}\N{SUPERSCRIPT SIX}"
    "\N{SUPERSCRIPT SEVEN}\N{SUPERSCRIPT EIGHT}\N{SUPERSCRIPT NINE}",
)
#: Nobody reads letters smaller than this, in points.
SMALLEST_PT = 6.0

# The keys are literals to matplotlib's types; a plain dict of them cannot be spelt otherwise.
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handletextpad": 0.4,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "svg.hashsalt": "arraycal",  # the same result gives the same file
    "svg.fonttype": "none",  # text, to be searched; outlines of letters are many
}


class Look(NamedTuple):
    """Colour, marker and line style of a telescope type."""

    colour: str
    marker: str
    line: Any = "-"


def looks(types: Iterable[str]) -> dict[str, Look]:
    """Look of every telescope type; the same types always get the same.

    Examples
    --------
    >>> looks(["MST", "LST", "MST"])["MST"].marker
    's'
    """
    return {
        name: Look(
            COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)], LINES[index % len(LINES)]
        )
        for index, name in enumerate(sorted(set(types)))
    }


def plain(text: str) -> str:
    r"""Text as it shall be shown: names from files are no formulas and may lack a glyph.

    Examples
    --------
    >>> plain("LST_$x$\n")
    'LST_\\$x\\$?'
    """
    shown = (c if c.isprintable() and ord(c) < FIRST_WITHOUT_GLYPH else "?" for c in text)
    return "".join(shown).replace("$", r"\$")


class Margins(NamedTuple):
    """Room around the axes of a figure, in inches."""

    left: float = 0.65
    right: float = 0.15
    bottom: float = 0.45
    top: float = 0.3


USUAL = Margins()


def new_figure(width_in: float, height_in: float, margins: Margins = USUAL) -> Figure:
    """Return an empty figure that no display and no global state knows of.

    Its margins are given because finding them takes matplotlib longer than the drawing itself.
    """
    from arraycal.calib.figures.axes import QuickFigure

    figure = QuickFigure(figsize=(width_in, height_in))
    figure.subplots_adjust(
        left=margins.left / width_in,
        right=1 - margins.right / width_in,
        bottom=margins.bottom / height_in,
        top=1 - margins.top / height_in,
    )
    return figure


def log_axis(axes: Axes) -> None:
    """Make the x axis logarithmic with plain numbers at 1, 2 and 5: powers of ten collide."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def powers_of_ten(axis: Axis) -> None:
    """Write the decades of a logarithmic axis as text: typesetting them as formulas takes long."""
    from matplotlib.ticker import NullFormatter

    axis.set_major_formatter(
        lambda value, _: f"10{f'{math.log10(value):.0f}'.translate(SUPERSCRIPTS)}"
    )
    axis.set_minor_formatter(NullFormatter())


def legend_above(axes: Axes) -> None:
    """Put the legend above the axes, where nothing is drawn."""
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, borderaxespad=0.2)


def label_telescopes(
    axes: Axes, tel_ids: Sequence[int], room_in: float, *, both: bool = False
) -> None:
    """Write telescope ids at the ticks 0, 1, ...; only every second or so where room is scarce."""
    room_pt = POINTS_PER_IN * room_in / max(len(tel_ids), 1)
    step = max(1, math.ceil(SMALLEST_PT / room_pt))
    ticks = range(0, len(tel_ids), step)
    labels = [str(tel_ids[tick]) for tick in ticks]
    size = min(8.0, max(SMALLEST_PT, 0.8 * room_pt))
    widest = max((len(label) for label in labels), default=0)
    turned = 90 if widest * size > room_pt * step else 0
    name_ticks(axes.xaxis, ticks, labels, labelsize=size, labelrotation=turned)
    if both:
        name_ticks(axes.yaxis, ticks, labels, labelsize=size)
    axes.tick_params(length=2)


def telescope_lines(axes: Axes, points: pl.DataFrame, colour: str) -> None:
    """Draw a thin line through the points (`x`, `y`) of each telescope, all as one artist."""
    from matplotlib.collections import LineCollection

    ordered = points.sort("tel_id", maintain_order=True)
    first = np.flatnonzero(np.diff(ordered["tel_id"].to_numpy())) + 1
    lines = np.split(ordered.select("x", "y").to_numpy(), first)
    axes.add_collection(LineCollection(lines, colors=colour, linewidths=0.6, alpha=0.4))


def name_ticks(axis: Axis, places: Sequence[float], names: Sequence[str], **look: float) -> None:
    """Put ticks with names at places, all in the view, without an artist for each.

    `look` is that of the tick parameters of matplotlib.
    """
    from matplotlib.ticker import FixedFormatter, FixedLocator

    axis.set_major_locator(FixedLocator(places))
    axis.set_major_formatter(FixedFormatter(names))
    if len(places):
        axis.set_view_interval(min(places), max(places))
    axis.set_tick_params("major", reset=False, **look)
