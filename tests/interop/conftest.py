"""The peer's tools on our material, run as its user would: through files and command lines.

Runs in the peer's environment, which has none of our packages. ``produce.py`` made the material in
ours, in the folder named by ARRAYCAL_INTEROP; what the peer writes goes there, too, into ``peer``.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

INTER_CALIBRATION = "/dl2/monitoring/subarray/inter_calibration"


@pytest.fixture(scope="session")
def exchange():
    folder = os.environ.get("ARRAYCAL_INTEROP")
    if not folder:
        pytest.skip("ARRAYCAL_INTEROP does not name a folder that produce.py has filled")
    return Path(folder)


@pytest.fixture(scope="session", params=["north", "mixed"])
def array(request, exchange):
    """Folder of an array."""
    return exchange / request.param


@pytest.fixture(scope="session")
def run_tool(exchange):
    """Run one of the peer's tools with its configuration; returns what it printed."""

    def run(tool, config, *arguments, cwd):
        program = Path(sys.executable).parent / f"calibpipe-{tool}"
        options = ("-c", exchange / "configs" / f"{config}.yaml", *arguments)
        command = [str(program), *map(str, options)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope="session")
def inter_calibrate(run_tool):
    """Let the peer fit all asymmetry files of a folder; returns its coefficients, in order."""
    ctapipe_io = pytest.importorskip("ctapipe.io")

    def fit(asymmetries, output, config="inter_calibration"):
        arguments = ("-i", asymmetries, "-o", output)
        run_tool("inter-calibration", config, *arguments, cwd=output.parent)
        table = ctapipe_io.read_table(output, INTER_CALIBRATION)
        table.sort(["tel_type", "tel_id"])
        return table

    return fit


@pytest.fixture(scope="session")
def peer_asymmetries(array, run_tool):
    """Asymmetry files the peer makes of the blocks of an array."""
    home = array / "peer"
    shutil.rmtree(home, ignore_errors=True)
    folder = home / "asymmetries"
    folder.mkdir(parents=True)
    for block in sorted((array / "blocks").glob("*.h5")):
        output = folder / f"{block.name.removesuffix('.dl2.h5')}.h5"
        arguments = ("-i", block, "-o", output)
        run_tool("energy-asymmetry-estimation", "asymmetry", *arguments, cwd=home)
    return folder


@pytest.fixture(scope="session")
def peer_coefficients(array, peer_asymmetries, inter_calibrate):
    """Coefficients the peer makes of its own asymmetries."""
    return inter_calibrate(peer_asymmetries, array / "peer" / "inter_calibration.h5")


@pytest.fixture(scope="session")
def peer_image_asymmetries(array, run_tool):
    """Asymmetries of image sizes the peer makes of the blocks of an array."""
    home = array / "peer_images"
    shutil.rmtree(home, ignore_errors=True)
    folder = home / "asymmetries"
    folder.mkdir(parents=True)
    for block in sorted((array / "blocks").glob("*.h5")):
        output = folder / f"{block.name.removesuffix('.dl2.h5')}.h5"
        arguments = ("-i", block, "-o", output)
        run_tool("image-asymmetry-estimation", "image_asymmetry", *arguments, cwd=home)
    return folder


@pytest.fixture(scope="session")
def peer_image_coefficients(array, peer_image_asymmetries, inter_calibrate):
    """Coefficients the peer makes of its own asymmetries of image sizes."""
    output = array / "peer_images" / "inter_calibration.h5"
    return inter_calibrate(peer_image_asymmetries, output, "image_inter_calibration")
