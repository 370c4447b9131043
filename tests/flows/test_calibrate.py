"""The flow, run on a server of its own: its states, its artifacts, its numbers."""

import errno
import json
import math
import signal
import subprocess
import sys
from collections import Counter

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.settings import get_current_settings

import arraycal.calib.publish.writing
from arraycal.flows.calibrate import calibrate
from arraycal.flows.cli.main import main
from arraycal.flows.jobs.parameters import CalibrateParameters
from arraycal.tasks.calibration import _finite, publish

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def overrides(lenient):
    return [text for text in lenient if text != "--set"]


@pytest.fixture
def run_flow(tmp_path, overrides):
    def run(blocks, **changes):
        given = {"output": str(tmp_path / "out"), "overrides": overrides} | changes
        parameters = CalibrateParameters(blocks=[str(block) for block in blocks], **given)
        return calibrate(parameters, return_state=True)

    return run


@pytest.fixture
def quick_retries(monkeypatch):
    """Retries without the wait between them."""
    monkeypatch.setattr(publish, "retry_delay_seconds", 0)


def artifacts_of(state):
    chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id(state)]))
    with get_client(sync_client=True) as client:
        return {item.key: item for item in client.read_artifacts(artifact_filter=chosen)}


def logs_of(state):
    chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id(state)]))
    with get_client(sync_client=True) as client:
        return client.request(
            "POST", "/logs/filter", json={"logs": chosen.model_dump(mode="json")}
        ).json()


def run_id(state):
    return state.state_details.flow_run_id


def read_result(folder):
    return json.loads((folder / "result.json").read_text())


def test_a_sound_night_completes(night, tmp_path, run_flow):
    state = run_flow([night])
    assert state.is_completed()
    assert state.name == "Completed"
    assert state.message == "usable"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "arraycal.log",
        "monitoring.h5",
        "report.html",
        "result.json",
    }


def test_the_rows_of_a_large_night_are_mapped_like_its_blocks(
    night, tmp_path, run_flow, monkeypatch
):
    assert run_flow([night], output=str(tmp_path / "in turn")).is_completed()
    monkeypatch.setattr("arraycal.calib.throughput.MIN_SPREAD_ROWS", 0)
    state = run_flow([night])
    assert state.is_completed()
    in_turn, mapped = (read_result(tmp_path / name) for name in ("in turn", "out"))
    assert in_turn["telescopes"] == mapped["telescopes"]
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[run_id(state)]))
    with get_client(sync_client=True) as client:
        names = Counter(run.name for run in client.read_task_runs(flow_run_filter=chosen))
    # Each block is sketched and swept.
    sums = {name: n for name, n in names.items() if name.startswith("sums of block_")}
    assert sums == {f"sums of {path.name}": 2 for path in night.glob("*.dl2.h5")}


def test_the_state_says_where_the_results_are(night, tmp_path, run_flow):
    data = run_flow([night]).result()
    assert data["result"] == str(tmp_path / "out" / "result.json")
    assert data["verdict"] == "usable"


def test_a_bad_block_degrades_the_state_and_is_named(blocks, text_file, run_flow):
    state = run_flow([*blocks, text_file])
    assert state.is_completed()
    assert state.name == "Degraded"
    assert "text.dl2.h5" in state.message


def test_without_a_good_block_the_run_fails_and_says_why(text_file, tmp_path, run_flow):
    state = run_flow([text_file])
    assert state.is_failed()
    assert state.name == "Unusable"
    assert "not a readable HDF5 file" in state.message
    assert not (tmp_path / "out" / "result.json").exists()


def test_a_result_without_any_coefficient_fails(blocks, run_flow):
    few = ["RelativeThroughputFitter.min_events=1000000"]
    state = run_flow(blocks, overrides=few)
    assert state.is_failed()
    assert state.name == "Unusable"
    assert "13 telescopes without coefficient" in state.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overrides": ["ShowerSelection.margn=3"]}, "did you mean 'margin'"),
        ({"config": ["no-such-file.yaml"]}, "no configuration file"),
        ({"output": "{file}"}, "results go into a folder"),
    ],
)
def test_parameters_that_cannot_work_fail_with_their_reason(
    blocks, text_file, run_flow, changes, message
):
    if "output" in changes:
        changes = {"output": str(text_file)}
    state = run_flow(blocks, **changes)
    assert state.is_failed()
    assert message in state.message


