"""The report: it shows what the result holds, and only shows it."""

import base64
import hashlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from matplotlib.container import ErrorbarContainer

from arraycal.calib.figures import CLOCK_FIGURES, FIGURES, caption, draw_figures, encode
from arraycal.calib.figures.contrasts import contrast_figures
from arraycal.calib.figures.style import COLOURS, DIVERGING, looks
from arraycal.calib.report import html, markdown, summary_page
from arraycal.calib.report.elements import SCRIPT
from arraycal.calib.result.result import (
    CLOCK_OFFSET,
    PAIR_RESULTS,
    RESIDUALS,
    TELESCOPES,
    CalibrationResult,
    Verdict,
)
from arraycal.calib.schema import BLOCKS, REJECTED

NAN = float("nan")


def make_result(counts, n_pairs=10_000, seed=0):
    """A result with `counts` telescopes by type, made up but complete."""
    rng = np.random.default_rng(seed)
    types = [name for name, count in counts.items() for _ in range(count)]
    n = len(types)
    value, error = np.exp(rng.normal(0, 0.1, n)), rng.uniform(0.005, 0.02, n)
    telescopes = pl.DataFrame(
        {
            "tel_type": types,
            "tel_id": range(1, n + 1),
            "value": value,
            "error": error,
            "systematic": np.full(n, 0.01),
            "n_events": rng.integers(100, 5000, n),
            "n_candidates": rng.integers(5000, 9000, n),
            "n_partners": np.full(n, n - 1),
            "component": np.zeros(n, int),
            "deviation": np.log(value),
            "z": np.log(value) / 0.1,
            "flag": ["ok"] * n,
            "reason": [""] * n,
        },
        schema=TELESCOPES,
    )
    links = [(i, j) for i, j in combinations(range(n), 2) if types[i] == types[j]][:n_pairs]
    pairs = pl.DataFrame(
        [
            (types[i], i + 1, j + 1, 50 + i, 0.1, 0.01, 0.1, 0.2, 0.02, 0.19, pull, 1e-4, "ok")
            for (i, j), pull in zip(links, rng.normal(size=len(links)), strict=True)
        ],
        schema=PAIR_RESULTS,
        orient="row",
    )
    edges = np.arange(-8.0, 8.25, 0.25)
    drawn = {name: np.histogram(rng.normal(size=20_000), edges)[0] for name in counts}
    residuals = pl.DataFrame(
        [
            (name, *row)
            for name, n in drawn.items()
            for row in zip(edges[:-1], edges[1:], n, strict=True)
        ],
        schema=RESIDUALS,
        orient="row",
    )
    places = rng.uniform(-500, 500, (n, 3))
    return CalibrationResult(
        calibration="energy-inter",
        telescopes=telescopes,
        pairs=pairs,
        blocks=pl.DataFrame(
            [("/data/b1.h5", "ok", "", "1", "v7.6.0", "d1", 9, 8, False)], BLOCKS, orient="row"
        ),
        rejected=pl.DataFrame([("pair", "too far apart", 12)], REJECTED, orient="row"),
        tel_ids=tuple(range(1, n + 1)),
        covariance=np.diag(error**2),
        obs_ids=(1,),
        positions_m={i + 1: tuple(place) for i, place in enumerate(places.tolist())},
        fit={"estimator": "event", "chi2": 98.7, "ndf": 100.0, "settled": True, "n_showers": 4321},
        residuals=residuals,
        verdict=Verdict("usable"),
        configuration="PairFinder:\n  max_impact_distance: []\n",
        provenance={"command": "arraycal run", "versions": {"polars": "2.1.0"}},
    )


def without_values(result, known=()):
    """The result with coefficients for `known` telescopes only."""
    keep = pl.col("tel_id").is_in(list(known))
    columns = ("value", "error", "systematic", "deviation", "z")
    lost = result.telescopes.with_columns(
        *(pl.when(keep).then(pl.col(name)).otherwise(NAN).alias(name) for name in columns),
        flag=pl.when(keep).then(pl.lit("ok")).otherwise(pl.lit("few_events")),
        reason=pl.when(keep).then(pl.lit("")).otherwise(pl.lit("3 showers, 50 needed")),
    )
    m = len(known)
    return replace(result, telescopes=lost, tel_ids=tuple(known), covariance=np.eye(m) * 1e-4)


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open, self.texts = set(), [], [], []
        self.scripts = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, *attribute) for attribute in attrs]
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        is_script = bool(self.open) and self.open[-1] == "script"
        (self.scripts if is_script else self.texts).append(data)


