"""From configuration and block to rules: columns, thresholds, and what decides the cache key."""

import math

import polars as pl
import pytest

from arraycal.calib import dl2
from arraycal.calib.criteria import CriterionError
from arraycal.calib.errors import CannotCompute
from arraycal.calib.hdf5.writing import Column
from arraycal.calib.observables import ENERGY_INTER
from arraycal.calib.pairs.rules import pair_configuration, pair_rules, pairs_to_form
from arraycal.calib.subarray import value_by_telescope
from arraycal.config.errors import ConfigurationError
from arraycal.config.models import Configuration
from arraycal.config.telescope import TelescopeEntry, TelescopeParameter

ENERGY = "RandomForestRegressor_tel_energy"
IMPACT = "HillasReconstructor_tel_impact_distance"
GAMMANESS = "RandomForestClassifier_tel_prediction"
TEL_ENERGY = "/dl2/event/telescope/energy/RandomForestRegressor"
TEL_IMPACT = "/dl2/event/telescope/impact/HillasReconstructor"
TEL_PARTICLE = "/dl2/event/telescope/particle_type/RandomForestClassifier"


def configure(filters=None, criteria=(), **sections):
    asymmetry = sections.pop("CalculateAsymmetry", {})
    return Configuration.model_validate(
        {
            "CalculateAsymmetry": {"event_filters": filters or {}, **asymmetry},
            "QualityQuery": {"quality_criteria": list(criteria)},
            **sections,
        }
    )


@pytest.fixture
def block(make_block):
    return dl2.open_block(make_block().write())


def rules_of(block, *args, **sections):
    return pair_rules(ENERGY_INTER, configure(*args, **sections), block)


def passing(rules, rows):
    """Which rows pass all criteria."""
    frame = rows.select(
        "tel_id", pl.col("energy").alias(ENERGY), pl.col("gammaness").alias(GAMMANESS)
    )
    return frame.select(pl.all_horizontal(rule.passes for rule in rules.criteria)).to_series()


def test_names_of_reconstructors_become_columns(block):
    rules = rules_of(block)
    assert rules.value == ENERGY
    assert rules.uncertainty == f"{ENERGY}_uncert"
    assert rules.impact == IMPACT
    assert rules.criteria == ()
    assert rules.tests == ()
    assert rules.columns == (ENERGY, f"{ENERGY}_uncert", IMPACT, "trigger_time")


def test_columns_of_criteria_are_read_once_each_and_after_the_value(block):
    rules = rules_of(
        block,
        {"min_gammaness": 0.5},
        [("bright", f"{ENERGY} > 50 * u.GeV"), ("valid", "RandomForestRegressor_tel_is_valid")],
    )
    assert rules.columns == (
        ENERGY,
        f"{ENERGY}_uncert",
        IMPACT,
        "trigger_time",
        "RandomForestRegressor_tel_is_valid",
        GAMMANESS,
    )
    assert [rule.name for rule in rules.criteria] == ["bright", "valid", "min_gammaness"]


@pytest.mark.parametrize(
    ("name", "column"), [("min_gammaness", "gammaness"), ("min_energy", "energy")]
)
def test_a_row_at_the_threshold_passes(block, name, column):
    rules = rules_of(block, {name: 0.5})
    above = math.nextafter(0.5, 1)
    below = math.nextafter(0.5, 0)
    values = [0.5, above, below, math.nan, math.inf, -math.inf, None]
    rows = pl.DataFrame({"tel_id": [4] * 7, "energy": 1.0, "gammaness": 1.0}).with_columns(
        pl.Series(column, values, pl.Float64)
    )
    assert passing(rules, rows).to_list() == [True, True, False, False, False, False, False]


