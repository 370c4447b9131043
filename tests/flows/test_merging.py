"""``arraycal merge`` on nights that runs left in the history."""

import json
import shlex
import shutil

import numpy as np
import pytest

from arraycal.flows.cli.main import main
from arraycal.flows.terminal.masking import without_secrets

NIGHTS = ("2026-03-01", "2026-03-03")
CALIBRATIONS = ("energy-inter", "energy-cross", "image-inter")


def values(folder):
    content = json.loads((folder / "result.json").read_text())
    return {row["tel_id"]: row for row in content["telescopes"]}, content


@pytest.fixture
def merge(tmp_path):
    """Merge nights of the history; returns the exit status."""

    def call(*options, calibration="energy-inter", first="2026-03-01", last="2026-03-04"):
        window = ["--calibration", calibration, "--from", first, "--to", last]
        return main(["merge", *window, "--output", str(tmp_path / "window"), *options])

    return call


@pytest.fixture
def nights(tmp_path, blocks, lenient, monkeypatch):
    """Calibrate two nights of one block each, and their blocks in one; the blocks are then gone."""
    monkeypatch.setenv("ARRAYCAL_DATABASE_URL", f"sqlite:///{tmp_path}/history.sqlite")

    def call(calibration):
        data = tmp_path / "data"
        data.mkdir()
        copies = [shutil.copy(path, data) for path in blocks]
        run = ["run", calibration, "--direct", *lenient]
        for night, path in zip(NIGHTS, copies, strict=True):
            folder = str(tmp_path / night)
            assert main([*run, path, "--output", folder, "--night", night]) in {0, 3}
        assert main([*run, *copies, "--output", str(tmp_path / "both"), "--no-record"]) in {0, 3}
        shutil.rmtree(data)
        monkeypatch.setenv("ARRAYCAL_CACHE_ROOT", str(tmp_path / "no cache"))

    return call


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_nights_are_merged_without_their_blocks(calibration, nights, merge, tmp_path, capsys):
    nights(calibration)
    status = merge(calibration=calibration)
    found, content = values(tmp_path / "window")
    assert status == {"usable": 0, "degraded": 3}[content["verdict"]["status"]]
    expected, _ = values(tmp_path / "both")
    both = [i for i, row in expected.items() if row["value"] and found[i]["value"]]
    assert len(both) > len(expected) / 2
    for i in both:
        # The same showers with the weights of each night: the weights are known to some 10 %, and
        # move a coefficient by little of its error. (Across types these data contradict
        # themselves by 10 %, as their systematic errors say, and then weights matter.)
        distance = abs(found[i]["value"] - expected[i]["value"])
        assert distance < 0.5 * np.hypot(expected[i]["error"], expected[i]["systematic"] or 0.0)
        assert 0.8 < found[i]["error"] / expected[i]["error"] < 1.25
    assert content["obs_ids"] == values(tmp_path / "both")[1]["obs_ids"]
    table = content["extras"]["window"]
    assert [row["night"] for row in table if row["status"] == "used"] == list(NIGHTS)
    assert [row["status"] for row in table] == ["used", "no run", "used", "no run"]
    assert [run["night"] for run in content["provenance"]["window"]["runs"]] == list(NIGHTS)
    shown = capsys.readouterr().out
    assert "nights, 2026-03-01 to 2026-03-04" in shown
    for name in ("monitoring.h5", "report.html", "arraycal.log"):
        assert (tmp_path / "window" / name).exists()
    assert "Nights, 2026-03-01 to 2026-03-04" in (tmp_path / "window/report.html").read_text()
    lacking = content["fit"]["not_in_a_window"]
    assert lacking.startswith("threshold scan")
    assert ("in bins" in lacking) == (calibration != "energy-inter")
    if calibration == "energy-cross":
        # Each night says that one factor does not describe it; a window may not hide it.
        (reason,) = content["verdict"]["reasons"]
        assert reason.startswith("2 of 2 runs in use are degraded for what a window does not see")
        assert "the contrast of LST with MST changes by" in reason


def test_the_command_refuses_what_makes_no_sense(nights, merge, tmp_path, capsys):
    nights("energy-inter")
    assert merge(first="2026-04-01", last="2026-04-30") == 5
    assert "nothing to do: the history at" in capsys.readouterr().err
    assert merge(first="2026-03-04", last="2026-03-01") == 2
    assert merge(calibration="timing-cross") == 2
    assert "timing-cross cannot be merged: clocks drift" in capsys.readouterr().err
    assert merge(calibration="energy") == 2
    assert "expected one of energy-inter, energy-cross, image-inter" in capsys.readouterr().err
    assert not (tmp_path / "window").exists()
    assert merge() in {0, 3}
    assert merge() == 2
    assert "already holds" in capsys.readouterr().err
    assert merge("--overwrite", "--configuration", "ffff") == 5
    assert merge("--overwrite", "--database", f"sqlite:///{tmp_path}/none.sqlite") == 4
    assert "there is no history" in capsys.readouterr().err
    assert not (tmp_path / "none.sqlite").exists()


def test_dates_are_checked_before_the_history_is_looked_for(merge, capsys):
    assert merge(first="2026-11-30", last="2026-11-01") == 2
    assert "ends before it begins: from 2026-11-30 to 2026-11-01" in capsys.readouterr().err


@pytest.mark.parametrize("password", ["secret", "it's secret", 'a"secret'])
@pytest.mark.parametrize("form", [["--database", "{}"], ["--database={}"], ["--data={}"]])
def test_a_password_does_not_get_into_the_results(password, form):
    url = f"postgresql://me:{password}@host/history"
    line = shlex.join(["arraycal", "merge", *(text.format(url) for text in form), "--to", "x"])
    shown = without_secrets(line, url, "postgresql://me:***@host/history")
    assert "secret" not in shown
    assert shown.startswith("arraycal merge")


@pytest.mark.usefixtures("prefect_server")
def test_a_flow_keeps_the_sums_as_a_direct_run_does(tmp_path, blocks, lenient, monkeypatch, merge):
    monkeypatch.setenv("ARRAYCAL_DATABASE_URL", f"sqlite:///{tmp_path}/history.sqlite")
    run = ["run", "energy-inter", str(blocks[0]), *lenient, "--night", "2026-03-02"]
    assert main([*run, "--output", str(tmp_path / "out")]) == 0
    assert merge() == 0
    found, expected = (values(tmp_path / name)[0] for name in ("window", "out"))
    # The window of one night is the night.
    for i, row in expected.items():
        assert found[i]["value"] == row["value"]
        assert found[i]["error"] == row["error"]
        assert found[i]["systematic"] == row["systematic"]
