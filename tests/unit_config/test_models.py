"""The models: defaults, bounds, and that nothing is lost on the way to JSON and back."""

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from arraycal.config.models import (
    CalculateAsymmetryOptions,
    CalculateImageAsymmetryOptions,
    Configuration,
    EnergyEventFilters,
    ImageEventFilters,
    PairFinderOptions,
    RelativeThroughputFitterOptions,
    ShowerSelectionOptions,
    ThroughputConstraint,
)


def models():
    """Every model of a configuration, nested ones included."""
    waiting: list[type[BaseModel]] = [Configuration, ThroughputConstraint]
    seen: list[type[BaseModel]] = []
    while waiting:
        model = waiting.pop()
        seen.append(model)
        waiting += [
            info.annotation
            for info in model.model_fields.values()
            if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
        ]
    return seen


def test_the_defaults_are_those_of_the_peer_and_no_cut():
    configuration = Configuration()
    assert configuration.CalculateAsymmetry.chunk_size == 100_000
    assert configuration.CalculateAsymmetry.energy_reconstructor == "RandomForestRegressor"
    assert configuration.CalculateAsymmetry.event_filters == EnergyEventFilters()
    assert configuration.QualityQuery.quality_criteria == ()
    distance = configuration.PairFinder.max_impact_distance
    assert distance.value_for(1, "LST_LST_LSTCam") == 125.0
    assert distance.value_for(34, "SST_ASTRI_CHEC") == 225.0
    assert distance.value_for(99, "XST_X_X") is None


def test_every_option_is_described():
    for model in models():
        if model is not Configuration:  # its fields are sections, described by their class
            for name, info in model.model_fields.items():
                assert info.description, f"{model.__name__}.{name}"


def test_every_model_is_frozen_and_refuses_unknown_keys():
    for model in models():
        assert model.model_config["frozen"], model
        assert model.model_config["extra"] == "forbid", model


def test_a_configuration_survives_json_and_pickle_and_keeps_its_hash():
    configuration = Configuration.model_validate(
        {
            "CalculateAsymmetry": {"event_filters": {"min_energy": [["id", 7, "50 GeV"]]}},
            "CalculateImageAsymmetry": {
                "event_filters": {"equidistant_event_selection": [["type", "MST*", [0.1, 0.5]]]}
            },
            "RelativeThroughputFitter": {
                "reference_telescopes": {"LST": "1"},
                "constraints": [{"tel_id": 1, "value": 0.9, "error": 0.01}],
            },
            "ShowerSelection": {"threshold": "auto"},
        }
    )
    text = json.dumps(configuration.model_dump(mode="json"))
    for copy in (
        Configuration.model_validate_json(text),
        Configuration.model_validate(configuration.model_dump()),
        pickle.loads(pickle.dumps(configuration)),  # noqa: S301  our own bytes
    ):
        assert copy == configuration
        assert hash(copy) == hash(configuration)
    assert configuration != Configuration()


def test_a_json_schema_exists_for_forms_and_checks():
    schema = Configuration.model_json_schema()
    assert set(schema["properties"]) == set(Configuration.model_fields)


def test_energies_are_kept_in_tev_and_may_differ_by_telescope():
    raw = [["type", "*", "50 * u.GeV"], ["id", 7, 0.02]]
    min_energy = EnergyEventFilters.model_validate({"min_energy": raw}).min_energy
    assert min_energy is not None
    assert min_energy.value_for(1, "LST_LST_LSTCam") == 0.05
    assert min_energy.value_for(7, "LST_LST_LSTCam") == 0.02


@pytest.mark.parametrize("raw", [[0.1, 0.5], [["type", "*", [0.1, 0.5]]], ("0.1", 0.5)])
def test_two_numbers_are_a_value_of_the_equidistant_selection(raw):
    filters = ImageEventFilters.model_validate({"equidistant_event_selection": raw})
    assert filters.equidistant_event_selection is not None
    assert filters.equidistant_event_selection.value_for(1, "LST") == (0.1, 0.5)


