"""What a run leaves in the history, and what it does when the history fails."""

import json
from datetime import date

import pytest

from arraycal.calib.dl2.observed import night_of, observation_span
from arraycal.calib.history.database import read_history
from arraycal.calib.history.reading import Selection, recorded_coefficients, runs
from arraycal.flows.cli.main import main


@pytest.fixture
def run(blocks, tmp_path, lenient):
    """Run the night with more options; returns the exit status."""

    def call(*options):
        common = ["--output", str(tmp_path / "out"), "--overwrite", *lenient]
        return main(["run", "energy-inter", *map(str, blocks), *common, *options])

    return call


def contents(url):
    with read_history(url) as history:
        return runs(history, Selection()), recorded_coefficients(history, Selection())


@pytest.mark.parametrize("options", [["--direct"], []], ids=["direct", "flow"])
def test_a_run_is_recorded_where_a_database_is_configured(
    options, run, tmp_path, monkeypatch, blocks, request
):
    if not options:
        request.getfixturevalue("prefect_server")
    url = f"sqlite:///{tmp_path}/history.sqlite"
    monkeypatch.setenv("ARRAYCAL_DATABASE_URL", url)
    assert run(*options) == 0
    assert run(*options) == 0
    found, table = contents(url)
    span = observation_span(blocks[0])
    assert span is not None
    assert found["night"].to_list() == [night_of(span.start)]
    assert found["n_blocks"].to_list() == [2]
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    expected = {row["tel_id"]: row["value"] for row in result["telescopes"]}
    assert dict(table.select("tel_id", "value").iter_rows()) == expected


def test_a_run_on_a_laptop_leaves_no_history(run, tmp_path, monkeypatch):
    monkeypatch.setenv("ARRAYCAL_OUTPUT_ROOT", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert run("--direct") == 0
    assert not list(tmp_path.rglob("history.sqlite"))
    assert run("--direct", "--record", "--night", "2026-05-04") == 0
    found, _ = contents(f"sqlite:///{tmp_path}/history.sqlite")
    assert found["night"].to_list() == [date(2026, 5, 4)]


def test_no_record_leaves_a_configured_history_alone(run, tmp_path, monkeypatch):
    monkeypatch.setenv("ARRAYCAL_DATABASE_URL", f"sqlite:///{tmp_path}/history.sqlite")
    assert run("--direct", "--no-record") == 0
    assert not (tmp_path / "history.sqlite").exists()


@pytest.mark.parametrize("options", [["--direct"], []], ids=["direct", "flow"])
def test_a_damaged_history_does_not_cost_the_result(
    options, run, tmp_path, monkeypatch, capsys, request
):
    if not options:
        request.getfixturevalue("prefect_server")
    path = tmp_path / "history.sqlite"
    path.write_bytes(b"no database " * 200)
    monkeypatch.setenv("ARRAYCAL_DATABASE_URL", f"sqlite:///{path}")
    assert run(*options) == 3
    assert (tmp_path / "out" / "result.json").exists()
    assert "the history did not take the result" in capsys.readouterr().err
    assert "the history did not take" in (tmp_path / "out" / "arraycal.log").read_text()