def test_thresholds_differ_between_types(block):
    rules = rules_of(block, {"min_energy": [["type", "*", 1.0], ["type", "LST*", 2.0]]})
    rows = pl.DataFrame(
        {
            "tel_id": [4, 4, 7, 7, 561, 561],
            "energy": [2.0, 1.9, 2.0, 1.9, 1.0, 0.9],
            "gammaness": 1.0,
        },
        schema_overrides={"tel_id": pl.UInt16},
    )
    assert passing(rules, rows).to_list() == [True, False] * 3


def test_thresholds_of_one_type_are_one(block):
    unlike = [["type", "*", 1.0], ["type", "LST*", 2.0], ["id", 7, 3.0]]
    with pytest.raises(ConfigurationError, match="min_energy differs within LST: 2 for 4; 3 for 7"):
        rules_of(block, {"min_energy": unlike})


def test_energies_of_the_configuration_may_have_units(block):
    rules = rules_of(block, {"min_energy": "50 GeV"})
    rows = pl.DataFrame({"tel_id": [4, 4], "energy": [0.051, 0.049], "gammaness": 1.0})
    assert passing(rules, rows).to_list() == [True, False]


def test_limits_of_the_distance_asymmetry_are_by_telescope(block):
    limit = [["type", "*", 0.1], ["id", 561, 0.05]]
    rules = rules_of(block, {"max_distance_asymmetry": limit})
    (test,) = rules.tests
    assert test.name == "max_distance_asymmetry"
    assert test.columns == (IMPACT,)
    assert test.limits == {4: (0.1,), 7: (0.1,), 11: (0.1,), 12: (0.1,), 561: (0.05,)}


def test_a_parameter_that_matches_no_entry_names_the_telescope(block):
    parameter = TelescopeParameter((TelescopeEntry("type", "LST*", 1.0),))
    with pytest.raises(ConfigurationError, match=r"telescope 11 \(MST_MST_MSTCam\)"):
        value_by_telescope(parameter, block.subarray)


def test_pairs_to_form_follow_the_pair_finder(block):
    # LST 4 and 7 are sqrt(130^2 + 60^2) = 143.2 m apart; the MSTs 170.0, 160.0 and 246.9 m.
    def formed(radius):
        configuration = configure(PairFinder={"max_impact_distance": radius})
        ids = block.subarray.tel_ids
        pairs = pairs_to_form(ENERGY_INTER, configuration, block.subarray).tolist()
        return {(ids[i], ids[j]) for i, j in pairs}

    assert formed(71.5) == set()
    assert formed(71.6) == {(4, 7)}
    assert formed([["type", "*", 125.0], ["id", 7, 18.2]]) == {
        (4, 7),
        (11, 12),
        (11, 561),
        (12, 561),
    }
    assert formed([["type", "*", 123.4], ["id", 7, 18.2]]) == {(11, 12), (12, 561)}


# --- what does not fit -------------------------------------------------------------------


def test_a_missing_value_names_what_there_is_of_the_kind(block):
    configuration = {"CalculateAsymmetry": {"energy_reconstructor": "My_Forest"}}
    with pytest.raises(
        CannotCompute,
        match=rf"My_Forest_tel_energy \(the value to compare\) .* The file has {ENERGY};",
    ):
        rules_of(block, **configuration)


@pytest.mark.parametrize(
    ("filters", "section", "column"),
    [
        ({"min_gammaness": 0.5}, {"gammaness_reconstructor": "Other"}, "Other_tel_prediction"),
        (
            {"max_distance_asymmetry": 0.1},
            {"geometry_reconstructor": "Other"},
            "Other_tel_impact_distance",
        ),
    ],
)
def test_a_filter_without_its_column_is_an_error(block, filters, section, column):
    (name,) = filters
    with pytest.raises(CannotCompute, match=rf"{column} \(needed by the event filter {name}\)"):
        rules_of(block, filters, CalculateAsymmetry=section)


