"""Trends in the index over the nights, and on the page of the nights in the Prefect UI."""

import json
import re
from datetime import date, datetime, timedelta

import numpy as np
import pytest

from arraycal.calib.figures.trend import trend_figures
from arraycal.calib.history.database import open_history
from arraycal.calib.history.recording import RecordedResult, record
from arraycal.calib.nights.record import CalibrationRecord, NightRecord, write_night
from arraycal.calib.publish.writing import INDEX
from arraycal.config.settings import Settings
from arraycal.flows.cli.main import main
from arraycal.flows.jobs.parameters import NightOptions
from arraycal.flows.night.index import index_nights
from arraycal.flows.night.page import night_page

FIRST = date(2026, 3, 1)
ERROR = 0.002
CALIBRATIONS = [{"calibration": "energy-inter"}, {"calibration": "timing-cross"}]
OPTIONS = NightOptions.model_validate({"calibrations": CALIBRATIONS})


def night(number):
    return FIRST + timedelta(days=number)


def entry(number, values, calibration):
    """A run as it is stored, of telescopes 1, 2, 3 and so on."""
    is_clock = calibration == "timing-cross"
    error = 100 * ERROR if is_clock else ERROR
    run = {
        "night": night(number),
        "calibration": calibration,
        "configuration_digest": "a" * 16,
        "configuration": "",
        "status": "usable",
        "verdict": "usable",
        "unit": "ns" if is_clock else "",
        "blocks": [],
        "obs_ids": [],
        "n_blocks": 3,
        "observed_from": None,
        "observed_until": None,
        "published": datetime.combine(night(number), datetime.min.time()),
        "versions": {},
        "fit": {},
        "covariance": (error**2 * np.eye(len(values))).astype("<f8").tobytes(),
        "result_path": f"out/{night(number)}/result.json",
    }
    columns = {"error": error, "systematic": 0.0, "n_events": 1000, "flag": "", "reason": ""}
    rows = [
        {"tel_id": number, "tel_type": "MST", "value": float(value), **columns}
        for number, value in enumerate(values, start=1)
    ]
    return RecordedResult(run, rows)


class Site:
    """An output folder with nights and their history."""

    def __init__(self, output):
        self.output = output
        self.settings = Settings(output_root=output, cache_root=output / "cache")

    def add(self, number, throughputs, offsets=()):
        """Add a night to folder and history."""
        items = (CalibrationRecord("energy-inter", "usable", folder="energy-inter"),)
        found = NightRecord(night(number), "UTC", "usable", calibrations=items)
        write_night(self.output / str(night(number)), found)
        with open_history(self.settings.history_url) as history:
            record(history, entry(number, throughputs, "energy-inter"))
            if len(offsets):
                record(history, entry(number, offsets, "timing-cross"))

    def index(self, **how):
        return index_nights(self.output, OPTIONS, self.settings, **how)

    @property
    def page(self):
        return (self.output / INDEX).read_text()

    @property
    def words(self):
        return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", self.page))


def courses(n_nights, n_telescopes=8):
    """Throughputs with a step of telescope 2 in night 4 and ageing of telescope 5; offsets."""
    rng = np.random.default_rng(3)
    noise = ERROR * rng.standard_normal((n_nights, n_telescopes))
    noise[4:, 1] += np.log(1.08)
    noise[:, 4] -= 0.01 * np.arange(n_nights)
    offsets = 100 * ERROR * rng.standard_normal((n_nights, n_telescopes))
    offsets[5:, 6] += 8.0
    return np.exp(noise), offsets


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path / "output")
    for number, (throughputs, offsets) in enumerate(zip(*courses(9), strict=True)):
        site.add(number, throughputs, offsets)
    return site


