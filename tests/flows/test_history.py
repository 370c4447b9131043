"""`arraycal history`: what it prints and writes, and what it says when it cannot."""

import math
from dataclasses import replace
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from astropy.table import Table

from arraycal.calib.history.database import open_history
from arraycal.calib.history.recording import RecordedResult, record
from arraycal.flows.cli.main import main

FIRST = date(2026, 3, 1)
ERROR = 0.002


def entry(number, values, *, digest="a" * 16, calibration="energy-inter"):
    """A run as it is stored, of telescopes 1, 2, 3 and so on; NaN is a missing one."""
    night = FIRST + timedelta(days=number)
    finite = np.isfinite(values)
    run = {
        "night": night,
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
        "published": datetime(2026, 4, 1) + timedelta(hours=number),  # noqa: DTZ001  as stored
        "versions": {},
        "fit": {},
        "covariance": (ERROR**2 * np.eye(int(finite.sum()))).astype("<f8").tobytes(),
        "result_path": "result.json",
    }
    rows = [
        {
            "tel_id": tel_id,
            "tel_type": "MST",
            "value": value if math.isfinite(value) else None,
            "error": ERROR if math.isfinite(value) else None,
            "systematic": 0.0,
            "n_events": 1000,
            "flag": "",
            "reason": "" if math.isfinite(value) else "no selected shower",
        }
        for tel_id, value in enumerate(map(float, values), start=1)
    ]
    return RecordedResult(run, rows)


@pytest.fixture
def url(tmp_path, monkeypatch):
    """Three nights of 8 telescopes: a step of telescope 2, ageing of telescope 5, a gap of 7."""
    noise = ERROR * np.random.default_rng(3).standard_normal((3, 8))
    noise[2, 1] += np.log(1.08)
    noise[:, 4] -= 0.01 * np.arange(3)
    noise[1, 6] = np.nan
    found = f"sqlite:///{tmp_path}/history.sqlite"
    with open_history(found) as history:
        for number, values in enumerate(np.exp(noise)):
            record(history, entry(number, values))
    monkeypatch.setenv("ARRAYCAL_DATABASE_URL", found)
    monkeypatch.delenv("ARRAYCAL_OUTPUT_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    return found


@pytest.fixture
def clocks(url):
    with open_history(url) as history:
        for number in range(3):
            record(history, entry(number, 20.0 * np.arange(8), calibration="timing-cross"))
    return url


@pytest.mark.usefixtures("url")
def test_runs_and_flagged_trends_are_shown(capsys):
    assert main(["history"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("energy-inter") > 3
    assert "energy-inter MST 2: step of +7." in shown
    assert "energy-inter MST 5: " in shown
    assert "ageing: -" in shown
    assert "coefficients" not in shown


@pytest.mark.usefixtures("url")
def test_coefficients_of_chosen_telescopes_are_listed_and_their_trends_stand_on_all(capsys):
    assert main(["history", "--tel", "2", "7", "--since", "2026-03-01"]) == 0
    shown = capsys.readouterr().out
    assert "coefficients" in shown
    assert "no selected shower" in shown
    assert "MST 2: step of +7." in shown
    assert "MST 5" not in shown


@pytest.mark.usefixtures("url")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--since", "2026-04-01"], "3 runs of 2026-03-01 to 2026-03-03: energy-inter"),
        (["--calibration", "image-inter"], "no run of the selection"),
        (["--configuration", "b"], "no run of the selection"),
        (["--tel", "2", "11"], "no coefficient of telescope 11"),
        (["--until", "2026-03-01", "--figure", "f.svg"], "no telescope has two nights"),
    ],
)
def test_an_empty_selection_is_nothing_to_do_and_says_what_there_is(capsys, options, expected):
    assert main(["history", *options]) == 5
    assert expected in capsys.readouterr().err


@pytest.mark.usefixtures("url")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--since", "3.3.2026"], "expected a date such as 2026-03-01"),
        (["--since", "2026-03-02", "--until", "2026-03-01"], "exchange them"),
        (["--calibration", "energy"], "expected one of energy-inter"),
        (["--export", "x.txt"], "found suffix '.txt', expected .parquet, .csv, .ecsv"),
        (["--export", "x"], "found no suffix"),
        (["--figure", "x.jpeg"], "expected .svg, .pdf, .png"),
        (["--export", "nowhere/x.csv"], "there is no folder"),
        (["--set", "TrendMonitor.min_chnge=1"], "did you mean 'min_change'"),
        (["--database", "history.sqlite"], "is no URL"),
        (["--database", "mysql://a:secret@b/c"], "cannot be kept in mysql"),
    ],
)
def test_wrong_usage_is_refused_with_what_was_expected(capsys, options, expected):
    assert main(["history", *options]) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert "secret" not in said


def test_a_history_that_is_not_there_is_an_error_and_is_not_made(tmp_path, capsys):
    assert main(["history", "--database", f"sqlite:///{tmp_path}/none.sqlite"]) == 4
    assert "there is no history at" in capsys.readouterr().err
    assert not (tmp_path / "none.sqlite").exists()