TAGS = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div", "strong", "pre"),
    *("ul", "li", "dl", "dt", "dd", "table", "thead", "tbody", "tr", "th", "td"),
    *("figure", "img", "figcaption", "details", "summary", "script"),
}


def assert_harmless(text):
    """Check that a page is well formed, loads nothing and runs its own script alone."""
    page = Page(text)
    assert page.open == []
    assert page.tags <= TAGS
    names = {name for _, name, _ in page.attributes}
    assert names <= {
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "class",
        "src",
        "alt",
        "open",
    }
    sources = [value for _, name, value in page.attributes if name == "src"]
    assert all(re.fullmatch(r"data:image/svg\+xml;base64,[\w+/=]+", source) for source in sources)
    policy = [value for _, name, value in page.attributes if name == "content"]
    (rules,) = [value for value in policy if value.startswith("default-src 'none'")]
    (script,) = page.scripts
    assert script == SCRIPT
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert rules.split("script-src ")[1] == f"'sha256-{allowed}'"
    assert "url(" not in text
    return page


SMALL = make_result({"LST": 4, "MST": 5})


@pytest.mark.parametrize(
    ("result", "absent"),
    [
        (SMALL, set()),
        (make_result({"MST": 3}), set()),
        (make_result({"SST": 1}), {"array map", "pulls", "residual matrix", "correlation"}),
        (without_values(SMALL), {"correlation"}),
        (without_values(SMALL, known=[6]), {"correlation"}),
        (replace(SMALL, pairs=SMALL.pairs.clear()), {"pulls", "residual matrix"}),
        (replace(SMALL, pairs=SMALL.pairs.with_columns(pull=pl.lit(NAN))), {"pulls"}),
        (replace(SMALL, residuals=SMALL.residuals.clear()), {"residuals"}),
        (replace(SMALL, rejected=SMALL.rejected.clear()), {"rejected rows"}),
        (replace(SMALL, positions_m=dict.fromkeys(range(1, 10), (0.0, 0.0, 0.0))), {"array map"}),
        (make_result({}), set(FIGURES) - {"rejected rows", *CLOCK_FIGURES}),
    ],
    ids=[
        "usual",
        "one type",
        "one telescope",
        "all NaN",
        "one value",
        "no pairs",
        "no pulls",
        "no residuals",
        "nothing rejected",
        "no positions",
        "no telescopes",
    ],
)
def test_every_result_has_a_report(result, absent):
    assert set(FIGURES) - set(CLOCK_FIGURES) - set(draw_figures(result)) == absent
    page = assert_harmless(html(result))
    assert sum(tag == "img" for tag, name, _ in page.attributes if name == "src") == 7 - len(absent)
    assert result.verdict.status in markdown(result)


def test_the_verdict_comes_first_and_every_reason_is_named():
    reasons = ("2 blocks left out (a.h5, b.h5)", "1 telescope without coefficient (MST-7)")
    result = without_values(replace(SMALL, verdict=Verdict("degraded", reasons)), [1, 2, 3])
    words = " ".join(Page(html(result)).texts)
    places = [words.index(text) for text in (*reasons, "3 of 9", "Coefficients", "Figures")]
    assert places == sorted(places)
    assert words.count("3 showers, 50 needed") == 6


def words_of_figures(result):
    return " ".join(re.findall("<figcaption>(.*?)</figcaption>", html(result)))


def test_captions_speak_of_the_calibration_shown():
    energies = words_of_figures(SMALL)
    assert "Throughput coefficient of every telescope." in energies
    assert "Colour: throughput coefficient;" in energies
    assert "mean log ratio of energies of each telescope pair" in energies
    sizes = words_of_figures(replace(SMALL, calibration="image-inter"))
    assert "measured minus fitted log ratio of image sizes of two telescopes" in sizes
    clocks = " ".join(caption(name, replace(SMALL, quantity=CLOCK_OFFSET)) for name in FIGURES)
    assert "Clock offset of every telescope." in clocks
    assert "mean delay of each telescope pair" in clocks
    assert "errors of the clock offsets" in clocks
    for text in (energies, sizes, clocks):
        assert "{" not in text
        assert not re.search("log ratio.* or delay|coefficient, or clock", text)


