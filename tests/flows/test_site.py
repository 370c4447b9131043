"""Commands about nights use the folders of the service, without any variable in the shell."""

import shutil

import pytest

from arraycal.calib.nights.record import read_night
from arraycal.config.settings import load_settings
from arraycal.flows.cli.main import main
from arraycal.flows.jobs import site_settings as site_module
from arraycal.flows.jobs.home import Home
from arraycal.flows.jobs.remembered import remember, to_remember
from arraycal.flows.jobs.site_settings import find_site, run_settings

NIGHT = "2020-06-14"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The home of a site, and a current folder in which nothing must appear."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("ARRAYCAL_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def options(tmp_path, lenient):
    """File with options under which the small night is usable."""
    overrides = ", ".join(text for text in lenient if text != "--set")
    file = tmp_path / "nightly.yaml"
    file.write_text(
        f"calibrations: [{{calibration: energy-inter, overrides: [{overrides}]}}]\nsettle_s: 0\n"
    )
    return ["--options", str(file)]


def as_up_remembers(home, monkeypatch, **texts):
    """Leave what `arraycal up` would leave after a start with these settings."""
    for name, text in texts.items():
        monkeypatch.setenv(f"ARRAYCAL_{name.upper()}", str(text))
    kept = to_remember(load_settings(), {})
    for name in texts:
        monkeypatch.delenv(f"ARRAYCAL_{name.upper()}")
    remember(home / "settings.yaml", kept)


def merged(*more):
    window = ["--calibration", "energy-inter", "--from", NIGHT, "--to", NIGHT]
    return main(["merge", *window, "--output", "month", *more])


def test_a_night_by_hand_its_history_and_its_window_need_no_variable(
    home, blocks, options, tmp_path, capsys
):
    (home / "data").mkdir()
    for path in blocks:
        shutil.copy(path, home / "data")
    assert main(["nightly", "--night", NIGHT, "--direct", *options]) == 0
    assert (home / "output" / NIGHT / "energy-inter" / "result.json").exists()
    assert (home / "output" / "index.html").exists()
    assert (home / "output" / "history.sqlite").exists()
    assert not list((tmp_path / "here").iterdir())
    said = capsys.readouterr().err
    assert f"data      {home / 'data'} (default, in ARRAYCAL_HOME)" in said
    assert f"results   {home / 'output'} (default, in ARRAYCAL_HOME)" in said
    assert main(["history", "--since", "2020-06-01"]) == 0
    assert f"history   {home / 'output' / 'history.sqlite'} (default" in capsys.readouterr().err
    assert merged() == 0
    assert (tmp_path / "here" / "month" / "result.json").exists()
    assert main(["report", str(home / "output"), "--index"]) == 0


def test_commands_use_what_up_remembers(home, monkeypatch, tmp_path, capsys):
    places = {"data_root": tmp_path / "blocks", "output_root": tmp_path / "results"}
    as_up_remembers(home, monkeypatch, **places, time_zone="Atlantic/Canary")
    site = find_site()
    assert site.settings.time_zone == "Atlantic/Canary"
    assert site.settings.history_url == f"sqlite:///{tmp_path}/results/history.sqlite"
    (tmp_path / "blocks").mkdir()
    assert main(["nightly", "--night", NIGHT, "--direct"]) == 5
    assert (tmp_path / "results" / NIGHT / "night.json").exists()
    assert f"results   {tmp_path}/results (remembered in {home}" in capsys.readouterr().err
    assert not list((tmp_path / "here").iterdir())


def test_variables_win_over_what_is_remembered(home, monkeypatch, tmp_path):
    as_up_remembers(home, monkeypatch, output_root=tmp_path / "results")
    monkeypatch.setenv("ARRAYCAL_OUTPUT_ROOT", str(tmp_path / "mine"))
    site = find_site()
    assert site.settings.output_root == tmp_path / "mine"
    assert site.folder_lines("output_root") == site.history_lines() == []
    monkeypatch.setenv("ARRAYCAL_OUTPUT_ROOT", "")
    assert find_site().settings.output_root == home / "output"


