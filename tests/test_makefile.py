"""Targets of the Makefile that a site's own settings must not reach."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SITE = ("ARRAYCAL_DATA_ROOT", "ARRAYCAL_OUTPUT_ROOT", "ARRAYCAL_DATABASE_URL")


def test_the_demonstration_does_not_see_folders_and_history_of_the_site(tmp_path):
    make = shutil.which("make")
    if make is None:
        pytest.skip("there is no make")
    command = tmp_path / "arraycal"
    command.write_text('#!/bin/sh\necho "$1 ran"\nenv\n')
    command.chmod(0o755)
    done = subprocess.run(
        [make, "-o", ".venv/.ready", "demo", f"BIN={tmp_path}"],
        cwd=ROOT,
        env=os.environ | dict.fromkeys(SITE, "/srv/site"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "simulate ran" in done.stdout
    assert "run ran" in done.stdout
    assert not [line for line in done.stdout.splitlines() if line.startswith(SITE)]
