"""The command line without Prefect: numbers, exit statuses, messages."""

import argparse
import errno
import json
import shutil
import subprocess
import sys
from datetime import date

import h5py
import polars as pl
import pytest

from arraycal.calib.blocks.rows import rows_of_block
from arraycal.calib.observables import OBSERVABLES
from arraycal.calib.simulation import (
    CameraSettings,
    ClockSettings,
    NightSettings,
    SimulationSettings,
)
from arraycal.flows.cli.arguments import make_parser, parse_arguments
from arraycal.flows.cli.main import COMMANDS, main
from arraycal.flows.cli.simulate import settings_of
from arraycal.flows.cli.simulate_arguments import OPTIONS
from arraycal.flows.jobs import direct
from arraycal.flows.terminal.truth import compare_with_truth, read_truth
from arraycal.tasks import workers


def read_result(folder):
    return json.loads((folder / "result.json").read_text())


def run(*arguments):
    return main(["run", "energy-inter", *map(str, arguments), "--direct"])


def test_a_night_is_calibrated_and_shown_beside_its_truth(night, tmp_path, lenient, capsys):
    truth = night / "truth.json"
    assert run(night, "--output", tmp_path / "out", "--truth", truth, *lenient) == 0
    shown = capsys.readouterr()
    for word in ("LST 1", "MST 13", "truth", "pull", "rejected rows by rule", "usable"):
        assert word in shown.out
    for name in ("monitoring.h5", "result.json", "report.html"):
        assert str(tmp_path / "out" / name) in shown.out
    assert shown.err.count("telescope events") == 2  # one line per block


def test_coefficients_agree_with_the_truth(night, tmp_path, lenient):
    assert run(night, "--output", tmp_path, *lenient) == 0
    telescopes = pl.DataFrame(read_result(tmp_path)["telescopes"])
    pulls = compare_with_truth(telescopes, read_truth(night / "truth.json", "energy-inter"))["pull"]
    # Largest of 13 Gaussian numbers exceeds 5 once in 130 000 nights; a wrong order of telescopes
    # or a wrong gauge gives tens, the throughputs scatter by 8 % and the errors are about 1 %.
    assert max(map(abs, pulls)) < 5


def test_a_second_run_takes_the_pairs_from_the_cache(night, tmp_path, lenient, capsys, monkeypatch):
    monkeypatch.setenv("ARRAYCAL_CACHE_ROOT", str(tmp_path / "cache"))
    assert run(night, "--output", tmp_path / "one", *lenient) == 0
    assert "from the cache" not in capsys.readouterr().err
    assert run(night, "--output", tmp_path / "two", *lenient) == 0
    assert capsys.readouterr().err.count("from the cache") == 2
    one, two = (read_result(tmp_path / name) for name in ("one", "two"))
    assert one["telescopes"] == two["telescopes"]


def test_one_worker_and_many_give_the_same_numbers(night, tmp_path, lenient):
    for count in (1, 3):
        assert run(night, "--output", tmp_path / f"{count}", "--workers", count, *lenient) == 0
    assert read_result(tmp_path / "1")["telescopes"] == read_result(tmp_path / "3")["telescopes"]


def test_processes_give_the_same_numbers(night, tmp_path, lenient, monkeypatch):
    assert run(night, "--output", tmp_path / "threads", *lenient) == 0
    monkeypatch.setenv("ARRAYCAL_RUNNER", "processes")
    monkeypatch.setenv("ARRAYCAL_CACHE_ROOT", str(tmp_path / "cache"))
    monkeypatch.setattr("arraycal.calib.throughput.MIN_SPREAD_ROWS", 0)
    assert run(night, "--output", tmp_path / "processes", *lenient) == 0
    one, two = (read_result(tmp_path / name) for name in ("threads", "processes"))
    assert one["telescopes"] == two["telescopes"]


