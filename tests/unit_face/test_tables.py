"""Tables of the user's own: telescope rows and pair rows, of whichever library."""

import dataclasses

import numpy as np
import polars as pl
import pytest
from astropy import units as u
from astropy.table import QTable
from polars.testing import assert_frame_equal

import arraycal as ac
from arraycal.calib import dl2
from arraycal.calib.errors import CannotCompute, NothingToDo, WrongUsage
from arraycal.calib.pairs.exchange import write_asymmetries
from arraycal.calib.pairs.rules import forming_pairs
from arraycal.calib.schema import EVENT_KEYS, NOTES

KEYS = ["obs_id", "event_id", "tel_id_1", "tel_id_2"]
ENERGY = "RandomForestRegressor_tel_energy"
VALID = "RandomForestRegressor_tel_is_valid"
COLUMNS = {
    ENERGY: "value",
    f"{ENERGY}_uncert": "uncertainty",
    "HillasReconstructor_tel_impact_distance": "impact_m",
}


@pytest.fixture(scope="module")
def events(block):
    """Rows of the telescopes of the block as a user might have them."""
    opened = dl2.open_block(block)
    found = dl2.scan_events(opened, ENERGY).select(*EVENT_KEYS, *COLUMNS, VALID)
    return found.collect().rename(COLUMNS)


@pytest.fixture(scope="module")
def paired(events, array, lenient):
    return ac.pairs(events, array, lenient)


class FrameOfAnotherLibrary:
    """What pandas shows of a frame: names of columns, and arrays by name."""

    def __init__(self, columns):
        self._columns = columns
        self.columns = list(columns)

    def __getitem__(self, name):
        return np.asarray(self._columns[name])


def test_rows_of_telescopes_become_the_pairs_of_their_block(paired, block, blocks, tmp_path):
    pairs = dataclasses.replace(
        blocks.calibration, configuration=forming_pairs(blocks.calibration.configuration)
    )
    rows = ac.read(block, pairs, cache=tmp_path).rows.collect()
    rows = rows.drop("time_s")  # a table has no trigger times
    assert_frame_equal(paired.frame.sort(KEYS), rows.sort(KEYS))
    # The rows of the telescopes, which suffice here, count the same.
    assert len(rows) == blocks.table["n_pairs"].sum() > len(blocks.rows.collect())
    assert paired.rejected.equals(blocks.outcomes[0].rejected.filter(pl.col("rows") > 0))


def test_a_table_and_its_file_give_the_same_coefficients(paired, result):
    of_table = ac.calibrate(paired)
    # Without times the halves of a block are no split of the systematic error.
    ours, its = (one.telescopes.drop("systematic") for one in (of_table, result))
    assert_frame_equal(ours, its, rel_tol=1e-12, abs_tol=1e-12)
    assert of_table.blocks["path"].to_list() == ["table"]


def of_astropy(events):
    table = QTable(events.to_dict(as_series=False))
    table["value"] = (table["value"] * u.TeV).to(u.GeV)
    table["uncertainty"] = (table["uncertainty"] * u.TeV).to(u.GeV)
    table["impact_m"] *= u.m
    return table


@pytest.mark.parametrize(
    "convert",
    [
        pl.DataFrame.lazy,
        lambda events: events.to_dict(as_series=False),
        lambda events: FrameOfAnotherLibrary(events.to_dict(as_series=False)),
        lambda events: events.to_numpy(structured=True),
        of_astropy,
        lambda events: events.with_columns(pl.col("event_id", "tel_id").cast(pl.Float64)),
    ],
    ids=["polars lazy", "mapping", "pandas-like", "numpy records", "astropy in GeV", "float ids"],
)
def test_tables_of_other_libraries_give_the_same_pairs(convert, events, paired, array, lenient):
    found = ac.pairs(convert(events), array, lenient)
    assert_frame_equal(found.frame, paired.frame, rel_tol=1e-12)


