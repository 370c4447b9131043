"""What is read from a history for people and programs, and its figure."""

from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from arraycal.calib.figures.gallery import encode
from arraycal.calib.figures.trend import MOST, trend_figure, trend_figures
from arraycal.calib.history.database import open_history
from arraycal.calib.history.errors import HistoryError
from arraycal.calib.history.reading import Selection, runs
from arraycal.calib.history.recording import RecordedResult, record
from arraycal.calib.history.tables import Run
from arraycal.calib.history.trends import newly_flagged, view_trends
from arraycal.calib.trends.trends import telescope_trends
from arraycal.config.models import TrendMonitorOptions

FIRST = date(2026, 3, 1)
ERROR = 0.002
OPTIONS = TrendMonitorOptions()


def night(number):
    return FIRST + timedelta(days=number)


def entry(number, values, digest="a" * 16, calibration="energy-inter", hour=8):
    """A run as it is stored, of telescopes 1, 2, 3 and so on."""
    run = {
        "night": night(number),
        "calibration": calibration,
        "configuration_digest": digest,
        "configuration": "",
        "status": "usable",
        "verdict": "usable",
        "unit": "ns" if calibration == "timing-cross" else "",
        "blocks": [],
        "obs_ids": [],
        "n_blocks": 3,
        "observed_from": None,
        "observed_until": None,
        "published": datetime.combine(night(number), datetime.min.time()) + timedelta(hours=hour),
        "versions": {},
        "fit": {},
        "covariance": (ERROR**2 * np.eye(len(values))).astype("<f8").tobytes(),
        "result_path": f"out/{night(number)}/result.json",
    }
    columns = {"error": ERROR, "systematic": 0.0, "n_events": 1000, "flag": "", "reason": ""}
    rows = [
        {"tel_id": number, "tel_type": "MST", "value": float(value), **columns}
        for number, value in enumerate(values, start=1)
    ]
    return RecordedResult(run, rows)


def courses(n_nights, n_telescopes=8):
    """Nights by telescopes: a step of telescope 2 in night 3, ageing of telescope 5."""
    noise = ERROR * np.random.default_rng(3).standard_normal((n_nights, n_telescopes))
    noise[3:, 1] += np.log(1.08)
    noise[:, 4] -= 0.01 * np.arange(n_nights)
    return np.exp(noise)


@pytest.fixture
def history(tmp_path):
    with open_history(f"sqlite:///{tmp_path}/history.sqlite") as opened:
        for number, values in enumerate(courses(6)):
            record(opened, entry(number, values))
        yield opened


def test_a_view_holds_runs_coefficients_and_their_trends(history):
    record(history, entry(2, np.ones(8), digest="b" * 16, hour=9))
    view = view_trends(history, Selection(), OPTIONS)
    assert len(view.runs) == 7
    assert view.runs.filter(~view.runs["chosen"])["configuration_digest"].to_list() == ["b" * 16]
    assert len(view.coefficients) == 7 * 8
    assert view.trends.telescopes["flags"].to_list() == ["", "step", "", "", "ageing", "", "", ""]
    (remark,) = view.remarks
    assert remark == (
        f"energy-inter: configuration {'a' * 16}, that of the newest night (2026-03-06), 6 nights. "
        f"Not in the trends: 1 run of {'b' * 16} (2026-03-03); "
        "arraycal history --configuration DIGEST shows another one"
    )


def published_in(folder, *arguments, **others):
    found = entry(*arguments, **others)
    found.run["result_path"] = f"{folder}/{found.run['night']}/energy-inter/result.json"
    return found


def test_an_experiment_published_last_elsewhere_does_not_take_over_the_trends(tmp_path):
    steady = np.exp(ERROR * np.random.default_rng(5).standard_normal((6, 8)))
    with open_history(f"sqlite:///{tmp_path}/history.sqlite") as opened:
        for number, values in enumerate(steady):
            record(opened, published_in("/data/out", number, values))
        # Another selection of showers: other coefficients, of two newer nights, too.
        others = np.exp(0.1 * np.arange(8))
        for number in (4, 5, 6):
            arguments = ("/data/out/experiments", number, others)
            record(opened, published_in(*arguments, digest="e" * 16, hour=20))
        official = view_trends(opened, Selection(), OPTIONS, Path("/data/out"))
        experiment = view_trends(opened, Selection(), OPTIONS, Path("/data/out/experiments"))
        asked = view_trends(opened, Selection(configuration="e"), OPTIONS, Path("/data/out"))
    assert official.runs.filter("chosen")["configuration_digest"].unique().to_list() == ["a" * 16]
    assert official.trends.telescopes["n_nights"].to_list() == [6] * 8
    assert official.trends.flagged.is_empty()
    (remark,) = official.remarks
    assert f"{'a' * 16}, that of the newest night in /data/out (2026-03-06), 6 nights" in remark
    assert f"3 runs of {'e' * 16} (2026-03-05 to 2026-03-07)" in remark
    for view in (experiment, asked):
        chosen = view.runs.filter("chosen")
        assert chosen["configuration_digest"].to_list() == ["e" * 16] * 3


