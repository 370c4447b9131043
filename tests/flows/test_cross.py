"""The cross-calibration on the command line: tables, outcomes without a result, files it takes."""

import json

import pytest

from arraycal.calib.errors import NothingToDo
from arraycal.calib.types import joint as cross
from arraycal.flows.cli.main import main
from arraycal.flows.jobs.parameters import CalibrateParameters


def run(*arguments, direct=True):
    mode = ["--direct"] if direct else []
    return main(["run", "energy-cross", *map(str, arguments), *mode])


def test_types_are_shown_and_three_steps_start_from_the_file(night, tmp_path, lenient, capsys):
    truth = night / "truth.json"
    assert run(night, "--output", tmp_path / "joint", "--truth", truth, *lenient) == 3
    shown = capsys.readouterr().out
    assert "telescope types relative to MST" in shown
    # Without the threshold margin, of which `lenient` has none, the trigger biases the LST.
    assert "over the energies" in shown
    inter = tmp_path / "joint"
    three = ("--set", "CalculateCrossCalibration.method=three_step", "--inter", inter)
    assert run(night, "--output", tmp_path / "steps", *three, *lenient) == 0
    result = json.loads((tmp_path / "steps" / "result.json").read_text())
    assert result["fit"]["method"] == "three_step"
    assert any("not with method: three_step" in text for text in result["verdict"]["untested"])
    assert str(inter / "monitoring.h5") in result["configuration"]


def test_an_inter_calibration_that_is_not_there_is_refused_at_once(night, tmp_path, capsys):
    three = ("--set", "CalculateCrossCalibration.method=three_step", "--inter", "none.h5")
    assert run(night, "--output", tmp_path, *three) == 2
    assert "inter_calibration: there is no file" in capsys.readouterr().err


def test_an_unknown_reference_type_is_wrong_usage(night, tmp_path, capsys):
    reference = ("--set", "CalculateCrossCalibration.reference_subsystem=SST")
    assert run(night, "--output", tmp_path, *reference) == 2
    assert "reference_subsystem is SST, but the array has LST, MST" in capsys.readouterr().err


@pytest.fixture
def one_type(monkeypatch):
    def refuse(*_):
        raise NothingToDo("all 4 telescopes are of type LST")

    monkeypatch.setattr(cross, "check_types", refuse)


@pytest.mark.usefixtures("one_type")
def test_nothing_to_do_has_its_own_exit_status_and_writes_no_result(night, tmp_path, capsys):
    assert run(night, "--output", tmp_path / "some" / "where") == 5
    assert "nothing to do: all 4 telescopes are of type LST" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    # What was there before stays as it was.
    log = tmp_path / "arraycal.log"
    log.write_text("earlier\n")
    assert run(night, "--output", tmp_path) == 5
    assert list(tmp_path.iterdir()) == [log]
    assert log.read_text() == "earlier\n"


def test_a_reference_telescope_that_is_not_there_is_wrong_usage(night, tmp_path, capsys):
    references = ("--set", "RelativeThroughputFitter.reference_telescopes={LST: 77, MST: 5}")
    assert run(night, "--output", tmp_path, *references) == 2
    assert "telescope 77, the reference of LST, is none of this array" in capsys.readouterr().err


@pytest.mark.usefixtures("one_type", "prefect_server")
def test_nothing_to_do_is_a_state_of_its_own_in_prefect(night, tmp_path):
    from arraycal.flows.calibrate import calibrate

    parameters = CalibrateParameters(
        calibration="energy-cross", blocks=[str(night)], output=str(tmp_path)
    )
    state = calibrate(parameters, return_state=True)
    assert state.name == "NothingToDo"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("prefect_server")
def test_an_unknown_reference_type_is_a_failed_state_with_the_types_there_are(night, tmp_path):
    from arraycal.flows.calibrate import calibrate

    parameters = CalibrateParameters(
        calibration="energy-cross",
        blocks=[str(night)],
        output=str(tmp_path),
        overrides=["CalculateCrossCalibration.reference_subsystem=SST"],
    )
    state = calibrate(parameters, return_state=True)
    assert state.is_failed()
    assert state.name == "WrongUsage"
    assert "reference_subsystem is SST, but the array has LST, MST" in str(state.message)
    assert not (tmp_path / "result.json").exists()


@pytest.mark.usefixtures("prefect_server")
def test_the_page_of_a_run_shows_the_types_and_their_flags(night, tmp_path, lenient):
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    from arraycal.flows.calibrate import calibrate

    parameters = CalibrateParameters(
        calibration="energy-cross",
        blocks=[str(night)],
        output=str(tmp_path),
        overrides=[text for text in lenient if text != "--set"],
    )
    state = calibrate(parameters, return_state=True)
    run_id = state.state_details.flow_run_id
    assert run_id is not None
    run = ArtifactFilterFlowRunId(any_=[run_id])
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=run))
    page = str(next(item.data for item in found if item.key == "arraycal-energy-cross-report"))
    assert "## Telescope types relative to MST" in page
    result = json.loads((tmp_path / "result.json").read_text())
    factor = {row["tel_type"]: row["scaling_factor"] for row in result["extras"]["types"]}["LST"]
    assert f"| LST | {factor:.4f} |" in page
    # The trigger biases the LST at low energies, see the first test.
    assert any(line.startswith("| LST | energy |") and "trend" in line for line in page.split("\n"))
