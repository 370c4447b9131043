"""Block files through the face of the package."""

import subprocess
import sys
from pathlib import Path

import pytest
from numpy.testing import assert_array_equal

import arraycal as ac
from arraycal.calib.blocks.rows import rows_of_block
from arraycal.calib.calibrate import calibrate
from arraycal.config.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]


def test_importing_arraycal_imports_nothing_that_takes_time():
    script = "import sys, arraycal; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    heavy = {"polars", "numpy", "pydantic", "prefect", "matplotlib", "scipy", "arraycal.calib"}
    assert heavy.isdisjoint(done.stdout.split())


def test_every_public_name_is_there_and_no_other():
    for name in ac.__all__:
        assert getattr(ac, name).__name__ == name
    assert set(ac.__all__) == set(dir(ac))
    with pytest.raises(AttributeError, match="has no attribute 'calibrat'"):
        ac.calibrat  # noqa: B018


def test_the_face_gives_the_numbers_of_the_stages(block, lenient, result, tmp_path):
    observable, configuration = lenient.observable, lenient.configuration
    rows = rows_of_block(block, observable, configuration, tmp_path)
    expected = calibrate([rows], observable, configuration)
    assert result.telescopes.equals(expected.telescopes)
    assert_array_equal(result.covariance, expected.covariance)
    assert result.verdict == expected.verdict


def test_it_works_beside_files_that_bear_the_names_of_our_folders(block, tmp_path):
    for name in ("config", "tasks", "flows", "calib", "face"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    script = f"""
import arraycal as ac
config = ac.preset("energy-inter", RelativeThroughputFitter={{"min_events": 5}})
blocks = ac.read({str(block)!r}, config, cache="rows")
result = ac.calibrate(blocks)
result.write("out")
print(ac.load("out").telescopes["value"].is_finite().sum())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 4  # the LSTs see most showers


def test_a_file_that_cannot_be_used_is_shown_with_its_reason(block, lenient, tmp_path):
    damaged = tmp_path / "<b>damaged.h5"
    damaged.write_bytes(b"no HDF5")
    blocks = ac.read([block, damaged], lenient)
    assert "1 of 2 can be used" in repr(blocks)
    assert blocks.table["status"].to_list() == ["ok", "failed"]
    assert blocks.table["reason"][1] in repr(blocks)
    assert "&lt;b&gt;damaged.h5" in blocks._repr_html_()
    assert "<b>" not in blocks._repr_html_()
    result = ac.calibrate(blocks)
    assert result.verdict.status == "degraded"


def test_blocks_for_other_options_are_read_again_from_the_cache(blocks):
    other = ac.preset("energy-inter-peer")
    again = ac.calibrate(blocks, other)
    assert again.details.configuration == other.yaml
    assert again.rejected.filter(again.rejected["rule"] == "energy threshold")["rows"].sum() > 0


def test_paths_and_the_name_of_a_preset_will_do(block):
    assert ac.calibrate(str(block), "energy-inter").calibration == "energy-inter"


def test_options_are_taken_by_section_and_by_name(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("RelativeThroughputFitter:\n  min_events: 7\n  min_common_events: 3\n")
    chosen = ac.preset(
        "energy-inter",
        {"CalculateAsymmetry.event_filters.min_energy": "50 GeV"},
        files=[file],
        RelativeThroughputFitter={"min_events": 9},
    ).configuration
    least = chosen.CalculateAsymmetry.event_filters.min_energy
    assert least is not None
    assert least.value_for(1, "") == 0.05  # TeV
    fitter = chosen.RelativeThroughputFitter
    assert (fitter.min_events, fitter.min_common_events) == (9, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "energy-intr"}, "did you mean 'energy-inter'"),
        ({"name": "energy-inter", "options": {"min_events": 1}}, "expected Section.key"),
        ({"name": "energy-inter", "QualityQuery": 5}, "expected a mapping"),
        ({"name": "energy-inter", "Nothing": {"key": 5}}, "unknown section 'Nothing'"),
        ({"name": "energy-inter", "options": {"A.b": object()}}, "object is no value"),
    ],
)
def test_wrong_options_are_refused_with_what_would_be_right(options, message):
    with pytest.raises(ConfigurationError, match=message):
        ac.preset(options.pop("name"), options.pop("options", None), **options)


def test_a_bare_configuration_does_not_say_what_it_is_for(block, lenient):
    with pytest.raises(TypeError, match=r"arraycal\.Calibration\('energy-inter', configuration\)"):
        ac.read(block, lenient.configuration)
    assert ac.Calibration("energy-inter", lenient.configuration) == lenient
    with pytest.raises(ConfigurationError, match="there is no calibration 'energy'"):
        ac.Calibration("energy", lenient.configuration)