def test_the_folder_of_the_nights_may_be_reached_by_a_link(history, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    record(history, published_in(tmp_path / "disk", 4, np.ones(8), digest="c" * 16))
    record(history, published_in(tmp_path / "link", 3, np.ones(8), digest="c" * 16))
    for name in ("disk", "link"):
        found = view_trends(history, Selection(), OPTIONS, tmp_path / name).runs.filter("chosen")
        assert found["configuration_digest"].to_list() == ["c" * 16] * 2


def test_after_a_change_of_the_configuration_older_nights_are_not_mixed_in(history):
    record(history, entry(6, 1.2 * np.arange(1, 9), digest="b" * 16))
    view = view_trends(history, Selection(), OPTIONS)
    assert view.runs.filter("chosen")["night"].to_list() == [night(6)]
    assert view.trends.flagged.is_empty()
    assert f"6 runs of {'a' * 16} (2026-03-01 to 2026-03-06)" in view.remarks[0]


def test_the_news_of_a_night_stand_on_nights_of_its_configuration(history):
    record(history, entry(5, np.arange(1.0, 9.0), digest="e" * 16, hour=20))
    for number, digest, expected in ((3, "a" * 16, [2]), (5, "a" * 16, []), (5, "e" * 16, [])):
        rows = newly_flagged(history, "energy-inter", night(number), OPTIONS, digest)
        assert rows["tel_id"].to_list() == expected


def test_a_view_is_of_one_moment(history, monkeypatch):
    # A night that is recorded between the tables must be in all of them, or in none.
    def runs_then_a_night(opened, selection):
        found = runs(opened, selection)
        with open_history(str(history.engine.url)) as other:
            record(other, entry(6, np.ones(8)))
        return found

    monkeypatch.setattr("arraycal.calib.history.trends.runs", runs_then_a_night)
    view = view_trends(history, Selection(), OPTIONS)
    assert view.runs["run_id"].to_list() == view.coefficients["run_id"].unique().to_list()
    assert len(runs(history, Selection())) == 7


def test_throughputs_that_are_not_positive_are_left_out_and_named(history):
    values = courses(6)[5]
    values[[2, 6]] = 0.0, -1.0
    record(history, entry(5, values))
    view = view_trends(history, Selection(), OPTIONS)
    n_nights = dict(view.trends.telescopes.select("tel_id", "n_nights").iter_rows())
    assert [n_nights[tel_id] for tel_id in (2, 3, 7)] == [6, 5, 5]
    assert view.trends.telescopes["flags"].to_list() == ["", "step", "", "", "ageing", "", "", ""]
    (remark,) = view.remarks
    assert remark.startswith("energy-inter: 2 coefficients that are not positive are left out")
    assert "(telescopes 3, 7; nights 2026-03-06 to 2026-03-06)" in remark


@pytest.mark.parametrize("damaged", [b"12345678" * 63, b"12345678" * 64 + b"1"])
def test_a_damaged_covariance_is_an_error_that_names_the_night(history, damaged):
    with history.writing() as connection:
        chosen = sa.update(Run).where(Run.night == night(2))
        connection.execute(chosen.values(covariance=damaged))
    with pytest.raises(
        HistoryError, match=r"energy-inter of 2026-03-03 .* is damaged: 5\d\d bytes"
    ):
        view_trends(history, Selection(), OPTIONS)


def test_a_first_night_widens_the_window_of_the_trends(history):
    short = TrendMonitorOptions(look_back=2)
    assert view_trends(history, Selection(), short).trends.telescopes["n_nights"].max() == 2
    since = Selection(since=night(1))
    assert view_trends(history, since, short).trends.telescopes["n_nights"].max() == 5


def test_a_flag_is_new_in_the_night_that_brings_it_and_not_later(history):
    news = {
        number: newly_flagged(history, "energy-inter", night(number), OPTIONS)["tel_id"].to_list()
        for number in range(6)
    }
    # Ageing needs three nights; the step is in the fourth.
    assert news == {0: [], 1: [], 2: [5], 3: [2], 4: [], 5: []}


def test_a_figure_shows_every_type_and_calibration(history):
    for number, values in enumerate(courses(6)):
        record(history, entry(number, 50 * values, calibration="timing-cross"))
    found = view_trends(history, Selection(), OPTIONS).trends
    assert list(trend_figures(found)) == ["energy-inter MST", "timing-cross MST"]
    whole = trend_figure(found)
    assert whole is not None
    titles = [axes.get_title(loc="left") for axes in whole.axes]
    assert titles.count("MST 2: step") == 2
    assert titles.count("MST 1") == 2
    one = trend_figure(found, calibration="energy-inter", tel_ids=(2,))
    assert one is not None
    assert [axes.get_title(loc="left") for axes in one.axes] == ["MST 2: step"]
    assert encode(one, "svg").startswith("data:image/svg+xml;base64,")


def test_flagged_telescopes_are_never_those_without_room(tmp_path):
    with open_history(f"sqlite:///{tmp_path}/many.sqlite") as opened:
        for number in range(4):
            values = np.exp(ERROR * np.random.default_rng(number).standard_normal(40))
            values[37] *= 1.1 if number > 1 else 1.0
            record(opened, entry(number, values))
        found = view_trends(opened, Selection(), OPTIONS).trends
    figure = trend_figure(found)
    assert figure is not None
    assert len(figure.axes) == MOST
    assert "MST 38: step" in [axes.get_title(loc="left") for axes in figure.axes]
    assert "24 more not shown" in figure.texts[0].get_text()


def test_a_single_night_has_no_figure(history):
    one = view_trends(history, Selection(until=night(0)), OPTIONS).trends
    assert trend_figure(one) is None
    assert trend_figures(one) == {}
    empty = view_trends(history, Selection(calibration="image-inter"), OPTIONS)
    assert empty.trends.telescopes.is_empty()
    assert empty.runs.is_empty()
    assert telescope_trends(empty.coefficients, {}, OPTIONS).nights.is_empty()
