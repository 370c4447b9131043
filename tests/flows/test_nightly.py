"""The flows of nights on a server: states, artifacts, the night that is meant."""

import json
import os
import shutil
from datetime import UTC, date, datetime

import polars as pl
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)

from arraycal.calib.nights.record import read_night
from arraycal.flows.cli.main import main
from arraycal.flows.jobs.events import OUT_OF_RANGE, TREND, report_outliers, report_trends
from arraycal.flows.jobs.parameters import BackfillParameters, NightlyParameters
from arraycal.flows.nightly import backfill, nightly

pytestmark = pytest.mark.usefixtures("prefect_server")

NIGHT = date(2020, 6, 14)


@pytest.fixture
def site(tmp_path, blocks, monkeypatch):
    """Folders of data and output, with the blocks of one night."""
    for name in ("data", "output"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"ARRAYCAL_{name.upper()}_ROOT", str(tmp_path / name))
    monkeypatch.setenv("ARRAYCAL_CACHE_ROOT", str(tmp_path / "cache"))
    for path in blocks:
        shutil.copy(path, tmp_path / "data")
    return tmp_path


@pytest.fixture
def options(lenient):
    overrides = [text for text in lenient if text != "--set"]
    return {
        "calibrations": [{"calibration": "energy-inter", "overrides": overrides}],
        "settle_s": 0,
    }


@pytest.fixture
def run(options):
    def run(night=NIGHT, **changes):
        parameters = NightlyParameters.model_validate(
            {"night": night, "options": options | changes}
        )
        return nightly(parameters, return_state=True)

    return run


def artifacts_of(state):
    run_id = state.state_details.flow_run_id
    chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
    with get_client(sync_client=True) as client:
        return {item.key: item for item in client.read_artifacts(artifact_filter=chosen)}


def blocks_of(state):
    run_id = state.state_details.flow_run_id
    chosen = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[run_id]))
    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(task_run_filter=chosen)
    return sorted((item.name, item.state_name) for item in runs if "pairs" in item.name)


def test_a_night_completes_with_its_verdict_and_a_page(site, run):
    state = run()
    assert state.name == "Completed"
    assert state.message == "2020-06-14 usable"
    assert state.result() == {"2020-06-14": "usable"}
    record = read_night(site / "output" / "2020-06-14")
    assert record is not None
    assert record.status == "usable"
    page = artifacts_of(state)["arraycal-night"].data
    assert "Night of 2020-06-14: usable" in page
    assert "energy-inter" in page
    assert "## Trends over the nights" in page
    assert "2020-06-14: usable" in (site / "output" / "index.html").read_text()


def test_the_same_night_again_shows_its_blocks_as_cached(site, run):
    names = [f"pairs of {path.name}" for path in sorted((site / "data").iterdir())]
    assert blocks_of(run()) == [(name, "Completed") for name in names]
    state = run()
    assert state.name == "Completed"
    assert blocks_of(state) == [(name, "Cached") for name in names]
    page = artifacts_of(state)["arraycal-night"].data
    assert "usable, unchanged" in page
    assert "## Trends" not in page  # no news, no work


def test_a_damaged_block_degrades_the_night(site, run):
    damaged = site / "data" / "damaged.dl2.h5"
    damaged.write_bytes(b"no HDF5")
    written = datetime(2020, 6, 15, 4, tzinfo=UTC).timestamp()
    os.utime(damaged, (written, written))
    state = run()
    assert state.is_completed()
    assert state.name == "Degraded"
    assert "damaged.dl2.h5" in state.message


def test_a_night_without_data_is_nothing_to_do(site, run):
    state = run(date(2020, 6, 20))
    assert state.is_completed()
    assert state.name == "NothingToDo"
    assert "no block was found" in state.message
    assert (site / "output" / "2020-06-20" / "night.json").exists()


def test_a_night_of_which_nothing_can_be_used_fails(site, run):
    for path in (site / "data").iterdir():
        path.write_bytes(b"no HDF5")
        written = datetime(2020, 6, 15, 4, tzinfo=UTC).timestamp()
        os.utime(path, (written, written))
    state = run()
    assert state.is_failed()
    assert state.name == "Unusable"
    assert "none of the 2 blocks can be used" in state.message