@pytest.mark.parametrize("options", [["--direct"], []], ids=["direct", "flow"])
def test_options_mean_the_folder_of_the_shell(
    options, home, blocks, tmp_path, monkeypatch, request
):
    if not options:
        request.getfixturevalue("prefect_server")
    monkeypatch.setenv("ARRAYCAL_LOG_LEVEL", "ERROR")
    (tmp_path / "here" / "blocks").mkdir()
    for path in blocks:
        shutil.copy(path, tmp_path / "here" / "blocks")
    where = ["--blocks", "blocks/*.dl2.h5", "--output", "out"]
    # The blocks were written just now: they wait, but are found.
    assert main(["nightly", "--night", NIGHT, *where, *options]) == 5
    record = read_night(tmp_path / "here" / "out" / NIGHT)
    assert record is not None
    assert [path for path, _ in record.waiting] == [
        str(tmp_path / "here" / "blocks" / path.name) for path in blocks
    ]
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("more", [[], ["--blocks", "nowhere/{night:%Y}/*.dl2.h5"]])
def test_a_missing_folder_of_blocks_is_an_error_and_leaves_nothing(home, more, tmp_path, capsys):
    assert main(["nightly", "--night", NIGHT, "--direct", *more]) == 2
    message = capsys.readouterr().err
    assert "is not there" in message
    assert str(home / "data" if not more else tmp_path / "here" / "nowhere") in message
    assert list(home.iterdir()) == []
    assert not list((tmp_path / "here").iterdir())


def test_an_experiment_elsewhere_does_not_go_into_a_remembered_history(home, monkeypatch, tmp_path):
    as_up_remembers(home, monkeypatch, database_url=f"sqlite:///{tmp_path}/site.sqlite")
    site = find_site()
    assert site.with_places(None, ".").database_url == f"sqlite:///{tmp_path}/site.sqlite"
    elsewhere = site.with_places(str(tmp_path / "{night:%Y}" / "*.h5"), str(tmp_path / "mine"))
    assert (elsewhere.data_root, elsewhere.output_root) == (None, None)
    assert elsewhere.database_url is None
    assert site.with_places(str(home / "data" / "*.h5"), str(home / "output" / "x")) == (
        site.settings
    )


def test_a_run_that_is_to_be_recorded_goes_where_the_history_looks(home, monkeypatch, tmp_path):
    as_up_remembers(home, monkeypatch, output_root=tmp_path / "results")
    assert run_settings("automatic").database_url is None
    found = run_settings("yes")
    assert found.history_url == find_site().settings.history_url
    assert (found.data_root, found.output_root) == (None, None)


def test_what_is_remembered_for_somebody_else_does_not_stop_a_command(home, monkeypatch, capsys):
    def refused(file):
        return {}, f"{file}: this user may not read the settings"

    monkeypatch.setattr(site_module, "_remembered", refused)
    assert main(["history"]) == 4
    assert f"{Home(home).settings}: this user may not read" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["--blocks", "--output"])
@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_name_is_no_default(name, text, home, capsys):
    assert main(["nightly", "--night", NIGHT, "--direct", name, text]) == 2
    assert f"argument {name}: found {text!r}, expected a name" in capsys.readouterr().err
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("settle: 0", "unknown option 'settle'; did you mean 'settle_s'?"),
        (
            "calibrations: [{calibration: energy-inter, presets: none}]",
            "unknown option 'calibrations.0.presets'; did you mean 'preset'?",
        ),
    ],
)
@pytest.mark.parametrize("how", ["option", "variable"])
def test_an_unknown_option_of_nights_comes_with_the_nearest(
    how, text, message, monkeypatch, tmp_path, capsys
):
    file = tmp_path / "nightly.yaml"
    file.write_text(text)
    if how == "option":
        assert main(["nightly", "--direct", "--options", str(file)]) == 2
    else:
        monkeypatch.setenv("ARRAYCAL_NIGHTLY_OPTIONS", str(file))
        assert main(["history"]) == 2
    assert message in capsys.readouterr().err
