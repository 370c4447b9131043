"""The wheel, installed in an environment of its own, far from the checkout. Run by `make wheel`.

The dependencies are those of the environment that runs this test; only the package is new.
"""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from datetime import date
from pathlib import Path

import pytest

from arraycal.calib.history.database import read_history
from arraycal.calib.history.reading import Selection, runs

CHECKOUT = Path(__file__).parents[2]
PACKAGES = ("flows", "tasks", "calib", "config")
LENIENT = (
    "RelativeThroughputFitter.min_events=5",
    "RelativeThroughputFitter.min_common_events=2",
    "ShowerSelection.threshold=null",
)
PURELIB = "import sysconfig; print(sysconfig.get_path('purelib'))"
#: What is loaded by name at run time: nobody would miss it at import.
LOADED = """
from pathlib import Path
from prefect.flows import load_flow_from_entrypoint
import arraycal.calib, arraycal.config, arraycal.flows, arraycal.tasks
from arraycal.flows.service.registering import read_deployments
for item in read_deployments():
    flow = load_flow_from_entrypoint(item["entrypoint"], use_placeholder_flow=False)
    print(item["name"], flow.name, Path(flow.fn.__code__.co_filename).parents[2])
"""


@pytest.fixture(scope="module")
def wheel():
    (found,) = (CHECKOUT / "dist").glob("arraycal-*.whl")
    return found


class Installed:
    """An environment with the wheel, and a working folder elsewhere."""

    def __init__(self, folder, wheel):
        self.folder, self.bin = folder / "work", folder / "venv" / "bin"
        self.folder.mkdir()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8",
        }
        done = [sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")]
        subprocess.run(done, check=True, timeout=120)
        python = str(self.bin / "python")
        pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps"]
        subprocess.run([*pip, "--no-index", str(wheel)], check=True, timeout=120)
        self.packages = Path(self.run("python", "-c", PURELIB).stdout.strip())
        # Not by site's addsitedir: that would follow the editable install back to the checkout.
        (self.packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(self, program, *words, status=0):
        done = subprocess.run(
            [self.bin / program, *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done


@pytest.fixture(scope="module")
def installed(tmp_path_factory, wheel):
    return Installed(tmp_path_factory.mktemp("wheel"), wheel)


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel):
    listed = subprocess.run(
        ["git", "-C", str(CHECKOUT), "ls-files", "arraycal", *PACKAGES],
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("the checkout is no git repository")
    own = {name for name in listed.stdout.split() if not (CHECKOUT / name).is_symlink()}
    tracked = {name if name.startswith("arraycal/") else f"arraycal/{name}" for name in own}
    assert {"arraycal/__init__.py", "arraycal/py.typed"} <= tracked
    data = ("config/presets/energy-inter.yaml", "flows/service/prefect.yaml")
    assert {f"arraycal/{name}" for name in data} <= tracked
    assert "arraycal/calib/history/migrations/env.py" in tracked
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == tracked


def test_the_code_that_runs_is_that_of_the_wheel(installed):
    shown = installed.run("python", "-c", "import arraycal; print(arraycal.__file__)").stdout
    assert Path(shown.strip()).is_relative_to(installed.packages)
    assert installed.run("arraycal", "--version").stdout.startswith("arraycal ")


@pytest.mark.parametrize("kind", ["folder", "package"])
def test_others_may_have_modules_of_the_names_of_our_folders(installed, kind):
    place = installed.folder if kind == "folder" else installed.packages
    others = [place / f"{name}.py" for name in PACKAGES]
    for other in others:
        other.write_text('whose = "the user"\n')
    ours = "from arraycal.flows.calibrate import calibrate; import config, tasks"
    shown = installed.run("python", "-c", f"{ours}; print(config.whose, tasks.whose)").stdout
    assert shown.split() == ["the", "user"] * 2
    assert "ShowerSelection:" in installed.run("arraycal", "presets", "energy-inter").stdout
    for other in others:
        other.unlink()


def test_presets_are_there(installed):
    assert "energy-inter-peer" in installed.run("arraycal", "presets").stdout
    assert "ShowerSelection:" in installed.run("arraycal", "presets", "energy-inter").stdout


def test_the_deployments_find_their_flows(installed):
    lines = [line.split() for line in installed.run("python", "-c", LOADED).stdout.splitlines()]
    assert {"nightly", "backfill", "energy-inter"} <= {name for name, *_ in lines}
    assert {Path(folder) for *_, folder in lines} == {installed.packages}


def test_a_night_is_calibrated_reported_and_in_the_history(installed):
    blocks, out = installed.folder / "blocks", installed.folder / "out"
    words = ["--array", "north", "--blocks", "1", "--showers", "1500", "--night", "2026-03-01"]
    installed.run("arraycal", "simulate", str(blocks), *words)
    options = {"calibrations": [{"calibration": "energy-inter", "overrides": list(LENIENT)}]}
    (installed.folder / "options.yaml").write_text(json.dumps(options | {"settle_s": 0}))
    installed.environment |= {
        "ARRAYCAL_DATA_ROOT": str(blocks),
        "ARRAYCAL_OUTPUT_ROOT": str(out),
        "ARRAYCAL_NIGHTLY_OPTIONS": "options.yaml",
    }
    installed.run("arraycal", "nightly", "--direct", "--night", "2026-03-01")
    assert (out / "2026-03-01" / "energy-inter" / "report.html").stat().st_size > 10_000
    with read_history(f"sqlite:///{out}/history.sqlite") as history:
        assert runs(history, Selection())["night"].to_list() == [date(2026, 3, 1)]