def test_a_wrong_setting_fails_with_its_reason(site, run):
    wrong = [{"calibration": "energy-inter", "overrides": ["ShowerSelection.margn=3"]}]
    state = run(calibrations=wrong)
    assert state.is_failed()
    assert "did you mean 'margin'" in state.message
    assert not (site / "output" / "2020-06-14" / "night.json").exists()


def test_a_range_of_nights_is_done_one_by_one(site, options):
    parameters = BackfillParameters.model_validate(
        {"first": "2020-06-13", "last": "2020-06-15", "options": options}
    )
    state = backfill(parameters, return_state=True)
    assert state.name == "Completed"
    assert state.result() == {
        "2020-06-13": "nothing to do",
        "2020-06-14": "usable",
        "2020-06-15": "nothing to do",
    }
    page = artifacts_of(state)["arraycal-night"].data
    assert page.index("2020-06-13") < page.index("2020-06-14") < page.index("2020-06-15")
    assert "3 nights, 2020-06-13 to 2020-06-15" in (site / "output" / "index.html").read_text()


@pytest.mark.parametrize("impossible", [date(9999, 12, 31), date(1, 1, 1)])
def test_a_night_that_cannot_be_fails_with_what_was_expected(site, run, impossible):
    state = run(impossible)
    assert state.is_failed()
    assert f"the night of {impossible.isoformat()} is" in state.message
    assert "expected a date from 2000-01-01 to " in state.message
    assert not list((site / "output").iterdir())


def test_a_range_that_ends_before_it_begins_fails_at_once_and_says_why(site, options):
    parameters = {"first": "2020-06-15", "last": "2020-06-13", "options": options}
    state = backfill(parameters, return_state=True)
    assert state.is_failed()
    assert "from 2020-06-15 to 2020-06-13 are -1 nights" in str(state.message)
    assert "the earlier date first" in str(state.message)
    assert not list((site / "output").iterdir())


def test_the_command_gives_the_same_verdict_as_without_prefect(site, options, capsys):
    file = site / "options.yaml"
    file.write_text(json.dumps(options))
    arguments = ["nightly", "--night", "2020-06-14", "--options", str(file)]
    assert main(arguments) == 0
    assert "2020-06-14 usable" in capsys.readouterr().out
    assert main([*arguments, "--direct"]) == 0
    assert "usable, unchanged" in capsys.readouterr().out
    assert main(["nightly", "--night", "2020-06-20", "--options", str(file)]) == 5


def telescopes(*flags):
    return pl.DataFrame(
        {
            "tel_type": ["LST"] * len(flags),
            "tel_id": range(1, len(flags) + 1),
            "flag": flags,
            "reason": ["-9 % from its siblings" if flag == "outlier" else "" for flag in flags],
        }
    )


def test_a_new_flag_in_the_trends_is_an_event(monkeypatch):
    sent = []
    monkeypatch.setattr("prefect.events.emit_event", lambda name, **kw: sent.append((name, kw)))
    assert not report_trends("energy-inter", date(2026, 3, 1), ())
    assert not sent
    assert report_trends("energy-inter", date(2026, 3, 1), ["MST 5: ageing: -1 % per day"])
    ((name, event),) = sent
    assert name == TREND
    assert event["payload"]["telescopes"] == ["MST 5"]
    assert event["payload"]["night"] == "2026-03-01"
    assert "MST 5: ageing: -1 % per day" in event["payload"]["message"]


def test_telescopes_that_stand_out_are_an_event(monkeypatch):
    sent = []
    monkeypatch.setattr("prefect.events.emit_event", lambda name, **kw: sent.append((name, kw)))
    assert not report_outliers("energy-inter", telescopes("ok", "few"))
    assert not sent
    assert report_outliers("energy-inter", telescopes("ok", "outlier"))
    ((name, event),) = sent
    assert name == OUT_OF_RANGE
    assert event["resource"] == {"prefect.resource.id": "arraycal.calibration.energy-inter"}
    assert event["payload"]["telescopes"] == ["LST 2"]
    assert "LST 2 (-9 % from its siblings)" in event["payload"]["message"]