def test_without_gammaness_the_file_has_none_of_the_kind(make_block):
    file = make_block()
    for name in file.telescope_tables(TEL_PARTICLE):
        del file.tables[name]
    block = dl2.open_block(file.write())
    assert rules_of(block).value == ENERGY
    with pytest.raises(CannotCompute, match="The file has none of that kind"):
        rules_of(block, {"min_gammaness": 0.5})


def test_without_distances_and_uncertainties_the_rest_goes_on(make_block):
    file = make_block()
    for name in file.telescope_tables(TEL_IMPACT):
        del file.tables[name]
    for name in file.telescope_tables(TEL_ENERGY):
        del file.tables[name][f"{ENERGY}_uncert"]
    rules = rules_of(dl2.open_block(file.write()))
    assert (rules.uncertainty, rules.impact) == (None, None)


@pytest.mark.parametrize(
    ("group", "column", "unit", "message"),
    [
        (TEL_ENERGY, ENERGY, "GeV", r"\(the value to compare\) is in GeV, expected TeV"),
        (TEL_ENERGY, f"{ENERGY}_uncert", "GeV", "is in GeV, expected TeV"),
        (TEL_IMPACT, IMPACT, "km", "is in km, expected m"),
    ],
)
def test_another_unit_than_that_of_pairs_is_refused(make_block, group, column, unit, message):
    file = make_block()
    for name in file.telescope_tables(group):
        file.tables[name][column] = Column(file.tables[name][column].data, unit)
    with pytest.raises(CannotCompute, match=message):
        rules_of(dl2.open_block(file.write()))


def test_a_column_that_states_no_unit_is_taken_as_ctapipe_has_it(make_block):
    file = make_block()
    for name in file.telescope_tables(TEL_ENERGY):
        file.tables[name][ENERGY] = Column(file.tables[name][ENERGY].data)
    assert rules_of(dl2.open_block(file.write())).value == ENERGY


def test_a_criterion_that_does_not_fit_the_file_is_an_error(block):
    with pytest.raises(CriterionError, match=f"did you mean '{ENERGY}'"):
        rules_of(block, None, [("bright", "RandomForestRegresor_tel_energy > 1 * u.TeV")])


# --- the cache key -----------------------------------------------------------------------


def part(*args, **sections):
    return pair_configuration(ENERGY_INTER, configure(*args, **sections))


@pytest.mark.parametrize(
    "changed",
    [
        {"filters": {"min_gammaness": 0.5}},
        {"filters": {"max_distance_asymmetry": 0.1}},
        {"criteria": [("bright", f"{ENERGY} > 50 * u.GeV")]},
        {"PairFinder": {"max_impact_distance": 100.0}},
        {"CalculateAsymmetry": {"energy_reconstructor": "Other"}},
        {"CalculateAsymmetry": {"geometry_reconstructor": "Other"}},
        {"CalculateAsymmetry": {"gammaness_reconstructor": "Other"}},
    ],
    ids=str,
)
def test_what_changes_the_pairs_changes_the_key(changed):
    assert part(**changed) != part()


@pytest.mark.parametrize(
    "changed",
    [
        {"CalculateAsymmetry": {"chunk_size": 7}},
        {"CalculateAsymmetry": {"overwrite": True, "log_level": "DEBUG", "output_url": "x.h5"}},
        {"CalculateAsymmetry": {"reconstruction_algorithm": "RandomForestRegressor"}},
        {"RelativeThroughputFitter": {"min_events": 7, "estimator": "pair"}},
        {"ShowerSelection": {"threshold": "auto"}},
        {"CalculateInterCalibration": {"overwrite": True}},
        {"CalculateImageAsymmetry": {"image_reconstructor": "other"}},
        {
            "PairFinder": {
                "max_impact_distance": [
                    ["type", "LST*", 125],
                    ["type", "MST*", 125],
                    ["type", "SST*", 225],
                ]
            }
        },
    ],
    ids=str,
)
def test_what_does_not_change_the_pairs_does_not_change_the_key(changed):
    assert part(**changed) == part()