def test_bad_blocks_degrade_the_result_and_are_named(blocks, text_file, tmp_path, lenient, capsys):
    empty, short = tmp_path / "empty.h5", tmp_path / "short.h5"
    empty.touch()
    short.write_bytes(blocks[0].read_bytes()[:100_000])
    bad = [text_file, empty, short, tmp_path / "missing.h5"]
    assert run(*blocks, *bad, "--output", tmp_path / "out", *lenient) == 3
    shown = capsys.readouterr()
    assert "degraded: 4 blocks left out" in shown.out
    for path, reason in zip(bad, ("not a readable", "empty", "truncated", "nothing"), strict=True):
        assert path.name in shown.out
        assert any(path.name in line and reason in line for line in shown.err.splitlines())


def test_without_a_good_block_nothing_is_published(text_file, tmp_path, capsys):
    assert run(text_file, "--output", tmp_path / "out") == 4
    assert "can be used" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["arraycal.log"]


def test_a_result_without_any_coefficient_is_unusable(blocks, tmp_path, capsys):
    few = "RelativeThroughputFitter.min_events=1000000"
    assert run(blocks[0], "--output", tmp_path, "--set", few) == 4
    assert "unusable" in capsys.readouterr().out


def test_existing_results_are_not_replaced_unless_asked(blocks, tmp_path, lenient, capsys):
    (tmp_path / "result.json").write_text("{}")
    assert run(*blocks, "--output", tmp_path, *lenient) == 2
    shown = capsys.readouterr().err
    assert "--overwrite" in shown
    assert "telescope events" not in shown  # refused before any work
    assert (tmp_path / "result.json").read_text() == "{}"
    assert run(*blocks, "--output", tmp_path, "--overwrite", *lenient) == 0
    assert read_result(tmp_path)["telescopes"]


@pytest.mark.parametrize("section", ["CalculateInterCalibration", "CalculateEnergyAsymmetry"])
def test_a_configuration_file_may_allow_overwriting(blocks, tmp_path, lenient, section):
    (tmp_path / "result.json").write_text("{}")
    config = tmp_path / "config.yaml"
    config.write_text(f"{section}: {{overwrite: true}}\n")
    assert run(*blocks, "--output", tmp_path, "--config", config, *lenient) == 0
    assert read_result(tmp_path)["telescopes"]


def test_without_a_configuration_the_recommended_preset_is_used(blocks, tmp_path, lenient):
    assert run(*blocks, "--output", tmp_path, *lenient) == 0
    assert "resolution: binned" in read_result(tmp_path)["configuration"]


def test_a_configuration_file_stands_on_the_defaults(blocks, tmp_path, lenient):
    config = tmp_path / "config.yaml"
    config.write_text("ShowerSelection: {margin: 3.0}\n")
    assert run(*blocks, "--output", tmp_path, "--config", config, *lenient) == 0
    assert "resolution: telescope" in read_result(tmp_path)["configuration"]


