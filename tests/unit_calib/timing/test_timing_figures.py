"""Figures and tables of clocks whose numbers lie many orders apart."""

from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from arraycal.calib.figures.telescopes import coefficients
from arraycal.calib.figures.timing import clock_history
from arraycal.calib.report.timing_page import timing_section
from arraycal.calib.result.result import CLOCK_OFFSET
from arraycal.calib.wording import readable_ns

STEP = {"tel_type": "LST", "tel_id": 1, "time_s": 120.0, "size_ns": 5e7, "error_ns": 0.1,
        "p_value": 0.0}  # fmt: skip


def panels(figure):
    assert figure is not None
    return figure.axes


def history(jump_ns) -> Any:
    """Three clocks in four minutes; the first jumps in the middle."""
    rows = [
        (chunk, 60.0 * chunk, 60.0 * chunk + 60, "LST", tel, 10.0 * tel + 0.1 * chunk % 2, 0.1)
        for chunk in range(4)
        for tel in (1, 2, 3)
    ]
    names = ("chunk", "start_s", "stop_s", "tel_type", "tel_id", "offset_ns", "error_ns")
    table = pl.DataFrame(rows, schema=names, orient="row")
    early = (pl.col("tel_id") == 1) & (pl.col("chunk") < 2)
    table = table.with_columns(offset_ns=pl.col("offset_ns") - jump_ns * early)
    telescopes = pl.DataFrame({"tel_id": [1, 2, 3], "value": [10.0, 20.0, 30.0]})
    steps = pl.DataFrame([STEP | {"size_ns": jump_ns}])
    return SimpleNamespace(extras={"history": table, "steps": steps}, telescopes=telescopes)


def texts(axes):
    return [text.get_text().strip() for text in axes.texts]


def test_a_large_jump_does_not_flatten_the_history_of_the_other_clocks():
    (axes,) = panels(clock_history(history(5e7)))
    low, high = axes.get_ylim()
    assert -5 < low < 0 < high < 5
    assert texts(axes) == ["LST 1: +50 ms", "off the scale: LST 1 -50 ms"]
    arrows = [line for line in axes.lines if line.get_marker() == "v" and len(line.get_xdata())]
    assert [list(line.get_xdata()) for line in arrows] == [[0.5, 1.5]]


def test_a_small_jump_is_drawn_to_scale():
    (axes,) = panels(clock_history(history(20.0)))
    assert axes.get_ylim()[0] < -20
    assert texts(axes) == ["LST 1: +20.00 ns"]


def test_a_chance_too_small_for_a_number_is_said_to_be_below_one():
    result: Any = SimpleNamespace(
        extras={"intervals": pl.DataFrame(), "steps": pl.DataFrame([STEP])}
    )
    page = "".join(timing_section(result))
    assert "&lt; 1e-300" in page
    assert "0.0e+00" not in page


def offsets(scatter_ns) -> Any:
    telescopes = pl.DataFrame(
        {
            "tel_type": ["LST"] * 4,
            "tel_id": [1, 2, 3, 4],
            "value": [scatter_ns, -scatter_ns, 0.0, None],
            "error": [0.03, 0.04, 0.05, None],
            "systematic": [0.04, 0.03, 0.0, None],
            "flag": ["ok"] * 4,
        }
    ).with_columns(pl.col("value", "error", "systematic").fill_null(float("nan")))
    return SimpleNamespace(telescopes=telescopes, quantity=CLOCK_OFFSET)


def test_errors_too_small_for_bars_have_a_panel_of_their_own():
    _, lower = panels(coefficients(offsets(100.0)))
    assert lower.get_ylabel() == "error / ns"
    both, statistical = (line.get_ydata() for line in lower.lines)
    assert both == pytest.approx([0.05, 0.05, 0.05])  # hypot(3, 4) = 5
    assert statistical == pytest.approx([0.03, 0.04, 0.05])


def test_errors_that_are_seen_as_bars_have_none():
    (axes,) = panels(coefficients(offsets(0.2)))
    assert axes.get_xlabel() == "telescope"


@pytest.mark.parametrize(
    ("value_ns", "text"),
    [(0.0, "+0.00 ns"), (-999.0, "-999.00 ns"), (1000.25, "+1.00025 us"), (-2.5e6, "-2.5 ms"),
     (1000000000.3, "+1 s"), (3600e9, "+3600 s")],
)  # fmt: skip
def test_times_are_written_in_the_unit_that_suits_them(value_ns, text):
    assert readable_ns(value_ns) == text
