"""Every column of every published table says what it is, and in which unit."""

import polars as pl
import pytest

from arraycal.calib.apply.tables import COUNTS, table_columns
from arraycal.calib.checks import (
    comparison,
    curve_table,
    deviation_table,
    judged_parts,
    pair_histograms,
    parts,
    residual_bins,
    saturation_table,
    scan_tables,
)
from arraycal.calib.column_descriptions import CLOCKS, COLUMNS, HISTORY, TABLES, describe
from arraycal.calib.history import reading
from arraycal.calib.result import result
from arraycal.calib.schema import BLOCKS, REJECTED
from arraycal.calib.trends import trends
from arraycal.calib.types import bins, joint
from arraycal.calib.windows import nights

#: Schemas by the name of the table they are published as.
PUBLISHED = {
    "telescopes": result.TELESCOPES,
    "pairs": result.PAIR_RESULTS,
    "residuals": result.RESIDUALS,
    "blocks": BLOCKS,
    "rejected": REJECTED,
    "threshold_scan": scan_tables.SCAN,
    "threshold_scan_types": scan_tables.SCAN_TYPES,
    "pair_histograms": pair_histograms.PAIR_HISTOGRAMS,
    "constancy": judged_parts.CONSTANCY,
    "constancy_parts": parts.CONSTANCY_PARTS,
    "constancy_deviations": parts.CONSTANCY_DEVIATIONS,
    "residual_tests": deviation_table.RESIDUAL_TESTS,
    "distance_curve": curve_table.DISTANCE_CURVE,
    "block_notes": curve_table.BLOCK_NOTES,
    "residual_bins": residual_bins.RESIDUAL_BINS,
    "saturation": saturation_table.SATURATION,
    "comparison": comparison.COMPARISON,
    "types": joint.TYPES,
    "scaling_factors": joint.FACTORS,
    "energy_slopes": joint.ENERGY_SLOPES,
    "contrast_bins": bins.CONTRAST_BINS,
    "contrast_trends": bins.TRENDS,
    "window": nights.WINDOW,
    "stability": nights.STABILITY,
    "apply": COUNTS,
}
EXPORTED = (reading.COEFFICIENTS, reading.RUNS, trends.TELESCOPES, trends.NIGHTS)


@pytest.mark.parametrize("table", PUBLISHED)
def test_every_column_of_a_table_is_described(table):
    assert [name for name in PUBLISHED[table] if not describe(name, table).description] == []


@pytest.mark.parametrize("clocks", [False, True])
def test_every_column_that_the_history_exports_is_described(clocks):
    names = {name for schema in EXPORTED for name in schema} - {"run_id", "fitted"}
    assert {n for n in names if not describe(n, HISTORY, clocks=clocks).description} == set()


def test_a_quantity_that_its_name_gives_a_unit_has_it():
    assert describe("drift_ns_per_h", "intervals", clocks=True).unit == "ns.h**-1"
    assert describe("low_m", "residual_distance", clocks=True).unit == "m"
    assert describe("alt_deg", "pointings", clocks=True).unit == "deg"
    assert describe("obs_ids").unit == ""


def test_the_coefficients_of_clocks_are_offsets_in_nanoseconds():
    for name in ("value", "offset", "offset_ns"):
        text, unit = describe(name, "telescopes", clocks=True)
        assert text.startswith("Clock offset")
        assert unit == "ns"
    for name in ("error", "systematic", "residual_rms"):
        assert describe(name, "telescopes", clocks=True).unit == "ns"
    text, unit = describe("value", "telescopes")
    assert (text.startswith("Throughput coefficient"), unit) == (True, "")


def test_the_deviation_is_from_the_median():
    assert "minus the median" in describe("deviation", "telescopes").description


def test_corrections_of_clocks_and_of_values_have_their_own_units():
    times = table_columns(pl.DataFrame({"offset": [1.0], "error": [0.1], "valid_from": [0.0]}))
    assert {name: column.unit for name, column in times.items()} == {
        "offset": "ns",
        "error": "ns",
        "valid_from": "s",
    }
    values = table_columns(pl.DataFrame({"value": [1.0], "error": [0.1]}))
    assert [column.unit for column in values.values()] == ["", ""]
    assert all(column.description for column in (*times.values(), *values.values()))


def test_no_text_is_longer_than_a_line_of_a_header():
    texts = [text for own in (COLUMNS, CLOCKS, *TABLES.values()) for text in own.values()]
    assert max(len(text.description) for text in texts) <= 80