def test_existing_results_are_kept(blocks, tmp_path, run_flow):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.json").write_text("{}")
    state = run_flow(blocks)
    assert state.is_failed()
    assert "already holds result.json" in state.message
    assert not any("pair rows" in record["message"] for record in logs_of(state))
    assert (tmp_path / "out" / "result.json").read_text() == "{}"


@pytest.mark.parametrize("name", ["data", "output"])
def test_paths_outside_the_roots_are_refused(blocks, tmp_path, run_flow, monkeypatch, name):
    (tmp_path / "root").mkdir()
    monkeypatch.setenv(f"ARRAYCAL_{name.upper()}_ROOT", str(tmp_path / "root"))
    state = run_flow(blocks, output="/etc/arraycal")
    assert state.is_failed()
    assert f"ARRAYCAL_{name.upper()}_ROOT" in state.message


def test_the_artifacts_show_the_coefficients(night, run_flow):
    artifacts = artifacts_of(run_flow([night]))
    assert set(artifacts) == {
        "arraycal-energy-inter",
        "arraycal-energy-inter-report",
        "arraycal-energy-inter-blocks",
    }
    rows = json.loads(artifacts["arraycal-energy-inter"].data)
    assert len(rows) == 13
    assert all(0.5 < row["value"] < 2 for row in rows)
    assert artifacts["arraycal-energy-inter-blocks"].data == 100.0
    page = artifacts["arraycal-energy-inter-report"].data
    assert len(page.encode()) < 1 << 20
    assert "data:image/png;base64," in page


def test_no_number_of_the_table_is_infinite_or_nan(night, run_flow):
    # One Infinity and the UI shows nothing of the table.
    few = ["RelativeThroughputFitter.min_events=400", "ShowerSelection.threshold=null"]
    state = run_flow([night], overrides=few)
    assert state.name == "Degraded"
    data = artifacts_of(state)["arraycal-energy-inter"].data
    rows = json.loads(data, parse_constant=lambda text: pytest.fail(f"{text} in the table"))
    assert any(row["value"] is None for row in rows)
    numbers = [cell for row in rows for cell in row.values() if isinstance(cell, float)]
    assert all(map(math.isfinite, numbers))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_cell_that_is_no_finite_number_is_empty(value):
    assert _finite({"value": value, "tel_id": 3}) == {"value": None, "tel_id": 3}


def test_records_of_the_core_reach_the_run_log(blocks, text_file, run_flow):
    state = run_flow([*blocks, text_file])
    messages = [record["message"] for record in logs_of(state)]
    assert any("not a readable HDF5 file" in text for text in messages)
    assert any(blocks[0].name in text and "pair rows" in text for text in messages)


def test_flow_and_direct_give_identical_numbers(night, tmp_path, lenient):
    arguments = ["run", "energy-inter", str(night), *lenient, "--output"]
    assert main([*arguments, str(tmp_path / "flow")]) == 0
    assert main([*arguments, str(tmp_path / "direct"), "--direct"]) == 0
    flow, direct = (read_result(tmp_path / name) for name in ("flow", "direct"))
    for name in ("telescopes", "pairs", "covariance", "rejected", "fit", "configuration"):
        assert flow[name] == direct[name], name


def test_the_command_line_runs_the_flow_with_the_same_exit_statuses(
    blocks, text_file, tmp_path, lenient, capsys
):
    options = [*lenient, "--workers", "2", "--output"]
    good = ["run", "energy-inter", *map(str, blocks)]
    assert main([*good, str(text_file), *options, str(tmp_path / "degraded")]) == 3
    assert "degraded: 1 block left out (text.dl2.h5)" in capsys.readouterr().out
    assert main(["run", "energy-inter", str(text_file), *options, str(tmp_path / "none")]) == 4
    assert "not a readable HDF5 file" in capsys.readouterr().err


