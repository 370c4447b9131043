"""What a result offers in Python."""

from dataclasses import replace

import pytest
from astropy import units as u
from matplotlib.figure import Figure
from numpy.testing import assert_array_equal
from polars.testing import assert_frame_equal

import arraycal as ac
from arraycal.calib.errors import NothingToDo, WrongUsage
from arraycal.calib.result.result import CLOCK_OFFSET
from arraycal.calib.result.verdict import with_remarks, with_untested


def test_figures_are_drawn_by_name_and_the_names_are_listed(result):
    assert isinstance(result.figure("coefficients"), Figure)
    assert "array map" in result.figures
    with pytest.raises(WrongUsage, match=r"no figure 'pull'.*there are coefficients, array map"):
        result.figure("pull")
    with pytest.raises(NothingToDo, match="energy-inter has nothing to show as 'clock history'"):
        result.figure("clock history")


def test_a_result_is_written_once_and_read_back(result, tmp_path):
    written = result.write(tmp_path / "out")
    assert written.report.is_file()
    with pytest.raises(WrongUsage, match=r"already holds monitoring\.h5"):
        result.write(tmp_path / "out")
    again = ac.load(tmp_path / "out")
    assert_frame_equal(again.telescopes, result.telescopes)
    assert_array_equal(again.covariance, result.covariance)
    assert again.tel_ids == result.tel_ids
    assert repr(again) == repr(result)
    result.write(str(tmp_path / "out"), overwrite=True)
    with pytest.raises(WrongUsage, match=r"was read from .*out: copy that folder"):
        again.write(tmp_path / "copy")


def test_astropy_gets_descriptions_and_what_was_found(result):
    table = result.to_astropy()
    assert table.colnames == result.telescopes.columns
    assert_array_equal(table["value"], result.telescopes["value"].to_numpy())
    assert table["value"].info.description == (
        "Throughput coefficient: corrected = measured / value"
    )
    assert table.meta["calibration"] == "energy-inter"
    assert table.meta["verdict"] == result.verdict.status
    assert table.meta["obs_ids"] == [1001]


def test_astropy_gets_the_unit_of_clocks(result):
    details = replace(result.details, quantity=CLOCK_OFFSET)
    table = ac.Result(details).to_astropy()
    assert table["value"].unit == table["error"].unit == u.ns
    assert "stamp - value" in table["value"].info.description


def test_a_notebook_sees_verdict_and_coefficients_and_nothing_runs(result):
    reason = "odd <script>alert(1)</script>"
    verdict = with_untested(with_remarks(result.verdict, [reason]), ["a & b"])
    shown = ac.Result(replace(result.details, verdict=verdict))._repr_html_()
    assert "<script>" not in shown
    assert "odd &lt;script&gt;" in shown
    assert "not tested: a &amp; b" in shown
    assert shown.count("<tr>") == 1 + len(result.telescopes)
    assert len(shown) < 10_000


def test_a_terminal_sees_the_verdict_first(result):
    first, head, *rows = repr(result).splitlines()
    assert first == f"energy-inter, throughput coefficient: {result.verdict}"
    assert head.split()[:4] == ["tel_type", "tel_id", "value", "error"]
    assert len(rows) == len(result.telescopes)