@pytest.mark.usefixtures("url")
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_exported_coefficients_are_those_of_the_history(tmp_path, suffix):
    path = tmp_path / f"coefficients.{suffix}"
    assert main(["history", "--export", str(path)]) == 0
    table = (pl.read_parquet if suffix == "parquet" else pl.read_csv)(path)
    assert len(table) == 24
    assert table["value"].is_nan().sum() == 1
    assert table["in_trend"].all()
    finite = table.filter(pl.col("relative").is_finite())
    steady = finite.filter(~pl.col("tel_id").is_in([2, 5]))
    assert len(finite) == 23
    assert (steady["relative"] - 1).abs().max() < 5 * ERROR  # type: ignore[operator]  # numbers
    assert set(table["unit"].fill_null("")) == {""}


@pytest.mark.usefixtures("clocks")
def test_ecsv_has_units_where_they_are_the_same(tmp_path):
    options = ["--export", str(tmp_path / "c.ecsv")]
    assert main(["history", "--calibration", "timing-cross", *options]) == 0
    table = Table.read(tmp_path / "c.ecsv")
    assert str(table["value"].unit) == str(table["relative_error"].unit) == "ns"
    assert table["night"][0] == "2026-03-01"
    assert table["night"].dtype.kind == table["tel_type"].dtype.kind == "U"
    assert "json" not in (tmp_path / "c.ecsv").read_text()
    np.testing.assert_allclose(table["value"].quantity.to_value("us")[1], 0.02)
    assert table.meta["provenance"]["command"].startswith("arraycal history")
    assert main(["history", *options, "--overwrite"]) == 0
    mixed = Table.read(tmp_path / "c.ecsv")
    assert mixed["value"].unit is None
    # Readers of ECSV take empty texts for missing ones.
    assert set(mixed["unit"].filled("")) == {"", "ns"}


@pytest.mark.parametrize("form", [["--database", "{}"], ["--database={}"]])
def test_secrets_of_the_database_do_not_get_into_exports(tmp_path, url, form, capsys):
    path = tmp_path / "c.ecsv"
    secret = [text.format(f"{url}?x=secretpw") for text in form]
    assert main(["history", *secret, "--export", str(path)]) == 0
    assert "secretpw" not in path.read_text()
    command = Table.read(path).meta["provenance"]["command"]
    assert command.startswith("arraycal history ")
    assert "--data" in command
    assert "history.sqlite?x=***" in command
    none = f"sqlite:///{tmp_path}/none.sqlite?x=secretpw"
    assert main(["history", "--database", none]) == 4
    said = capsys.readouterr()
    assert "secretpw" not in said.out + said.err


@pytest.mark.usefixtures("clocks")
def test_trends_and_runs_are_exported_too(tmp_path):
    trends, runs = tmp_path / "trends.ecsv", tmp_path / "runs.csv"
    options = ["--calibration", "timing-cross", "--table", "trends", "--export", str(trends)]
    assert main(["history", *options]) == 0
    table = Table.read(trends)
    assert str(table["rate"].unit) == "ns / d"
    assert len(table) == 8
    assert main(["history", "--table", "runs", "--export", str(runs)]) == 0
    assert len(pl.read_csv(runs)) == 6


@pytest.mark.usefixtures("url")
def test_files_that_exist_are_kept_without_overwrite(tmp_path, capsys):
    path = tmp_path / "c.csv"
    path.write_text("precious")
    assert main(["history", "--export", str(path)]) == 2
    assert "Replace it with --overwrite" in capsys.readouterr().err
    assert path.read_text() == "precious"
    assert main(["history", "--export", str(path), "--overwrite"]) == 0
    assert path.read_text() != "precious"
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".arraycal")) == []


@pytest.mark.usefixtures("url")
@pytest.mark.parametrize(
    ("suffix", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")]
)
def test_trends_are_drawn(tmp_path, suffix, start):
    path = tmp_path / f"trends.{suffix}"
    assert main(["history", "--figure", str(path)]) == 0
    content = path.read_bytes()
    assert content.startswith(start)
    assert main(["history", "--figure", str(path), "--overwrite"]) == 0
    assert path.read_bytes() == content


@pytest.mark.usefixtures("url")
def test_the_limits_of_the_flags_are_options(capsys):
    assert main(["history", "--set", "TrendMonitor.min_nights=4"]) == 0
    assert "step of" not in capsys.readouterr().out


def test_of_several_runs_of_a_night_the_choice_is_told(url, capsys):
    with open_history(url) as history:
        record(history, entry(1, np.ones(8), digest="b" * 16))
    assert main(["history"]) == 0
    shown = capsys.readouterr().out
    assert f"energy-inter: configuration {'a' * 16}, that of the newest night" in shown
    assert "arraycal history --configuration DIGEST shows another one" in shown
    assert main(["history", "--configuration", "bb"]) == 0


def test_the_trends_are_those_of_the_nights_of_the_machine(url, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ARRAYCAL_OUTPUT_ROOT", str(tmp_path))
    (tmp_path / "nightly.yaml").write_text("output: nights")
    with open_history(url) as history:
        for number, values in enumerate(np.exp(ERROR * np.eye(3, 8))):
            official = entry(number, values, digest="c" * 16)
            place = f"{tmp_path}/nights/{official.run['night']}/energy-inter/result.json"
            record(history, replace(official, run=official.run | {"result_path": place}))
        record(history, entry(3, np.arange(1.0, 9.0), digest="e" * 16))
    for options, expected in ((None, "e"), (tmp_path / "nightly.yaml", "c")):
        if options is not None:
            monkeypatch.setenv("ARRAYCAL_NIGHTLY_OPTIONS", str(options))
        assert main(["history"]) == 0
        shown = capsys.readouterr().out
        assert f"energy-inter: configuration {expected * 16}, that of the newest night" in shown