@pytest.mark.parametrize(
    ("model", "values", "expected"),
    [
        (EnergyEventFilters, {"min_gammaness": 1.1}, "at least 0 and at most 1"),
        (EnergyEventFilters, {"min_energy": -1}, "-1 TeV is out of range"),
        (EnergyEventFilters, {"max_distance_asymmetry": 0}, "more than 0"),
        (EnergyEventFilters, {"max_distance": 1}, "Extra inputs"),
        (ImageEventFilters, {"equidistant_event_selection": 0.5}, "expected two numbers"),
        (ImageEventFilters, {"equidistant_event_selection": [["id", 1, 2]]}, "two numbers"),
        (PairFinderOptions, {"max_impact_distance": "125 TeV"}, "expected one of m"),
        (CalculateAsymmetryOptions, {"chunk_size": 0}, "greater than 0"),
        (CalculateAsymmetryOptions, {"energy_reconstructor": ""}, "at least 1 character"),
        (CalculateImageAsymmetryOptions, {"event_filters": {"min_energy": 1}}, "Extra inputs"),
        (RelativeThroughputFitterOptions, {"throughput_normalisation": {"LST": 0}}, "LST: 0 is"),
        (RelativeThroughputFitterOptions, {"reference_telescopes": {"LST": "a"}}, "telescope id"),
        (RelativeThroughputFitterOptions, {"reference_telescopes": {"LST": -1}}, "telescope id"),
        (RelativeThroughputFitterOptions, {"reference_telescopes": [1]}, "one value per"),
        (RelativeThroughputFitterOptions, {"reference_telescopes": {1: 1}}, "name of a telescope"),
        (RelativeThroughputFitterOptions, {"min_events": 1}, "greater than or equal to 2"),
        (RelativeThroughputFitterOptions, {"response_slope": float("inf")}, "finite number"),
        (RelativeThroughputFitterOptions, {"gauge": "reference"}, "needs reference_telescopes"),
        (ThroughputConstraint, {"tel_id": 1, "value": 0, "error": 0}, "greater than 0"),
        (ShowerSelectionOptions, {"threshold": "otto"}, "neither 'auto' nor an energy"),
        (ShowerSelectionOptions, {"threshold": "5 m"}, "expected one of TeV"),
        (ShowerSelectionOptions, {"max_iterations": 51}, "less than or equal to 50"),
    ],
)
def test_values_out_of_bounds_are_refused(model, values, expected):
    with pytest.raises(ValidationError, match=expected):
        model(**values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "geometric_mean"),
        ({"reference_telescopes": {"LST": 1}}, "reference"),
        ({"reference_telescopes": {"LST": 1}, "gauge": "arithmetic_mean"}, "arithmetic_mean"),
        ({"gauge": "geometric_mean"}, "geometric_mean"),
    ],
)
def test_references_imply_the_gauge_unless_one_is_given(values, expected):
    assert RelativeThroughputFitterOptions(**values).effective_gauge == expected


def test_the_older_spelling_of_the_energy_reconstructor_gives_way_to_the_newer():
    older = CalculateAsymmetryOptions(reconstruction_algorithm="X")
    assert older.energy_reconstructor == "X"
    both = CalculateAsymmetryOptions(reconstruction_algorithm="X", energy_reconstructor="Y")
    assert both.energy_reconstructor == "Y"


def test_null_means_the_default_but_hides_no_unknown_key():
    assert RelativeThroughputFitterOptions.model_validate({"min_events": None}).min_events == 50
    assert Configuration.model_validate({"PairFinder": None}) == Configuration()
    with pytest.raises(ValidationError, match="Extra inputs"):
        RelativeThroughputFitterOptions.model_validate({"min_event": None})


def test_enumerations_ignore_case_where_the_peer_does():
    configuration = Configuration.model_validate(
        {
            "CalculateInterCalibration": {"asymmetry_label": "Image_Asymmetry"},
            "CalculateCrossCalibration": {"reference_subsystem": "lst"},
        }
    )
    assert configuration.CalculateInterCalibration.asymmetry_label == "image_asymmetry"
    assert configuration.CalculateCrossCalibration.reference_subsystem == "LST"


@given(st.dictionaries(st.text(min_size=1), st.floats(1e-300, 1e300), max_size=5))
def test_normalisations_of_any_types_survive_json(values):
    options = RelativeThroughputFitterOptions(throughput_normalisation=values)
    assert RelativeThroughputFitterOptions.model_validate_json(options.model_dump_json()) == options
