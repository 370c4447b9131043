"""Axes that draw all ticks at once; matplotlib's own make five artists of every tick.

Ticks were most of what a report took to draw. Here an axis has one major and one minor tick, which
are made as ever and drawn at every place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis, Tick, XAxis, XTick, YAxis, YTick
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from matplotlib.backend_bases import RendererBase
    from matplotlib.text import Text
    from matplotlib.ticker import Formatter, Locator

    Floats = npt.NDArray[np.float64]

__all__ = ["QuickFigure"]

#: Relative to the view: a tick so near to its edge is inside.
NEAR = 1e-10


class QuickFigure(Figure):
    """Figure whose axes, also those of colour bars, are quick."""

    def add_subplot(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  passed on
        """Add axes, as ever."""
        return super().add_subplot(*args, **{"axes_class": _QuickAxes, **kwargs})

    def add_axes(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  passed on
        """Add axes, as ever."""
        return super().add_axes(*args, **{"axes_class": _QuickAxes, **kwargs})


class _Stamp(Tick):
    """A tick that is drawn at many places."""

    #: Which coordinate of its lines is the place.
    along = 0
    places: Sequence[float] = ()
    labels: Sequence[str] = ()

    def move(self, places: Sequence[float], labels: Sequence[str]) -> None:
        """Say where; it stands at the longest label, which the title of the axis keeps clear of."""
        self.places, self.labels = places, labels
        self._write(*max(zip(places, labels, strict=True), key=lambda at: len(at[1])))

    def _write(self, place: float, label: str) -> None:
        self.update_position(place)
        self.label1.set_text(label)
        self.label2.set_text(label)

    def draw(self, renderer: RendererBase) -> None:
        """Draw all marks as one line, the rest place by place."""
        for place, label in zip(self.places, self.labels, strict=True):
            self._write(place, label)
            for artist in (self.gridline, self.label1, self.label2):
                artist.draw(renderer)
        for line in (self.tick1line, self.tick2line):
            x, y = line.get_data()
            edge = np.repeat((y, x)[self.along], len(self.places))
            line.set_data(*((self.places, edge), (edge, self.places))[self.along])
            line.draw(renderer)
            line.set_data(x, y)
        self.move(self.places, self.labels)


class _XStamp(_Stamp, XTick):
    """Of a horizontal axis."""


class _YStamp(_Stamp, YTick):
    """Of a vertical axis."""

    along = 1


class _Stamping(Axis):
    """An axis with a stamp for its major and one for its minor ticks."""

    def set_tick_params(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  passed on
        """Set parameters, as ever, but for ticks that are yet to be made."""
        self.majorTicks, self.minorTicks = [], []
        super().set_tick_params(*args, **kwargs)
        self.reset_ticks()

    def set_minor_locator(self, locator: Locator) -> None:
        """Say where the minor ticks are, as ever, for ticks that are yet to be made."""
        super().set_minor_locator(locator)
        self.reset_ticks()

    def set_clip_path(self, *args: Any) -> None:  # noqa: ANN401  passed on
        """Clip the axis; its ticks are clipped when they are made."""
        Artist.set_clip_path(self, *args)

    def get_majorticklabels(self) -> list[Text]:
        """Labels of the major ticks, each of its own, for who asks for them."""
        super()._update_ticks()  # type: ignore[misc]  # not in the stubs of matplotlib
        return super().get_majorticklabels()

    #: What is drawn right now.
    _drawn: list[_Stamp] | None = None

    def draw(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  passed on
        """Draw, as ever, but look for places and labels once and not for each who asks."""
        self._drawn = self._update_ticks()
        super().draw(*args, **kwargs)
        self._drawn = None

    def _update_ticks(self) -> list[_Stamp]:
        if self._drawn is not None:
            return self._drawn
        ticks: list[_Stamp] = []
        if not isinstance(self.get_major_locator(), NullLocator):
            places, form = self.get_majorticklocs(), self.get_major_formatter()
            ticks += self._moved(self.get_major_ticks(1), places, form)
        if isinstance(self.get_minor_locator(), NullLocator):
            self.minorTicks = self.majorTicks  # else one is made for who looks how long they are
        else:
            places, form = self.get_minorticklocs(), self.get_minor_formatter()
            ticks += self._moved(self.get_minor_ticks(1), places, form)
        return ticks

    def _moved(self, ticks: list[Any], places: Floats, form: Formatter) -> Iterator[_Stamp]:
        labels = form.format_ticks(places)  # type: ignore[arg-type]  # any sequence will do
        at = self.get_transform().transform(places)
        low, high = np.sort(self.get_transform().transform(self.get_view_interval()))
        near = NEAR * (high - low)
        inside = np.flatnonzero((at >= low - near) & (at <= high + near)).tolist()
        if inside:
            ticks[0].set_clip_path(self.axes.patch)
            ticks[0].move([float(places[i]) for i in inside], [labels[i] for i in inside])
            yield ticks[0]


class _QuickX(_Stamping, XAxis):
    """Horizontal."""

    _tick_class = _XStamp


class _QuickY(_Stamping, YAxis):
    """Vertical."""

    _tick_class = _YStamp


class _QuickAxes(Axes):
    """Axes with stamping axes; what else they are is as ever."""

    def _init_axis(self) -> None:
        self.xaxis, self.yaxis = _QuickX(self, clear=False), _QuickY(self, clear=False)
        for axis, sides in ((self.xaxis, ("bottom", "top")), (self.yaxis, ("left", "right"))):
            for side in sides:
                self.spines[side].register_axis(axis)
