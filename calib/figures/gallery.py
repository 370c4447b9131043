"""Figures of a calibration, from its result alone: for the report, the Prefect page, a talk.

Nothing here touches a file or a display. matplotlib takes most of a second to import, so that
happens only when something is drawn.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Literal, NamedTuple

from arraycal.calib.figures import pairs, telescopes, timing
from arraycal.calib.figures.style import STYLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from matplotlib.figure import Figure

    from arraycal.calib.result.result import CalibrationResult

__all__ = ["CLOCK_FIGURES", "FIGURES", "Picture", "caption", "draw_figures", "encode"]


class Picture(NamedTuple):
    """A figure with its name and what it shows."""

    name: str
    caption: str
    figure: Figure


FIGURES: Mapping[str, Callable[[CalibrationResult], Figure | None]] = {
    "coefficients": telescopes.coefficients,
    "array map": telescopes.array_map,
    "pulls": pairs.pulls,
    "residuals": pairs.residual_figure,
    "residual matrix": pairs.residual_matrix,
    "clock history": timing.clock_history,
    "distance residuals": timing.distance_residuals,
    "walk": timing.walk_curve,
    "correlation": telescopes.correlation,
    "rejected rows": pairs.rejected,
}

#: Of clocks alone.
CLOCK_FIGURES = ("clock history", "distance residuals", "walk")

#: What calibrations compare telescopes by, where it is not the energy.
COMPARED = {"image-inter": "image sizes"}
#: What the figures show; `caption` fills in the words of the calibration.
CAPTIONS = {
    "coefficients": (
        "{Coefficient} of every telescope. Thick bar: statistical error; thin bar: statistical "
        "and systematic error in quadrature. Where bars are too small to be seen, errors are drawn "
        "again below: filled the statistical one, open both. A ring marks an outlier, a cross on "
        "the axis a telescope without a coefficient."
    ),
    "array map": (
        "The array from above. Colour: {coefficient}; line width: showers in common; "
        "dotted outline: none."
    ),
    "pulls": (
        "Measured minus fitted mean {difference} of each telescope pair over its error, "
        f"for pairs with {pairs.MIN_SHOWERS} showers or more; beyond 4 is shown as 4."
    ),
    "residuals": (
        "Single showers: measured minus fitted {single} over its expected size. "
        "The core width is half the central 68 %; the outermost bins hold what "
        "lies beyond."
    ),
    "residual matrix": (
        "Measured minus fitted mean {difference} of each telescope pair, for pairs with "
        f"{pairs.MIN_SHOWERS} showers or more."
    ),
    "clock history": (
        "Offset of every telescope by chunk of time, less its final offset; dashed: jumps; arrows "
        "at the edge: offsets off the scale."
    ),
    "distance residuals": (
        "Stamps minus prediction by distance from the shower axis; band: scatter of single stamps."
    ),
    "walk": "Delay of faint images; line: the fitted walk, proportional to 1/size.",
    "correlation": "Correlation of the errors of the {coefficient}s.",
    "rejected rows": "Rows left out, by the first rule that refused them.",
}


def caption(name: str, result: CalibrationResult) -> str:
    """What one of `FIGURES` shows, in the words of the calibration.

    Parameters
    ----------
    name : str
        Of the figure.
    result : CalibrationResult
        What is shown.
    """
    from arraycal.calib.result.result import CLOCK_OFFSET

    coefficient = result.quantity.name
    if result.quantity is CLOCK_OFFSET:
        difference, single = "delay", "time stamp of a telescope"
    else:
        difference = f"log ratio of {COMPARED.get(result.calibration, 'energies')}"
        single = f"{difference} of two telescopes"
    return CAPTIONS[name].format(
        Coefficient=coefficient[:1].upper() + coefficient[1:],
        coefficient=coefficient,
        difference=difference,
        single=single,
    )


def draw_figures(
    result: CalibrationResult, names: Iterable[str] = tuple(FIGURES)
) -> dict[str, Figure]:
    """Draw the figures of a result.

    Parameters
    ----------
    result : CalibrationResult
        Any result, also one without a single coefficient.
    names : iterable of str
        Which of `FIGURES`.

    Returns
    -------
    dict of str to matplotlib.figure.Figure
        Without those for which the result has nothing to show.
    """
    from matplotlib import rc_context

    with rc_context(STYLE):
        drawn = {name: FIGURES[name](result) for name in names}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def encode(figure: Figure, form: Literal["svg", "png"], *, dpi: int = 110) -> str:
    """Encode a figure as a data URI.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        From `draw_figures`.
    form : {"svg", "png"}
        Vector, or raster for viewers that need one.
    dpi : int
        Resolution of the raster.

    Returns
    -------
    str
        ``data:image/...;base64,...``; the same figure always gives the same text.
    """
    from matplotlib import rc_context

    buffer = io.BytesIO()
    metadata = {"Date": None} if form == "svg" else None
    with rc_context(STYLE):
        figure.savefig(buffer, format=form, dpi=dpi, metadata=metadata)
    mime = "svg+xml" if form == "svg" else "png"
    return f"data:image/{mime};base64,{base64.b64encode(buffer.getvalue()).decode()}"