def cells_of(page, telescope, calibration):
    """Cells of the first row of a telescope."""
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", page)
    for row in rows:
        cells = [re.sub("<[^>]+>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)]
        if cells[:2] == [calibration, telescope]:
            return cells
    raise AssertionError(telescope)


def number_of(cell):
    value, error = re.findall(r"[-+]?\d+\.\d+", cell)
    return float(value), float(error)


def test_steps_and_ageing_are_on_the_index_with_size_error_and_date(site):
    assert site.index() is not None
    cells = cells_of(site.page, "MST 2", "energy-inter")
    size, error = number_of(cells[3])
    assert (cells[2], cells[4]) == ("step", "2026-03-05")
    assert cells[6].startswith("step of +")
    assert abs(size - 8.0) < 4 * error < 2
    cells = cells_of(site.page, "MST 5", "energy-inter")
    rate, error = number_of(cells[3])
    assert cells[2] == "ageing"
    assert cells[3].endswith("% per night")
    assert abs(rate + 1.0) < 4 * error < 0.5
    cells = cells_of(site.page, "MST 7", "timing-cross")
    size, error = number_of(cells[3])
    assert cells[3].endswith("ns")
    assert abs(size - 8.0) < 4 * error < 2


def test_flagged_telescopes_come_first_with_their_figures_then_all_are_folded_away(site):
    site.index()
    places = [
        site.page.index(text)
        for text in (
            *("2026-03-09: usable", "Latest nights", "Trends over the nights", ">MST 2</span>"),
            *(">MST 7</span>", 'alt="trend energy-inter MST"', "All telescopes (16)"),
        )
    ]
    assert places == sorted(places)
    assert site.page.count("data:image/svg+xml") == 2  # one for each calibration with a flag
    assert site.page.count("data:image/png") == 2
    assert (
        "8 telescopes, 9 nights from 2026-03-01 to 2026-03-09. "
        "Telescopes with a flag: 2 in energy-inter, 1 in timing-cross." in site.words
    )


def test_the_verdict_counts_the_flagged_telescopes_and_leads_to_them(site):
    site.index()
    assert "2026-03-09: usable, 3 telescopes flagged by the trends" in site.words
    assert "Flagged before: MST 2 (energy-inter), MST 5 (energy-inter)" in site.words
    links = re.findall('href="#(trend-[^"]+)"', site.page)
    assert len(links) == 3
    assert all(site.page.count(f'id="{link}"') == 1 for link in links)


def test_telescopes_that_a_night_newly_flags_are_on_the_index(site):
    items = tuple(
        CalibrationRecord(name, "usable", trends=("MST 2: step of +8 %",)) for name in ("a", "b")
    )
    write_night(
        site.output / str(night(8)), NightRecord(night(8), "UTC", "usable", calibrations=items)
    )
    site.index()
    assert "Newly flagged with this night: MST 2 (a, b)" in site.words


def test_no_change_is_said_and_has_its_figures_folded_away(tmp_path):
    site = Site(tmp_path / "output")
    for number in range(5):
        site.add(number, np.exp(ERROR * np.random.default_rng(number).standard_normal(6)))
    site.index()
    assert "No telescope has changed" in site.words
    assert site.page.count("data:image/svg+xml") == 0
    assert site.page.count("data:image/png") == 1


def test_news_in_the_history_alone_write_the_index_again(site):
    assert site.index() is not None
    assert site.index() is None
    with open_history(site.settings.history_url) as history:
        record(history, entry(8, 0.9 * courses(9)[0][8], "energy-inter"))
    assert site.index() is not None
    assert site.index() is None


def test_every_way_to_write_the_url_of_the_history_shows_its_news(site):
    path = site.output / "history.sqlite"
    for number, url in enumerate(
        (f"sqlite+pysqlite:///{path}", f"sqlite:///{path}?timeout=5", f"sqlite:///{path}")
    ):
        settings = site.settings.model_copy(update={"database_url": url})
        assert index_nights(site.output, OPTIONS, settings, always=True) is not None
        assert index_nights(site.output, OPTIONS, settings) is None
        with open_history(site.settings.history_url) as history:
            record(history, entry(8, (0.9 - 0.1 * number) * courses(9)[0][8], "energy-inter"))
        assert index_nights(site.output, OPTIONS, settings) is not None


def test_a_change_that_may_be_ageing_or_a_step_is_called_so_and_drawn_in_one_piece(tmp_path):
    site = Site(tmp_path / "output")
    for number, change in enumerate((0.0, 0.006, 0.02)):
        site.add(number, np.exp([change] + [0.0] * 7))
    seen = site.index()
    assert seen is not None
    assert cells_of(site.page, "MST 1", "energy-inter")[2] == "ageing or step"
    (figure,) = trend_figures(seen[0].trends, [1]).values()
    lines = figure.axes[0].lines
    courses = [
        line for line in lines if line.get_linestyle() == "-" and np.size(line.get_xdata()) == 3
    ]
    assert len(courses) == 1
    assert [line.get_linestyle() for line in lines].count(":") == 1


def test_without_a_history_the_index_has_the_nights_and_says_why_there_is_no_trend(site):
    for path in site.output.glob("history.sqlite*"):
        path.unlink()
    assert site.index() == []
    assert "There are no trends: there is no history at" in site.words
    assert "2026-03-09: usable" in site.words
    assert not list(site.output.glob("history.sqlite*"))


@pytest.mark.parametrize("odd", ["9999-12-31", "0001-01-01", "2026-12-24"])
def test_an_empty_night_of_any_date_costs_no_trend(site, odd):
    site.index()
    trends = site.page.split(">Trends over the nights</h2>")[1].split("<h2>")[0]
    day = date.fromisoformat(odd)
    write_night(site.output / odd, NightRecord(day, "UTC", "nothing to do"))
    assert site.index()
    assert trends in site.page


def test_a_damaged_history_costs_the_trends_alone(site):
    (site.output / "history.sqlite").write_bytes(b"no database" * 100)
    assert site.index() == []
    assert "There are no trends" in site.words


def test_the_command_writes_the_index_with_the_trends(site, monkeypatch, tmp_path):
    site.index()
    before = site.page
    (site.output / INDEX).unlink()
    monkeypatch.setenv("ARRAYCAL_OUTPUT_ROOT", str(site.output))
    (tmp_path / "options.yaml").write_text(json.dumps({"calibrations": CALIBRATIONS}))
    monkeypatch.setenv("ARRAYCAL_NIGHTLY_OPTIONS", str(tmp_path / "options.yaml"))
    assert main(["report", "--index", str(site.output)]) == 0
    assert site.page == before


def test_a_threshold_of_the_configuration_decides_what_is_flagged(site):
    blind = ["TrendMonitor.min_change=0.5", "TrendMonitor.min_outlier=0.5"]
    options = NightOptions.model_validate(
        {"calibrations": [{"calibration": "energy-inter", "overrides": blind}]}
    )
    assert index_nights(site.output, options, site.settings) is not None
    assert "No telescope has changed" in site.words


def test_the_page_of_the_nights_in_the_ui_has_the_trends_and_stays_small(site):
    seen = site.index()
    assert seen is not None
    found = NightRecord(FIRST, "UTC", "usable")
    page = night_page([found], {FIRST: site.output / str(FIRST)}, seen)
    assert page.index("usable") < page.index("## Trends over the nights") < page.index("MST 2")
    assert page.count("](data:image/png;base64,") == 2
    assert len(page.encode()) < 1 << 20
    assert "## Trends" not in night_page([found], {FIRST: site.output / str(FIRST)})