def test_the_command_is_in_the_provenance(blocks, tmp_path, lenient):
    arguments = ["run", "energy-inter", str(blocks[0]), *lenient, "--output", str(tmp_path)]
    assert main(arguments) == 0
    assert read_result(tmp_path)["provenance"]["command"].startswith("arraycal run energy-inter")


def test_a_run_without_a_terminal_names_itself_in_the_provenance(blocks, tmp_path, run_flow):
    run_flow(blocks)
    command = read_result(tmp_path / "out")["provenance"]["command"]
    assert command.startswith("Prefect flow run")


@pytest.mark.usefixtures("quick_retries")
def test_a_passing_failure_of_the_machine_is_tried_again(blocks, run_flow, monkeypatch):
    genuine, calls = arraycal.calib.publish.writing.publish, []

    def fails_once(*arguments, **options):
        calls.append(1)
        if len(calls) == 1:
            raise OSError(errno.EIO, "Input/output error")
        return genuine(*arguments, **options)

    monkeypatch.setattr(arraycal.calib.publish.writing, "publish", fails_once)
    assert run_flow(blocks).is_completed()
    assert len(calls) == 2


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize(
    ("error", "calls_expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "result.json"), 3),
        (OSError(errno.EROFS, "Read-only file system", "result.json"), 1),
    ],
)
def test_a_lasting_failure_of_the_machine_is_one_sentence(
    blocks, tmp_path, lenient, capsys, monkeypatch, error, calls_expected
):
    calls = []

    def fails(*_, **__):
        calls.append(1)
        raise error

    monkeypatch.setattr(arraycal.calib.publish.writing, "publish", fails)
    options = ["--output", str(tmp_path / "out"), *lenient]
    assert main(["run", "energy-inter", str(blocks[0]), *options]) == 1
    assert len(calls) == calls_expected
    assert f"arraycal: result.json: {error.strerror}." in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["arraycal.log"]


def test_lost_artifacts_do_not_lose_the_results(blocks, tmp_path, run_flow, monkeypatch):
    def refused(*_, **__):
        raise ConnectionError("the server is gone")

    monkeypatch.setattr("arraycal.tasks.calibration.create_table_artifact", refused)
    state = run_flow(blocks)
    assert state.is_completed()
    assert (tmp_path / "out" / "result.json").exists()


def test_a_server_that_is_not_there_is_one_sentence(blocks, tmp_path, capsys, monkeypatch):
    def unreachable(*_, **__):
        raise RuntimeError("Failed to reach API at http://127.0.0.1:9/api/")

    monkeypatch.setattr("arraycal.flows.calibrate.calibrate", unreachable)
    assert main(["run", "energy-inter", str(blocks[0]), "--output", str(tmp_path)]) == 1
    assert "Failed to reach API" in capsys.readouterr().err


#: Calibrates as the command line does, after saying that it reads a block and taking its time.
SLOW = """
import sys, time
from arraycal.flows.cli.main import main
from arraycal.tasks import workers
genuine = workers.rows_of_block
def slow(*arguments):
    print("reading", flush=True)
    time.sleep(1)
    return genuine(*arguments)
workers.rows_of_block = slow
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("mode", [[], ["--direct"]], ids=["flow", "direct"])
def test_ctrl_c_leaves_nothing_half_written(blocks, tmp_path, monkeypatch, mode):
    monkeypatch.setenv("PREFECT_API_URL", str(get_current_settings().api.url))
    monkeypatch.setenv("ARRAYCAL_CACHE_ROOT", str(tmp_path / "cache"))
    arguments = ["run", "energy-inter", *map(str, blocks), "--output", str(tmp_path / "out"), *mode]
    command = [sys.executable, "-c", SLOW, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"reading")
        process.send_signal(signal.SIGINT)
        assert b"interrupted" in process.communicate()[1]
    assert process.returncode == 130
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["arraycal.log"]
    assert not list((tmp_path / "cache").rglob("*.tmp"))
