"""Axes that draw all ticks at once draw what matplotlib's own do."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from arraycal.calib.figures.axes import QuickFigure
from arraycal.calib.figures.style import name_ticks, powers_of_ten


def raster(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    buffer.seek(0)
    return imread(buffer)


def line(axes):
    axes.plot([1.0, 40.0], [-3.5, 1e4])
    axes.grid()
    axes.set(xlabel="below", ylabel="left", title="above")


def logarithmic(axes):
    axes.plot([0.02, 90.0], [2e-5, 1.0])
    axes.set(xscale="log", yscale="log", xlabel="below", ylabel="left")
    axes.grid(which="both")
    powers_of_ten(axes.yaxis)


def bar(axes):
    image = axes.imshow(np.arange(12.0).reshape(3, 4))
    axes.figure.colorbar(image, ax=axes, label="right", extend="both")
    axes.tick_params(top=True, right=True, labelright=True, length=2, pad=5)


def named(axes):
    axes.plot([0, 3], [0, 1])
    names = ["LST_LST_LSTCam", "a", "MST", "SST"]
    name_ticks(axes.xaxis, range(4), names, labelrotation=90, labelsize=7)
    axes.tick_params(axis="y", labelleft=False)
    axes.set(xlabel="below", ylabel="left")


def inverted(axes):
    axes.barh(range(3), [1, 2, 3])
    axes.invert_yaxis()
    axes.set_xticks([])


@pytest.mark.parametrize("draw", [line, logarithmic, bar, named, inverted])
def test_the_picture_is_that_of_matplotlib(draw):
    ours, own = QuickFigure(figsize=(4, 3)), Figure(figsize=(4, 3))
    for figure in (ours, own):
        draw(figure.add_subplot())
    np.testing.assert_array_equal(raster(ours), raster(own))


def test_minor_ticks_may_come_after_a_drawing():
    ours, own = QuickFigure(figsize=(4, 3)), Figure(figsize=(4, 3))
    for figure in (ours, own):
        axes = figure.add_subplot()
        raster(figure)
        axes.minorticks_on()
        axes.tick_params(which="minor", length=6, color="red")
    np.testing.assert_array_equal(raster(ours), raster(own))


def test_who_asks_for_labels_gets_one_for_each_tick():
    axes = QuickFigure().add_subplot()
    name_ticks(axes.xaxis, [0, 1, 2], ["a", "b", "c"], labelrotation=30)
    raster(axes.figure)
    labels = axes.get_xticklabels()
    assert [label.get_text() for label in labels] == ["a", "b", "c"]
    assert [label.get_position()[0] for label in labels] == [0, 1, 2]
    assert [label.get_rotation() for label in labels] == [30.0] * 3


def test_named_ticks_are_in_the_view():
    axes = QuickFigure().add_subplot()
    axes.plot([1.0, 2.0], [0.0, 1.0])
    name_ticks(axes.xaxis, [0, 5], ["a", "b"])
    low, high = axes.get_xlim()
    assert low <= 0
    assert high >= 5


def test_decades_are_plain_text():
    axes = QuickFigure().add_subplot()
    axes.set(yscale="log", ylim=(0.01, 100.0))
    powers_of_ten(axes.yaxis)
    shown = [axes.yaxis.get_major_formatter()(value) for value in (1e-12, 0.1, 1.0, 1e3)]
    assert shown == ["10⁻¹²", "10⁻¹", "10⁰", "10³"]