def test_a_long_name_of_a_rule_is_wrapped_and_not_cut_off():
    rule = "the size is outside what the camera records without saturation (ShowerSelection)"
    table = pl.DataFrame([("telescope", rule, 12)], REJECTED, orient="row")
    (axes,) = draw_figures(replace(SMALL, rejected=table), ["rejected rows"])["rejected rows"].axes
    (label,) = [text.get_text() for text in axes.get_yticklabels()]
    assert label.replace("\n", " ") == f"telescope: {rule}"
    assert max(map(len, label.split("\n"))) <= 46


def test_a_legend_of_contrasts_covers_no_error_bar():
    bins = {
        "tel_type": ["LST"] * 3, "tel_ref": ["MST"] * 3, "covariate": ["offset"] * 3,
        "unit": ["deg"] * 3, "mean": [0.5, 1.0, 1.5], "contrast": [0.0, 0.01, 0.02],
        "expected": [0.0] * 3, "error": [0.01, 0.01, 0.3], "expected_error": [0.0] * 3,
    }  # fmt: skip
    trends = pl.DataFrame({"tel_type": ["LST"], "covariate": ["offset"], "slope": [0.01]})
    figure = contrast_figures(pl.DataFrame(bins), trends)["offset"]
    encode(figure, "png")  # places are known once it is drawn
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_window_extent().y0 >= axes.get_window_extent().y1


def test_the_numbers_are_those_of_the_result():
    words = Page(html(SMALL)).texts
    for row in SMALL.telescopes.iter_rows(named=True):
        assert f"{row['value']:.4f}" in words
        assert f"{row['error']:.4f}" in words
    assert "98.7 / 100 = 0.987" in words
    assert "4,321" in words
    assert SMALL.configuration in words
    assert "2.1.0" in words
    assert "d1" in words


@pytest.mark.parametrize(
    ("provenance", "expected"),
    [
        ({"nights": ["2026-03-01"]}, "energy-inter, night 2026-03-01"),
        (
            {"nights": ["2026-03-01", "2026-03-04", "2026-03-05"]},
            "energy-inter, 3 nights, 2026-03-01 to 2026-03-05",
        ),
        (
            {
                "window": {
                    "from": "2026-03-01",
                    "to": "2026-03-31",
                    "configuration_digest": "f" * 16,
                }
            },
            "energy-inter, nights 2026-03-01 to 2026-03-31",
        ),
        ({}, "energy-inter"),
    ],
)
def test_the_title_says_of_which_nights_the_observations_are(provenance, expected):
    words = Page(html(replace(SMALL, provenance=provenance))).texts
    assert f"Array calibration: {expected}" in words
    assert ("window" in provenance) == any("configuration ffffffffffffffff" in w for w in words)


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></pre></details><iframe src=//evil.example>",
    "$\\frac{1}{0}$ $",
    "a|b\n| c | d |\r\n# heading",
    "[x](javascript:alert(1)) ![y](http://evil.example/y.png) `code`",
    "\x00\x1b[31m\u202egnp\ud800",
    "Teleskop Südwest 望遠鏡",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_files_stays_text(text):
    seen = text.encode("utf-8", "replace").decode()  # polars holds no lone surrogate
    result = replace(
        SMALL,
        calibration=text,
        telescopes=SMALL.telescopes.with_columns(
            tel_type=pl.lit(seen), flag=pl.lit(seen), reason=pl.lit(seen)
        ),
        pairs=SMALL.pairs.with_columns(tel_type=pl.lit(seen), flag=pl.lit(seen)),
        blocks=SMALL.blocks.with_columns(path=pl.lit(seen), reason=pl.lit(seen)),
        rejected=SMALL.rejected.with_columns(rule=pl.lit(seen)),
        residuals=SMALL.residuals[:64].with_columns(tel_type=pl.lit(seen)),
        verdict=Verdict("degraded", (text,)),
        configuration=f"name: {text}\n",
        provenance={"command": text, "versions": {text: text}, "time_utc": text},
        fit={"estimator": text},
    )
    page = assert_harmless(html(result).encode("utf-8", "replace").decode())
    visible = "".join(c for c in seen if c.isprintable())
    if visible == text:
        assert any(text in data for data in page.texts)


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_keeps_its_rows_whatever_is_in_them(text):
    seen = text.encode("utf-8", "replace").decode()
    hostile = SMALL.telescopes.with_columns(tel_type=pl.lit(seen), reason=pl.lit(seen))
    page = markdown(replace(SMALL, telescopes=hostile, verdict=Verdict("degraded", (text,))))
    lines = page.split("\n")
    rows = [line for line in lines[lines.index("## Coefficients") :] if line.startswith("|")]
    assert len(rows) == 2 + len(SMALL.telescopes)
    columns = [len(re.findall(r"(?<!\\)\|", row)) for row in rows]
    assert columns == [9] * len(rows)
    outside = "\n".join(line for line in lines if not line.startswith("!["))
    assert "<" not in outside
    assert not re.search(r"(?<!\\)[`\[]", outside)


