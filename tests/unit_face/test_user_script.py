"""A user's script under the strictest type checker: mypy checks this file with all others."""

from pathlib import Path
from typing import assert_type

import polars as pl
from matplotlib.figure import Figure

import arraycal as ac


def five_lines(block: Path, cache: Path) -> ac.Result:
    """Calibrate a block."""
    config = assert_type(ac.preset("energy-inter"), ac.Calibration)
    blocks = assert_type(ac.read([block], config, cache=cache), ac.Blocks)
    result = assert_type(ac.calibrate(blocks), ac.Result)
    assert_type(result.telescopes, pl.DataFrame)
    assert_type(result.figure("coefficients"), Figure)
    return result


def test_a_typed_script_runs(block: Path, tmp_path: Path) -> None:
    assert five_lines(block, tmp_path).calibration == "energy-inter"