def test_pandas_gives_the_same_pairs(events, paired, array, lenient):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(events.to_dict(as_series=False))
    assert_frame_equal(ac.pairs(frame, array, lenient).frame, paired.frame)


def test_pairs_that_were_formed_elsewhere_are_taken_in_either_order(paired, array, lenient):
    rows = paired.frame
    sides = {f"{name}_1": f"{name}_2" for name in ("tel_id", "value", "uncertainty")}
    sides |= {"impact_1_m": "impact_2_m"}
    turned = rows.rename(sides | {two: one for one, two in sides.items()})
    given = ["obs_id", "event_id", *sides, *sides.values()]
    for table in (rows.select(given), turned.select(given)):
        found = ac.pairs(table, array, lenient)
        assert_frame_equal(found.frame, rows.sort(KEYS))


def test_pairs_of_a_file_of_asymmetries_give_its_coefficients(paired, lenient, result, tmp_path):
    path = tmp_path / "asymmetry.h5"
    write_asymmetries(paired.frame, lenient.observable, ENERGY, path, unit="TeV")
    found = ac.calibrate(ac.pairs(path, None, lenient))
    # Without distances from the axis the resolutions, and so the weights, are others: the numbers
    # agree within a part of their errors, not exactly.
    both = found.telescopes.join(result.telescopes, on="tel_id").filter(
        pl.col("value").is_finite() & pl.col("value_right").is_finite()
    )
    assert len(both) > 3
    pull = (both["value"] - both["value_right"]) / both["error_right"]
    assert np.abs(pull.to_numpy()).max() < 2


def test_bare_names_and_values_are_enough(lenient):
    rng = np.random.default_rng(5)
    light = rng.pareto(1.7, (3000, 1)) + 1
    # Telescopes 1 to 4, sigma of ln(value) 0.1, 3000 showers: an error of 0.1 / sqrt(3000) = 0.002
    throughput = np.asarray([1.0, 1.2, 0.9, 1.1])
    table = {
        "obs_id": np.ones(12000, int),
        "event_id": np.repeat(np.arange(3000), 4),
        "tel_id": np.tile([1, 2, 3, 4], 3000),
        "light": (light * throughput * rng.lognormal(0, 0.1, (3000, 4))).ravel(),
    }
    square = ac.Array([1, 2, 3, 4], "MST", [(0, 0), (100, 0), (0, 100), (100, 100)])
    found = ac.calibrate(ac.pairs(table, square, lenient, value="light")).telescopes
    expected = throughput / np.exp(np.log(throughput).mean())
    assert np.abs(found["value"].to_numpy() / expected - 1).max() < 5 * 0.002


def test_cuts_that_a_table_has_no_column_for_are_noted_in_the_result(events, array):
    peer = ac.preset("energy-inter-peer")
    made = ac.pairs(events, array, peer)
    # It has energies and distances under the names that it was told, and no gammaness.
    assert {"energy threshold", "max_distance_asymmetry"} <= set(made.rejected["rule"])
    assert [topic for topic, _ in made.notes] == ["gammaness"]
    assert "gammaness: not applied: the table has no column RandomForestClassifier" in repr(made)
    notes = ac.calibrate(made).tables[NOTES]
    assert notes["topic"].to_list() == ["gammaness"]


def test_image_sizes_say_that_saturation_was_not_looked_for(events, array):
    sizes = events.with_columns(value=1000 * pl.col("value"))
    made = ac.pairs(sizes, array, ac.preset("image-inter"))
    assert {"max_radius_fraction", "min_pixels", "saturation"} <= {topic for topic, _ in made.notes}


def test_rows_that_cannot_be_used_are_counted(events, array, lenient):
    gone = pl.when(pl.int_range(pl.len()) < 5).then(None).otherwise("value")
    broken = events.with_columns(value=gone)
    broken = pl.concat([broken, broken.head(7)])
    lost = dict(ac.pairs(broken, array, lenient).rejected.select("rule", "rows").iter_rows())
    assert lost["repeated row"] == 7
    already = events["value"].is_nan().sum() - events["value"].head(5).is_nan().sum()
    assert lost["value is not a positive finite number"] == already + 5