def test_the_pictures_of_a_large_array_fit_into_markdown():
    large = make_result({"LST": 4, "MST": 25, "SST": 70}, n_pairs=1200)
    assert len(large.pairs) == 1200
    long = large.telescopes.with_columns(reason=pl.lit("because " * 100))
    page = markdown(replace(large, telescopes=long))
    assert len(page.encode()) < 1 << 20
    assert page.count("data:image/png;base64,") == 7
    assert page.count("\n| SST |") == 70


def test_pictures_give_way_when_there_is_no_room(monkeypatch):
    whole = markdown(SMALL)
    monkeypatch.setattr(summary_page, "LARGEST_BYTES", len(whole.encode()) - 1)
    less = markdown(SMALL)
    assert less.count("data:image/png") == whole.count("data:image/png") - 1 == 6
    assert "![rejected rows]" not in less  # the last one
    monkeypatch.setattr(summary_page, "LARGEST_BYTES", 0)
    assert "data:image/png" not in markdown(SMALL)
    assert "| LST | 1 |" in markdown(SMALL)


def test_the_same_result_gives_the_same_page():
    assert html(SMALL) == html(SMALL)


def test_words_are_text_in_vector_graphics():
    uri = encode(draw_figures(SMALL, ["pulls"])["pulls"], "svg")
    drawing = ET.fromstring(base64.b64decode(uri.partition(",")[2]))  # noqa: S314  our own
    words = [text.text or "" for text in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert {"telescope pairs", "pull", "unit Gaussian"} <= set(words)
    assert words == [word.strip(" ") for word in words]  # viewers drop spaces at the ends


def test_west_is_left_and_north_is_up():
    # GroundFrame: x north, y west. Telescope 1 stands in the north, 2 in the west.
    places = {1: (100.0, 0.0, 0.0), 2: (0.0, 100.0, 0.0)}
    result = replace(make_result({"LST": 2}), positions_m=places)
    axes = draw_figures(result, ["array map"])["array map"].axes[0]
    offsets = [np.asarray(collection.get_offsets()) for collection in axes.collections]
    drawn = [places for places in offsets if len(places) == 2]
    np.testing.assert_array_equal(drawn[0], [[0.0, 100.0], [-100.0, 0.0]])
    low, high = axes.get_xlim()
    assert low < high


def test_error_bars_are_the_errors():
    axes = draw_figures(SMALL, ["coefficients"])["coefficients"].axes[0]
    own = SMALL.telescopes.filter(pl.col("tel_type") == "LST")
    expected = [np.hypot(own["error"], own["systematic"]), own["error"].to_numpy()]
    for container, error in zip(axes.containers, expected, strict=False):
        assert isinstance(container, ErrorbarContainer)
        (bars,) = container.lines[2]
        segments = np.asarray(bars.get_segments())
        np.testing.assert_allclose(np.ptp(segments[:, :, 1], axis=1) / 2, error)


def matrix_of(result, name):
    """The matrix a figure shows."""
    (image,) = draw_figures(result, [name])[name].axes[0].get_images()
    return np.ma.filled(np.ma.asarray(image.get_array()), NAN)


def test_the_correlation_is_that_of_the_covariance():
    # sigma 2 and 1, covariance 1: correlation 1 / (2 * 1)
    covariance = np.array([[4.0, 1.0], [1.0, 1.0]])
    result = replace(make_result({"LST": 2}), covariance=covariance)
    np.testing.assert_allclose(matrix_of(result, "correlation"), [[1.0, 0.5], [0.5, 1.0]])


def test_the_pull_matrix_changes_sign_across_its_diagonal():
    pairs = SMALL.pairs.filter(pl.col("tel_id_1") == 2, pl.col("tel_id_2") == 4)
    pull = pairs["pull"].item()
    matrix = matrix_of(SMALL, "pulls")
    assert (matrix[1, 3], matrix[3, 1]) == (pull, -pull)
    assert np.isnan(matrix[0, 5])  # no pair across types


def test_the_residual_matrix_is_measured_minus_fitted_in_percent():
    # ln ratio 0.2 measured, 0.19 fitted: 1 %
    np.testing.assert_allclose(matrix_of(SMALL, "residual matrix")[1, 3], 1.0)
    np.testing.assert_allclose(matrix_of(SMALL, "residual matrix")[3, 1], -1.0)


def test_pairs_with_few_showers_are_not_in_the_residual_matrix():
    few = SMALL.pairs.with_columns(n_events=pl.when(pl.col("tel_id_1") == 2).then(9).otherwise(50))
    matrix = matrix_of(replace(SMALL, pairs=few), "residual matrix")
    assert np.isnan(matrix[1, 3])
    assert np.isfinite(matrix[0, 3])


#: How the three kinds of colour blindness see linear RGB: Machado, Oliveira & Fernandes 2009,
#: IEEE TVCG 15, 1291, severity 1.
BLIND = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(colour):
    """Linear RGB of a colour."""
    values = np.asarray(to_rgb(colour))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lightness_and_hue(rgb):
    """CIE 1976 L*a*b* of linear RGB (D65)."""
    to_xyz = [
        [0.4124, 0.3576, 0.1805],
        [0.2126, 0.7152, 0.0722],
        [0.0193, 0.1192, 0.9505],
    ]
    ratio = np.asarray(to_xyz) @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089]
    x, y, z = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("kind", BLIND)
