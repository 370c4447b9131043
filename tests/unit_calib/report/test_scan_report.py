"""Threshold scan and pair histograms in the report: they show what the tables hold."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.container import ErrorbarContainer

from arraycal.calib.checks.pair_histograms import EDGES, PAIR_HISTOGRAMS
from arraycal.calib.checks.scan_tables import SCAN, SCAN_TYPES
from arraycal.calib.figures.pair_gallery import gallery_figures
from arraycal.calib.figures.scan import scan_figure
from arraycal.calib.report import html, markdown
from arraycal.calib.report.scan_page import gallery_section, scan_section
from tests.unit_calib.report.test_report import SMALL, Page, assert_harmless

NAN = float("nan")


def scan_of(changes, in_use=2.5, tel_type="MST"):
    """Tables of a scan of two telescopes whose ln c changes by margin, and which are flagged."""
    rows, types = [], []
    for margin, (change, changed, plateau) in changes.items():
        error = 0.0 if margin == in_use else 0.002
        rows += [
            (tel_type, tel_id, margin, 1 + sign * change, 0.01, sign * change, error, 100)
            for tel_id, sign in ((5, 1), (6, -1))
        ]
        p = NAN if margin == in_use else 1e-9 if changed else 0.5
        types.append(
            (
                *(tel_type, margin, margin == in_use, 2, 50, abs(change), 3.0, 1, p),
                *(5, change, error, p, changed, plateau),
            )
        )
    return (
        pl.DataFrame(rows, SCAN, orient="row"),
        pl.DataFrame(types, SCAN_TYPES, orient="row"),
    )


FLAT = {0.0: (0.03, True, False), 1.0: (0.001, False, True), 2.5: (0.0, False, True),
        4.0: (0.002, False, True)}  # fmt: skip
RISING = {0.5: (0.0, False, False), 1.0: (0.02, True, False), 4.0: (0.03, True, False)}


def with_scan(changes, in_use):
    telescopes, types = scan_of(changes, in_use)
    extras = {"threshold_scan": telescopes, "threshold_scan_types": types}
    return replace(SMALL, extras=extras)


@pytest.mark.parametrize(
    ("changes", "in_use", "expected"),
    [
        (FLAT, 2.5, "MST: nothing changes from margin 1 on; the margin in use, 2.5, is on the"),
        (RISING, 0.5, "MST: the margin in use, 0.5, is not on the plateau."),
        (dict(list(FLAT.items())[:3]), 2.5, "has no larger one with enough showers to compare"),
    ],
)
def test_the_report_says_where_the_plateau_is(changes, in_use, expected):
    text = html(with_scan(changes, in_use))
    page = assert_harmless(text)
    assert any(expected in words for words in page.texts)
    assert ("alt", "threshold scan") in [(name, value) for _, name, value in page.attributes]


def test_margins_that_speak_against_the_result_stand_out():
    rising = "".join(scan_section(with_scan(RISING, 0.5)))
    assert rising.count('class="warn"') == 2
    # A margin below the one in use may change what it likes.
    assert 'class="warn"' not in "".join(scan_section(with_scan(FLAT, 2.5)))


def test_a_type_without_any_coefficient_is_named():
    result = with_scan(FLAT, 2.5)
    types = result.extras["threshold_scan_types"].with_columns(
        n_telescopes=pl.lit(0, pl.Int64), plateau=pl.lit(value=False)
    )
    extras = {"threshold_scan": pl.DataFrame(schema=SCAN), "threshold_scan_types": types}
    words = Page("".join(scan_section(replace(result, extras=extras)))).texts
    assert "MST: no coefficient to compare." in words


def test_points_and_error_bars_are_those_of_the_table():
    telescopes, types = scan_of(FLAT)
    figure = scan_figure(telescopes, types)
    assert figure is not None
    (axes,) = figure.axes
    on_plateau, off = (c for c in axes.containers if isinstance(c, ErrorbarContainer))
    drawn = np.concatenate([on_plateau.lines[0].get_ydata(), off.lines[0].get_ydata()])
    expected = pl.concat([telescopes.filter(pl.col("margin") > 0), telescopes[:2]])
    np.testing.assert_allclose(np.sort(drawn), np.sort(100 * expected["difference"]))
    assert len(np.asarray(off.lines[0].get_ydata())) == 2
    (bars,) = off.lines[2]
    np.testing.assert_allclose([np.ptp(bar[:, 1]) / 2 for bar in bars.get_segments()], 0.2)


def test_a_scan_of_the_margin_in_use_alone_is_not_drawn():
    assert scan_figure(*scan_of({2.5: (0.0, False, True)})) is None


def histogram_of(mean, sigma, n, fitted, tel_type="MST", tel_ids=(5, 6)):
    ratio = np.random.default_rng(1).normal(mean, sigma, n)
    counts, _ = np.histogram(ratio, EDGES)
    error = ratio.std() / np.sqrt(n) if n > 1 else NAN
    ends = (float(EDGES[0]), float(EDGES[-1]))
    below, above = int((ratio < ends[0]).sum()), int((ratio >= ends[1]).sum())
    return (
        tel_type,
        *tel_ids,
        n,
        ratio.mean(),
        error,
        fitted,
        *ends,
        below,
        above,
        counts.tolist(),
    )


def table_of(*rows):
    return pl.DataFrame(list(rows), PAIR_HISTOGRAMS, orient="row")


def test_bars_hold_the_counts_and_lines_stand_at_the_means():
    table = table_of(histogram_of(0.3, 0.2, 10_000, 0.31))
    (figure,) = gallery_figures(table).values()
    (axes,) = figure.axes
    zero, _, fitted, plain = (c for c in axes.collections if isinstance(c, LineCollection))
    # Places are linear in the log ratio: two of the ticks give the scale.
    _, middle, right = axes.get_xticks()
    unit = (right - middle) / float(axes.get_xticklabels()[2].get_text())
    places = [c.get_segments()[0][0][0] for c in (zero, fitted, plain)]
    np.testing.assert_allclose((np.array(places) - middle) / unit, [0, 0.31, table["mean"][0]])
    (shapes,) = (c for c in axes.collections if isinstance(c, PolyCollection))
    (path,) = shapes.get_paths()
    corners = np.asarray(path.vertices, float)
    x, y = (corners[:, 0] - middle) / unit, corners[:, 1] - corners[0, 1]
    height, width = y[1:-2:2], np.diff(x[1:-1:2])
    centre = x[1:-2:2] + width[0] / 2
    assert np.average(centre, weights=height) == pytest.approx(0.3, abs=0.01)
    scatter = np.sqrt(np.average((centre - 0.3) ** 2, weights=height))
    # The bin width adds its own 0.3 of it, in quadrature.
    assert scatter == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(
    "row",
    [
        histogram_of(0.0, 0.2, 1, 0.0),
        histogram_of(0.0, 0.2, 100, NAN),
        histogram_of(1.9, 0.5, 100, 3.0),
        histogram_of(5.0, 0.01, 100, 0.0),
    ],
    ids=["one shower", "no fit", "half outside", "all outside"],
)
def test_odd_pairs_are_drawn(row):
    assert set(gallery_figures(table_of(row))) == {"MST"}


def test_the_caption_says_how_many_pairs_are_not_shown():
    # SMALL has 5 MST: 10 pairs.
    kept = [histogram_of(0.0, 0.2, 100, 0.0, tel_ids=(5, i)) for i in (6, 7, 8)]
    result = replace(SMALL, extras={"pair_histograms": table_of(*kept)})
    text = "".join(gallery_section(result))
    assert "MST: ln(v1/v2) of single showers as selected, 3 of 10 pairs" in text
    assert "7 are not shown" in text
    page = assert_harmless(html(result))
    assert ("alt", "log ratios of MST") in [(name, value) for _, name, value in page.attributes]
    assert "Log ratios of MST" in markdown(result)


def test_names_of_types_stay_text():
    row = histogram_of(0.0, 0.2, 100, 0.0, tel_type="<b>$x$")
    telescopes, types = scan_of(FLAT, tel_type="<b>$x$")
    extras = {
        "pair_histograms": table_of(row),
        "threshold_scan": telescopes,
        "threshold_scan_types": types,
    }
    assert_harmless(html(replace(SMALL, extras=extras)))


def test_without_a_scan_there_is_no_such_section():
    text = html(SMALL)
    assert "Threshold scan" not in text
    assert "Log ratios of telescope pairs" not in text