def test_rows_of_a_table_that_contradict_each_other_are_left_out(events, array, lenient):
    again = events.filter(pl.col("value").is_finite()).head(3)
    made = ac.pairs(
        pl.concat([events, again.with_columns(value=2 * pl.col("value"))]), array, lenient
    )
    lost = dict(made.rejected.select("rule", "rows").iter_rows())
    assert lost["rows of the same key that contradict each other"] == 6
    (reason,) = [r for r in ac.calibrate(made).verdict.reasons if "unequal rows" in r]
    assert "3 times" in reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda events: events.drop("value"), "no column value; it has obs_id, event_id"),
        (lambda events: events.with_columns(tel_id=pl.lit(99)), r"\[99\] are in the table and not"),
        (lambda events: events.with_columns(value=pl.lit("x")), "value cannot be read as Float64"),
        (
            lambda events: events.with_columns(event_id=pl.col("event_id") + 0.5),
            "event_id cannot be read as Int64: it holds numbers that are no whole ones",
        ),
        (
            lambda events: events.with_columns(obs_id=pl.lit(None, pl.Int64)),
            "obs_id has .* rows without a value",
        ),
        (lambda _: 5, "expected a table .* found int"),
        (lambda events: of_astropy(events)["obs_id", "event_id"], "no column tel_id, value"),
    ],
)
def test_a_wrong_table_is_refused_with_what_is_wrong(change, message, events, array, lenient):
    with pytest.raises(WrongUsage, match=message):
        ac.pairs(change(events), array, lenient)


def test_a_unit_that_does_not_fit_is_refused(events, array, lenient):
    table = of_astropy(events)
    table["value"] = table["value"].value * u.m
    with pytest.raises(WrongUsage, match=r"value cannot be read as Float64: .*not convertible"):
        ac.pairs(table, array, lenient)


def test_a_table_without_any_pair_is_nothing_to_do(events, array, lenient):
    with pytest.raises(NothingToDo, match="no other selected telescope saw the shower: 1"):
        ac.pairs(events.filter(pl.col("value") > 0).head(1), array, lenient)


def test_what_only_files_can_give_is_refused(events, array):
    with pytest.raises(WrongUsage, match="time stamps of block files"):
        ac.calibrate(events, "timing-cross", array)
    three = ac.preset("energy-cross", CalculateCrossCalibration={"method": "three_step"})
    with pytest.raises(WrongUsage, match="three_step reads blocks twice"):
        ac.pairs(events, array, three)
    with pytest.raises(WrongUsage, match="do not say of which type"):
        ac.calibrate(events, "energy-inter")
    with pytest.raises(WrongUsage, match="no calibration is given"):
        ac.calibrate(events, array=array)


def test_contradicting_pairs_are_refused(paired, array, lenient):
    rows = paired.frame.select(*KEYS, "value_1", "value_2")
    with pytest.raises(CannotCompute, match="the table: some showers have the same telescope pair"):
        ac.pairs(pl.concat([rows, rows.head(1)]), array, lenient)
    with pytest.raises(WrongUsage, match="of which type the telescopes are"):
        ac.pairs(rows, None, lenient)


def test_pairs_made_with_another_selection_are_not_reused(paired):
    with pytest.raises(WrongUsage, match="select other rows"):
        ac.calibrate(paired, "energy-inter-peer")
    fitted = ac.preset("energy-inter", RelativeThroughputFitter={"min_events": 10**6})
    with pytest.raises(WrongUsage, match="select other rows"):
        ac.calibrate(paired, "energy-cross")
    assert ac.calibrate(paired, fitted).verdict.status == "unusable"