def test_telescope_types_have_colours_that_everyone_tells_apart(kind):
    # A difference of 2.3 can just be noticed; three types are usual, six the most there are.
    seen = [lightness_and_hue(np.asarray(BLIND[kind]) @ linear(colour)) for colour in COLOURS]
    distance = {(i, j): np.linalg.norm(seen[i] - seen[j]) for i, j in combinations(range(6), 2)}
    assert min(distance[pair] for pair in combinations(range(3), 2)) > 15
    assert min(distance.values()) > 5


@pytest.mark.parametrize("kind", BLIND)
def test_more_and_less_are_told_apart_by_everyone(kind):
    matrix = np.asarray(BLIND[kind])
    low, middle, high = (
        lightness_and_hue(matrix @ linear(colormaps[DIVERGING](x)[:3])) for x in (0.1, 0.5, 0.9)
    )
    assert np.linalg.norm(low - high) > 40
    assert middle[0] - max(low[0], high[0]) > 25


def test_types_differ_without_colours_too():
    types = looks(["LST", "MST", "SST", "a", "b", "c"]).values()
    assert len({look.marker for look in types}) == len({str(look.line) for look in types}) == 6


def test_unit_residuals_have_unit_width():
    axes = draw_figures(SMALL, ["residuals"])["residuals"].axes[0]
    _, labels = axes.get_legend_handles_labels()
    (label,) = [label for label in labels if label.startswith("LST")]
    # 20,000 rows: the central 68 % is known to about 1 / sqrt(20000) = 0.7 %
    assert float(label.rsplit(" ", 1)[1]) == pytest.approx(1, abs=0.03)


def test_pictures_are_data_uris():
    figure = draw_figures(SMALL, ["coefficients"])["coefficients"]
    assert encode(figure, "svg").startswith("data:image/svg+xml;base64,")
    assert encode(figure, "png").startswith("data:image/png;base64,iVBORw0KGgo")


def test_matplotlib_is_imported_late_and_without_its_global_state():
    root = Path(__file__).parents[3]
    probe = (
        "import sys; from arraycal.calib import report; assert 'matplotlib' not in sys.modules;"
        "from matplotlib.figure import Figure; from arraycal.calib.figures import encode;"
        "encode(Figure(), 'png'); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", probe], check=True, cwd=root)
