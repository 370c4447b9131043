"""Every number of a table stands under its header."""

import re
from types import SimpleNamespace

import polars as pl
import pytest

from arraycal.calib.report.document import _coefficient_table, _pair_table
from arraycal.calib.report.timing_page import offset_pairs, offset_table
from arraycal.calib.result.result import PAIR_RESULTS, TELESCOPES, THROUGHPUT

#: All different, so that no two columns can be taken for each other.
TELESCOPE = {
    "tel_type": "MST", "tel_id": 7, "value": 1.2345, "error": 0.0123, "systematic": 0.0456,
    "n_events": 2345, "n_candidates": 6789, "n_partners": 13, "component": 0, "deviation": 0.21,
    "z": 3.4, "flag": "outlier", "reason": "why", "residual_rms": 1.777, "drift": 5.55,
    "drift_error": 0.66,
}  # fmt: skip
PAIR = {
    "tel_type": "LST", "tel_id_1": 3, "tel_id_2": 8, "n_events": 4321, "mean_asymmetry": 0.1111,
    "mean_asymmetry_error": 0.0222, "std_asymmetry": 0.9, "mean_log_ratio": 0.3333,
    "mean_log_ratio_error": 0.0444, "fitted_log_ratio": 0.5555, "pull": 2.5, "flag": "far",
    "variance": 0.77,
    "mean_residual_ns": 1.111, "mean_residual_error_ns": 0.222, "std_residual_ns": 3.333,
}  # fmt: skip


def result(telescopes=TELESCOPE, pairs=PAIR):
    tables = {"telescopes": pl.DataFrame([telescopes]), "pairs": pl.DataFrame([pairs])}
    return SimpleNamespace(quantity=THROUGHPUT, **tables)


def cells(built):
    """Cells of the only row by header; of headers that repeat, one after the other."""
    heads, values = (
        [re.sub("<[^>]+>", "", cell) for cell in re.findall(f"<{tag}[ >].*?</{tag}>", built)]
        for tag in ("th", "td")
    )
    assert len(heads) == len(values)
    found = {}
    for head, value in zip(heads, values, strict=True):
        found[f"{head} 2" if head in found else head] = value
    return found


def test_coefficients_stand_under_their_headers():
    found = cells(_coefficient_table(result()))
    # A deviation of ln c of 0.21 is exp(0.21) - 1 = 23.4 %.
    assert found == {
        "type": "MST", "telescope": "7", "coefficient": "1.2345", "statistical": "0.0123",
        "systematic": "0.0456", "deviation/%": "+23.4", "z": "+3.4", "showers": "2,345",
        "candidates": "6,789", "partners": "13", "flag": "outlier", "reason": "why",
    }  # fmt: skip


def test_offsets_of_clocks_stand_under_their_headers():
    assert cells(offset_table(result())) == {
        "type": "MST", "telescope": "7", "offset/ns": "1.234", "statistical": "0.012",
        "systematic": "0.046", "residual rms/ns": "1.777", "drift/(ns/h)": "+5.55 \u00b1 0.66",
        "showers": "2,345", "candidates": "6,789", "partners": "13", "flag": "outlier",
        "reason": "why",
    }  # fmt: skip


def test_pairs_stand_under_their_headers():
    found = cells(_pair_table(result()))
    assert {name: value for name, value in found.items() if name != "telescopes"} == {
        "type": "LST", "showers": "4,321", "mean asymmetry": "+0.1111", "error": "0.0222",
        "mean log ratio": "+0.3333", "error 2": "0.0444", "fitted": "+0.5555", "pull": "+2.50",
        "flag": "far",
    }  # fmt: skip
    assert re.findall(r"\d", found["telescopes"]) == ["3", "8"]


def test_pairs_of_clocks_stand_under_their_headers():
    found = cells(offset_pairs(result()))
    assert {name: value for name, value in found.items() if name != "telescopes"} == {
        "type": "LST", "showers": "4,321", "mean residual/ns": "1.111", "error": "0.222",
        "scatter": "3.333", "pull": "+2.50",
    }  # fmt: skip


@pytest.mark.parametrize(("schema", "row"), [(TELESCOPES, TELESCOPE), (PAIR_RESULTS, PAIR)])
def test_the_rows_of_this_file_have_every_column_there_is(schema, row):
    assert set(schema.names()) <= set(row)