def test_a_configuration_file_may_stand_on_a_preset(blocks, tmp_path, lenient):
    config = tmp_path / "config.yaml"
    config.write_text("ShowerSelection: {margin: 3.0}\n")
    options = ["--config", config, "--preset", "energy-inter", *lenient]
    assert run(*blocks, "--output", tmp_path, *options) == 0
    text = read_result(tmp_path)["configuration"]
    assert "resolution: binned" in text
    assert "margin: 3.0" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "ShowerSelection.margn=3"], "did you mean 'margin'"),
        (["--set", "margin"], "--set margin: expected SECTION.KEY=VALUE"),
        (["--preset", "energy-iner"], "did you mean 'energy-inter'"),
        (["--config", "no-such-file.yaml"], "no configuration file"),
        (["--truth", "no-such-file.json"], "--truth no-such-file.json: No such file"),
        (["--set", "QualityQuery.quality_criteria=[[a, '__import__(1)']]"], "not allowed"),
        (["--set", "QualityQuery.quality_criteria=[[a, 'x >']]"], "quality criterion 'a'"),
        (["--workers", "-1"], "expected a whole number of at least 0"),
        (["--workers", "two"], "expected a whole number of at least 0"),
        (["--no-such-option"], "unknown option --no-such-option"),
    ],
)
def test_wrong_usage_is_explained_and_leaves_nothing(blocks, tmp_path, capsys, arguments, message):
    assert run(*blocks, "--output", tmp_path / "out", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_unknown_calibration_is_wrong_usage(blocks, tmp_path, capsys):
    assert main(["run", "energy-intr", str(blocks[0]), "--output", str(tmp_path), "--direct"]) == 2
    assert "did you mean 'energy-inter'" in capsys.readouterr().err


def test_blocks_that_nothing_matches_are_wrong_usage(tmp_path, capsys):
    assert run(tmp_path / "*.h5", "--output", tmp_path / "out") == 2
    assert "no block file matches" in capsys.readouterr().err


def test_a_wrong_environment_variable_is_wrong_usage(blocks, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ARRAYCAL_RUNNER", "magic")
    assert run(*blocks, "--output", tmp_path) == 2
    assert "ARRAYCAL_RUNNER" in capsys.readouterr().err


def test_dask_that_is_not_installed_is_wrong_usage(blocks, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.setenv("ARRAYCAL_RUNNER", "dask")
    assert run(*blocks, "--output", tmp_path) == 2
    assert "dask is not installed" in capsys.readouterr().err


def test_a_full_disk_is_one_sentence(blocks, tmp_path, lenient, capsys, monkeypatch):
    def no_space(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "monitoring.h5")

    monkeypatch.setattr(direct, "publish", no_space)
    assert run(*blocks, "--output", tmp_path, *lenient) == 1
    sentences = capsys.readouterr().err.splitlines()
    assert sentences[-1].startswith("arraycal: monitoring.h5: No space left on device. Free some")
    assert "Traceback" not in "".join(sentences)
    assert "Traceback" in (tmp_path / "arraycal.log").read_text()


def test_polars_without_threads_is_one_sentence(blocks, tmp_path, capsys, monkeypatch):
    def fail(*_, **__):
        raise pl.exceptions.PanicException("could not spawn threads")

    monkeypatch.setitem(COMMANDS, "run", fail)
    assert run(*blocks, "--output", tmp_path) == 1
    assert capsys.readouterr().err == (
        "arraycal: polars stopped (could not spawn threads). Too little memory, or too few "
        "threads: see `ulimit -a`.\n"
    )


def test_an_output_below_a_file_is_one_sentence(blocks, text_file, capsys):
    assert run(*blocks, "--output", text_file / "out") == 2
    assert f"{text_file} is a file. Choose another --output." in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_stops_the_run(
    blocks, text_file, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("ARRAYCAL_CACHE_ROOT", str(text_file / "cache"))
    assert run(*blocks, "--output", tmp_path / "out") == 1
    assert "Not a directory" in capsys.readouterr().err
    assert not (tmp_path / "out" / "result.json").exists()


def test_ctrl_c_leaves_nothing_half_written(blocks, tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(direct, "calibrate", interrupted)
    assert run(*blocks, "--output", tmp_path) == 130
    assert "interrupted" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["arraycal.log"]


def test_a_defect_that_one_file_brings_to_light_costs_that_file_only(
    blocks, tmp_path, lenient, capsys, monkeypatch
):
    genuine = rows_of_block

    def defective(path, *arguments):
        if path == blocks[0]:
            raise RuntimeError("a case nobody thought of")
        return genuine(path, *arguments)

    monkeypatch.setattr(workers, "rows_of_block", defective)
    assert run(*blocks, "--output", tmp_path, *lenient) == 3
    assert "internal error, RuntimeError: a case nobody thought of" in capsys.readouterr().err
    assert "Traceback" in (tmp_path / "arraycal.log").read_text()


def test_direct_does_not_import_prefect(blocks, tmp_path):
    code = (
        "import sys; from arraycal.flows.cli.main import main; "
        f"main(['run', 'energy-inter', {str(blocks[0])!r}, '--output', {str(tmp_path)!r}, "
        "'--direct']); sys.exit(any(name.partition('.')[0] == 'prefect' for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "result.json").exists()


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from arraycal.flows.cli.main import main; main(['run', '--help']); "
        "sys.exit(bool({'polars', 'prefect', 'numpy', 'pydantic'} & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode
        == 0
    )


def test_a_night_with_nothing_to_do_imports_nothing_that_only_a_fit_needs(tmp_path):
    # Most of what a second run of a night costs is the start of Python.
    # Its index is new, and for that it has looked into the history.
    heavy = {"astropy", "matplotlib", "scipy.interpolate", "scipy.optimize", "scipy.stats"}
    assert imported_by_a_night(tmp_path, tmp_path, [], heavy) == (5, [])


def test_a_second_run_of_a_night_imports_nothing_that_only_a_fit_needs(night, tmp_path, lenient):
    overrides = [text for text in lenient if text != "--set"]
    heavy = {"astropy", "erfa", "matplotlib", "scipy", "sqlalchemy"}
    status, names = imported_by_a_night(night, tmp_path, overrides, heavy)
    # Times of a fit come from erfa; astropy is for blocks that are not in the cache yet.
    assert (status, {*names, "astropy"}) == (0, heavy)
    assert imported_by_a_night(night, tmp_path, overrides, heavy) == (0, [])
    record = json.loads((tmp_path / "2020-06-14" / "night.json").read_text())
    assert [item["is_reused"] for item in record["calibrations"]] == [True]


def test_stamps_from_the_cache_import_nothing_that_only_a_fit_needs(night, tmp_path):
    heavy = {"astropy", "matplotlib", "numpy.f2py", "scipy", "sqlalchemy"}
    status, _ = imported_by_a_night(night, tmp_path, [], heavy, "timing-cross")
    assert imported_by_a_night(night, tmp_path, [], heavy, "timing-cross") == (status, [])
    record = json.loads((tmp_path / "2020-06-14" / "night.json").read_text())
    assert [item["n_cached"] for item in record["calibrations"]] == [len(record["blocks"])]
    assert [item["is_reused"] for item in record["calibrations"]] == [True]


def imported_by_a_night(data, output, overrides, heavy, calibration="energy-inter"):
    """Exit status of a process that runs a night, and what it imported of what is heavy."""
    options = {
        "calibrations": [{"calibration": calibration, "overrides": overrides}],
        "settle_s": 0,
        "blocks": f"{data}/*.h5",
        "output": str(output),
    }
    (output / "options.yaml").write_text(json.dumps(options))
    words = ["nightly", "--direct", "--night", "2020-06-14"]
    words += ["--options", str(output / "options.yaml")]
    code = (
        "import sys; from arraycal.flows.cli.main import main; "
        f"status = main({words}); print(status, *sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    status, *names = done.stdout.splitlines()[-1].split()
    return int(status), names


def test_help_names_every_calibration(capsys):
    assert main(["run", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in OBSERVABLES)


@pytest.mark.parametrize("command", ["run", "simulate"])
def test_help_gives_the_default_of_every_option(command):
    commands = next(
        action
        for action in make_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    for action in commands.choices[command]._actions:
        if action.option_strings and "--help" not in action.option_strings:
            assert "default: " in action.help or action.required, action.option_strings


@pytest.mark.parametrize(
    "line",
    [
        "run energy-inter A B --output D --direct --workers 2",
        "run energy-inter --output D A --direct B --workers 2",
        "run --output D --direct --workers 2 energy-inter A B",
        "run energy-inter A --output D --direct --workers 2 -- B",
    ],
)
def test_blocks_and_options_come_in_any_order(line):
    found = parse_arguments(line.split())
    assert (found.command, found.calibration, found.blocks) == ("run", "energy-inter", ["A", "B"])
    assert (str(found.output), found.direct, found.workers) == ("D", True, 2)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("run energy-inter A", "the following arguments are required: --output"),
        ("run energy-inter A --output D --nonsense", "unknown option --nonsense"),
        ("apply --output D", "the following arguments are required: COEFFICIENTS"),
        ("check", "the following arguments are required: BLOCK"),
    ],
)
def test_what_is_missing_or_unknown_is_still_named(line, why, capsys):
    assert main(line.split()) == 2
    shown = capsys.readouterr().err
    assert why in shown
    assert f"usage: arraycal {line.split()[0]}" in shown


@pytest.mark.parametrize("command", [["run", "energy-inter", "x"], ["history"]])
def test_settings_are_written_as_ctapipe_writes_them_too(command):
    output = ["--output", "y"] if command[0] == "run" else []
    given = ["--A.b=1", "--A.c.d", "50 GeV", "--set", "B.e=2", "--C.text=a = b\nc", *output]
    found = parse_arguments([*command, *given])
    assert found.overrides == ["A.b=1", "A.c.d=50 GeV", "B.e=2", "C.text=a = b\nc"]


def test_a_setting_without_a_value_and_a_file_that_looks_like_one(capsys):
    found = parse_arguments(["run", "energy-inter", "--output", "y", "--", "--A.b=1"])
    assert (found.blocks, found.overrides) == (["--A.b=1"], [])
    assert parse_arguments(["run", "energy-inter", "x", "--output", "y", "--A.b"]).overrides == [
        "A.b="
    ]
    with pytest.raises(SystemExit):
        parse_arguments(["simulate", "x", "--A.b=1"])
    assert "unknown option --A.b" in capsys.readouterr().err


def test_simulate_has_the_defaults_of_the_settings():
    arguments = make_parser().parse_args(["simulate", "somewhere"])
    assert settings_of(arguments) == (SimulationSettings(), NightSettings())


def test_every_option_of_simulate_reaches_its_setting():
    given = {
        "--array": "south", "--blocks": "3", "--showers": "70", "--seed": "8",
        "--first-obs-id": "5", "--duration": "600", "--throughput-scatter": "0.1",
        "--throughput": "5=0.8", "--proton-fraction": "0.5", "--energy-min": "0.02",
        "--energy-max": "50", "--zenith": "30", "--azimuth": "90", "--pointing": "40,10",
        "--pointing-tables": "observation,dl1", "--energy-bias": "SST=0.1",
        "--energy-slope": "SST=0.02", "--energy-pivot": "2", "--energy-factor": "6=0.9",
        "--threshold": "SST=80", "--size-bias": "SST=-0.1", "--cleaning-loss": "3",
        "--saturation": "MST=90", "--frame": "camera", "--time-convention": "raw",
        "--clock-scatter": "5", "--clock-offset": "5=2e6", "--clock-drift": "6=3",
        "--clock-step": "7,600,10", "--jitter": "MST=2", "--latency": "SST=40",
        "--walk": "MST=3", "--outliers": "0.02", "--outlier-window": "90",
        "--missing-stamps": "0.01", "--night": "2026-03-01", "--nights": "3",
        "--step": "5=-0.08@2026-03-03", "--ageing": "6=0.01",
    }  # fmt: skip
    switches = ["--no-dl1", "--truncation"]
    words = [word for option in given.items() for word in option]
    assert {flag for flag, *_ in OPTIONS} == {*given, *switches}
    found = settings_of(make_parser().parse_args(["simulate", "there", *words, *switches]))
    settings, nights = found
    assert nights == NightSettings(
        n_nights=3, steps=((5, -0.08, date(2026, 3, 3)),), ageing={6: 0.01}
    )
    assert settings == SimulationSettings(
        array="south", n_blocks=3, n_showers=70, seed=8, first_obs_id=5, block_duration_s=600.0,
        night=date(2026, 3, 1),
        throughput_scatter=0.1, throughput={5: 0.8}, proton_fraction=0.5, energy_min_tev=0.02,
        energy_max_tev=50.0, zenith_deg=30.0, azimuth_deg=90.0, pointings=((40.0, 10.0),),
        pointing_tables=("observation", "dl1"), energy_bias={"SST": 0.1},
        energy_slope={"SST": 0.02}, energy_pivot_tev=2.0, energy_factor={6: 0.9}, write_dl1=False,
        camera=CameraSettings(
            threshold_pe={"SST": 80.0}, size_bias={"SST": -0.1}, cleaning_loss_pe=3.0,
            truncation=True, saturation_pe={"MST": 90.0}, frame="camera",
        ),
        clocks=ClockSettings(
            convention="raw", offset_scatter_ns=5.0, offset_ns={5: 2e6}, drift_ns_per_h={6: 3.0},
            steps=((7, 600.0, 10.0),), jitter_ns={"MST": 2.0}, latency_ns={"SST": 40.0},
            walk_ns={"MST": 3.0}, outlier_fraction=0.02, outlier_window_ns=90.0,
            missing_fraction=0.01,
        ),
    )  # fmt: skip


def test_options_of_simulate_may_be_repeated():
    words = ["--pointing", "20,180", "--pointing", "40,0", "--size-bias", "LST=1", "--size-bias"]
    words += ["MST=2", "--step", "5=0.1@2026-03-01", "--step", "5=0.2@2026-03-02"]
    settings, nights = settings_of(make_parser().parse_args(["simulate", "there", *words]))
    assert nights.steps == ((5, 0.1, date(2026, 3, 1)), (5, 0.2, date(2026, 3, 2)))
    assert settings.pointings == ((20.0, 180.0), (40.0, 0.0))
    assert settings.camera.size_bias == {"LST": 1.0, "MST": 2.0}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pointing", "20"], "found '20', expected two numbers as in 20,180"),
        (["--size-bias", "LST"], "found 'LST', expected a number as in MST=0.1"),
        (["--throughput", "LST=1"], "found 'LST=1', expected a telescope and a number as in"),
        (["--clock-step", "5,60"], "found '5,60', expected telescope, seconds and nanoseconds"),
        (["--step", "5=0.1"], "found '5=0.1', expected telescope, relative change and date as in"),
        (
            ["--step", "5=-1@2026-03-01"],
            "throughput of telescope 5 is to change by -1 of",
        ),
        (["--ageing", "99=0.1"], "the throughput of telescopes [99] is to change, but the array"),
        (["--night", "today"], "found 'today', expected a date such as 2026-03-01"),
        (["--clock-offset", "99=1"], "clocks.offset_ns is given for telescopes [99], but array"),
        (["--pointing-tables", "dl9"], "found 'dl9', expected some of observation,configuration"),
        (["--array", "north", "--size-bias", "SST=1"], "camera.size_bias is given for SST, but"),
    ],
)
def test_simulate_says_what_is_wrong_with_an_option(words, message, tmp_path, capsys):
    assert main(["simulate", str(tmp_path / "n"), *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "n").exists()


def test_simulate_writes_a_night_once(tmp_path, capsys):
    arguments = ["simulate", str(tmp_path / "n"), "--array", "north", "--blocks", "1"]
    arguments += ["--showers", "20"]
    assert main(arguments) == 0
    assert "1 blocks of 20 showers, 13 telescopes" in capsys.readouterr().out
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0
    assert sorted(p.name for p in (tmp_path / "n").iterdir()) == ["block_1001.dl2.h5", "truth.json"]


def test_simulate_writes_each_night_into_a_folder_of_its_date(tmp_path, capsys):
    arguments = ["simulate", str(tmp_path / "n"), "--array", "north", "--blocks", "1"]
    arguments += ["--showers", "20", "--night", "2026-02-28", "--nights", "2", "--ageing", "3=0.5"]
    assert main(arguments) == 0
    folders = [tmp_path / "n" / night for night in ("2026-02-28", "2026-03-01")]
    shown = capsys.readouterr().out
    assert all(f"{folder}: 1 blocks of 20 showers" in shown for folder in folders)
    first, second = (read_truth(folder / "truth.json", "image-inter").values for folder in folders)
    assert second == pytest.approx(first | {3: 0.5 * first[3]})
    (folders[0] / "truth.json").unlink()
    (folders[0] / "block_1001.dl2.h5").unlink()
    assert main(arguments) == 2  # the second night is still there
    assert not list(folders[0].iterdir())


def test_simulate_refuses_an_impossible_night(tmp_path, capsys):
    assert main(["simulate", str(tmp_path / "n"), "--zenith", "80"]) == 2
    assert "between 0 and 60" in capsys.readouterr().err
    assert not (tmp_path / "n").exists()


def test_check_says_what_a_block_holds(blocks, capsys):
    assert main(["check", str(blocks[0])]) == 0
    text = capsys.readouterr().out
    for fact in ("v7.6", "1001", "4 telescopes (1, 2, 3, 4)", "9 telescopes", "can be run"):
        assert fact in text
    assert "RandomForestRegressor" in text
    assert "RandomForestClassifier" in text


def test_check_tells_all_from_some_from_none(blocks, text_file, capsys):
    assert main(["check", *map(str, blocks)]) == 0
    assert "2 of 2 files can be calibrated" in capsys.readouterr().out
    assert main(["check", str(blocks[0]), str(text_file)]) == 3
    assert "not a readable HDF5 file" in capsys.readouterr().out
    assert main(["check", str(text_file)]) == 4


def test_a_file_with_damage_in_it_cannot_be_called_usable(blocks, tmp_path, capsys):
    damaged = tmp_path / "damaged.dl2.h5"
    shutil.copy(blocks[0], damaged)
    with h5py.File(damaged, "a") as file:
        name = "/configuration/instrument/telescope/camera/geometry_0"
        del file[name]
        file[name] = h5py.SoftLink("/nowhere")
    assert main(["check", str(damaged)]) == 3
    shown = capsys.readouterr().out
    assert "geometry_0 leads nowhere, the file is damaged" in shown
    assert "image-inter, preset image-inter-peer    can be run" in shown
    assert main(["check", str(damaged), str(blocks[1])]) == 3


def test_check_goes_on_behind_a_block_without_tables_of_telescopes(blocks, tmp_path, capsys):
    bare = tmp_path / "bare.dl2.h5"
    shutil.copy(blocks[0], bare)
    with h5py.File(bare, "r+") as file:
        del file["/dl2/event/telescope"]
    # Image sizes and stamps are still there.
    assert main(["check", str(bare), str(blocks[1])]) in {0, 3}
    assert "1002" in capsys.readouterr().out


def test_check_says_why_a_preset_cannot_run(real_data, capsys):
    # This file has no gammaness and two telescopes without tables.
    assert main(["check", str(real_data / "paranal_gamma_diffuse_ob99.dl2.h5")]) == 0
    text = capsys.readouterr().out
    assert "without tables: 502, 553" in text
    assert "RandomForestClassifier_tel_prediction" in text
    assert "the time stamps are useless for timing" in text


def test_presets_are_listed_and_printed(capsys):
    assert main(["presets"]) == 0
    assert "energy-inter-peer" in capsys.readouterr().out
    assert main(["presets", "energy-inter"]) == 0
    assert "ShowerSelection:" in capsys.readouterr().out
    assert main(["presets", "energy-iner"]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_version_and_missing_command(capsys):
    assert main(["--version"]) == 0
    assert "arraycal" in capsys.readouterr().out
    assert main([]) == 2


def test_the_files_of_the_peer_run_unchanged(real_data, tmp_path):
    files = sorted(map(str, real_data.glob("lapalma_gamma_*.dl2.h5")))
    names = ("peer_energy_asymmetry.yaml", "peer_inter_calibration_energy.yaml")
    options = [item for name in names for item in ("--config", real_data / "configs" / name)]
    assert run(*files, *options, "--output", tmp_path) == 0
    assert len(read_result(tmp_path)["telescopes"]) == 19


def test_a_folder_with_results_in_it_can_be_calibrated(blocks, tmp_path, lenient):
    for block in blocks:
        shutil.copy(block, tmp_path / block.name.replace(".dl2", ""))
    assert run(tmp_path, "--output", tmp_path, *lenient) == 0
    assert run(tmp_path, "--output", tmp_path, "--overwrite", *lenient) == 0
    assert len(read_result(tmp_path)["blocks"]) == 2
