"""From files, presets and overrides to a configuration, and what is said of mistakes."""

import re
import textwrap
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arraycal.config import (
    Configuration,
    ConfigurationError,
    available_presets,
    load_configuration,
    load_preset,
    preset_path,
    to_yaml,
)
from arraycal.config.loading import _parse_yaml
from arraycal.config.models import (
    CalculateAsymmetryOptions,
    EnergyEventFilters,
    ShowerSelectionOptions,
)

DOCUMENTED = """
CalculateAsymmetry:
  event_filters:
    max_distance_asymmetry: 0.05
  chunk_size: 100000
  energy_reconstructor: RandomForestRegressor
  geometry_reconstructor: HillasReconstructor
  gammaness_reconstructor: RandomForestClassifier
QualityQuery:
  quality_criteria:
    - ["energy threshold", "RandomForestRegressor_tel_energy > 50 * u.GeV"]
    - ["gammaness", "RandomForestClassifier_tel_prediction > 0.5"]
    - ["valid reco", "RandomForestRegressor_tel_is_valid"]
PairFinder:
  max_impact_distance:
    - [type, "LST*", 125.0]
    - [type, "MST*", 125.0]
    - [type, "SST*", 225.0]
CalculateInterCalibration:
  overwrite: True
RelativeThroughputFitter:
  throughput_normalisation: {"LST": 1.0, "MST": 1.0, "SST": 1.0}
  reference_telescopes: {"LST": 1, "MST": 5, "SST": 34}
"""

NESTED = """
CalculateEnergyAsymmetry:
  input_url: night.dl2.h5
  log_level: INFO
  PairFinder:
    max_impact_distance: 150
  EventPreprocessor:
    QualityQuery:
      quality_criteria: [[valid, ok]]
  reconstruction_algorithm: Disp
CalculateInterCalibration:
  RelativeThroughputFitter:
    throughput_normalization: {LST: 1}
    reference_telescopes: {LST: "1"}
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="a.yaml"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write


@pytest.fixture
def mistake(write):
    """Load a text that is wrong and give the message, which must name the file."""

    def mistake(text):
        path = write(text)
        with pytest.raises(ConfigurationError) as caught:
            load_configuration([path])
        assert str(path) in str(caught.value)
        return str(caught.value)

    return mistake


def filters(**values):
    return EnergyEventFilters.model_validate(values)


def override_mistake(*overrides):
    with pytest.raises(ConfigurationError) as caught:
        load_configuration(overrides=overrides)
    return str(caught.value)


def test_nothing_given_is_the_defaults():
    assert load_configuration() == Configuration()


def test_the_documented_file_runs_as_it_is(write):
    configuration = load_configuration([write(DOCUMENTED)])
    limit = configuration.CalculateAsymmetry.event_filters.max_distance_asymmetry
    assert limit is not None
    assert limit.value_for(3, "MST_MST_NectarCam") == 0.05
    assert configuration.QualityQuery.quality_criteria[0] == (
        "energy threshold",
        "RandomForestRegressor_tel_energy > 50 * u.GeV",
    )
    assert configuration.CalculateInterCalibration.overwrite
    assert configuration.RelativeThroughputFitter.reference_telescopes["SST"] == 34
    assert configuration.RelativeThroughputFitter.effective_gauge == "reference"


def test_components_nested_as_in_traitlets_come_to_the_top(write):
    configuration = load_configuration([write(NESTED)])
    assert configuration.PairFinder.max_impact_distance.value_for(1, "LST_X_Y") == 150.0
    assert configuration.QualityQuery.quality_criteria == (("valid", "ok"),)
    assert configuration.CalculateAsymmetry.energy_reconstructor == "Disp"
    assert configuration.RelativeThroughputFitter.throughput_normalisation == {"LST": 1.0}
    assert configuration.RelativeThroughputFitter.reference_telescopes == {"LST": 1}


JSON = """{
\t"CalculateEnergyAsymmetry": {"event_filters": {"min_energy": "50 GeV"}},
\t"PairFinder": {"max_impact_distance": [["type", "*", 90.0]]}
}"""
TOLD = "CalculateInterCalibration.reconstruction_algorithm=Told"
TOML = """
[CalculateEnergyAsymmetry.event_filters]
min_energy = "50 GeV"
[PairFinder]
max_impact_distance = [["type", "*", 90.0]]
"""


def test_json_and_toml_say_the_same_as_yaml(write):
    expected = load_configuration(
        [write("PairFinder: {max_impact_distance: [[type, '*', 90]]}")],
        overrides=["CalculateAsymmetry.event_filters.min_energy=50 GeV"],
    )
    for text, name in ((JSON, "a.json"), (TOML, "a.TOML")):
        assert load_configuration([write(text, name)]) == expected


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", '{"PairFinder": {', "not valid JSON: .*line 1 column 17"),
        ("a.json", '{"Pair": 1, "Pair": 2}', "not valid JSON: the key 'Pair' is given twice"),
        ("a.json", "[" * 100_000, "not valid JSON"),
        ("a.toml", "PairFinder: {}", "not valid TOML: .*line 1, column 11"),
        ("a.toml", "a = " + "[" * 100_000, "not valid TOML"),
        ("a.json", '{"PairFindr": {}}', "unknown section 'PairFindr'; did you mean 'PairFinder'"),
        ("a.toml", "[PairFindr]", "unknown section 'PairFindr'; did you mean 'PairFinder'"),
        ("a.json", "[1]", "expected sections"),
        ("a.py", "c = get_config()", "is a program, which is not run"),
    ],
)
def test_a_mistake_names_the_format_of_the_file(write, name, text, said):
    path = write(text, name)
    with pytest.raises(ConfigurationError, match=said) as caught:
        load_configuration([path])
    assert str(path) in str(caught.value)


def test_the_same_setting_in_two_spellings_must_agree(write, mistake):
    agreeing = """
        CalculateAsymmetry: {chunk_size: 5}
        CalculateEnergyAsymmetry: {chunk_size: 5, energy_reconstructor: X}
    """
    options = load_configuration([write(agreeing)]).CalculateAsymmetry
    assert (options.chunk_size, options.energy_reconstructor) == (5, "X")
    message = mistake("""
        CalculateAsymmetry: {chunk_size: 5}
        CalculateEnergyAsymmetry: {chunk_size: 6}
    """)
    assert "CalculateAsymmetry.chunk_size = 5" in message
    assert "CalculateEnergyAsymmetry.chunk_size = 6" in message
    assert "two spellings" in mistake("""
        PairFinder: {max_impact_distance: 1}
        CalculateEnergyAsymmetry: {PairFinder: {max_impact_distance: 2}}
    """)


def test_later_files_win_key_by_key_and_overrides_win_over_all(write):
    first = write("RelativeThroughputFitter: {min_events: 5, min_common_events: 6}", "1.yaml")
    second = write("RelativeThroughputFitter: {min_events: 7}", "2.yaml")
    override = "RelativeThroughputFitter.robust=huber"
    options = load_configuration(
        [first, second], preset="energy-inter-peer", overrides=[override]
    ).RelativeThroughputFitter
    assert (options.min_events, options.min_common_events) == (7, 6)  # second, first
    assert (options.robust, options.estimator) == ("huber", "pair")  # override, preset
    assert options.response_slope == 1.0  # default


def test_a_mapping_within_a_section_is_replaced_by_a_file_and_entered_by_an_override(write):
    first = write("CalculateAsymmetry: {event_filters: {min_energy: 1, min_gammaness: 0.5}}", "1.y")
    second = write("CalculateAsymmetry: {event_filters: {min_energy: 2}}", "2.y")
    replaced = load_configuration([first, second]).CalculateAsymmetry.event_filters
    assert replaced == filters(min_energy=2)
    entered = load_configuration(
        [first], overrides=["CalculateEnergyAsymmetry.event_filters.min_energy=50 GeV"]
    ).CalculateAsymmetry.event_filters
    assert entered == filters(min_energy=0.05, min_gammaness=0.5)


def test_overrides_follow_the_same_spellings():
    configuration = load_configuration(
        overrides=[
            "CalculateEnergyAsymmetry.PairFinder.max_impact_distance=[[type, 'LST*', 99]]",
            "RelativeThroughputFitter.throughput_normalization.LST=2",
            "RelativeThroughputFitter.reference_telescopes={MST: 5}",
            "QualityQuery.quality_criteria=[[a, 'x = 1']]",
        ]
    )
    assert configuration.PairFinder.max_impact_distance.to_plain() == [["type", "LST*", 99.0]]
    assert configuration.RelativeThroughputFitter.throughput_normalisation == {"LST": 2.0}
    assert configuration.RelativeThroughputFitter.reference_telescopes == {"MST": 5}
    assert configuration.QualityQuery.quality_criteria == (("a", "x = 1"),)


def test_an_override_does_not_leak_through_a_yaml_alias(write):
    shared = write("""
        CalculateAsymmetry: {event_filters: &f {min_gammaness: 0.5}}
        CalculateCrossCalibration: {event_filters: *f}
    """)
    configuration = load_configuration(
        [shared], overrides=["CalculateAsymmetry.event_filters.min_gammaness=0.9"]
    )
    cross = configuration.CalculateCrossCalibration.event_filters
    assert cross == filters(min_gammaness=0.5)


@pytest.mark.parametrize("order", [1, -1])
def test_an_older_spelling_in_a_stronger_layer_wins_but_not_within_one(write, order):
    newer = write("CalculateAsymmetry: {energy_reconstructor: A}")
    older = "CalculateAsymmetry.reconstruction_algorithm=B"
    assert (
        load_configuration([newer], overrides=[older]).CalculateAsymmetry.energy_reconstructor
        == "B"
    )
    both = [older, "CalculateAsymmetry.energy_reconstructor=C"][::order]
    assert (
        load_configuration([newer], overrides=both).CalculateAsymmetry.energy_reconstructor == "C"
    )


def test_the_energies_named_for_the_comparison_are_those_of_the_asymmetries(write):
    told = write("CalculateInterCalibration: {reconstruction_algorithm: Told}", "inter.yaml")
    for preset in (None, "energy-inter", "energy-inter-peer"):
        for files, overrides in (([told], []), ([], [TOLD])):
            configuration = load_configuration(files, preset=preset, overrides=overrides)
            assert configuration.CalculateAsymmetry.energy_reconstructor == "Told"
    assert load_configuration([write(to_yaml(configuration))]) == configuration


@pytest.mark.parametrize("order", [1, -1])
def test_two_files_that_name_different_energies_contradict_each_other(write, order):
    told = write("CalculateInterCalibration: {reconstruction_algorithm: Told}", "inter.yaml")
    named = write("CalculateEnergyAsymmetry: {energy_reconstructor: Named}")
    with pytest.raises(ConfigurationError) as caught:
        load_configuration([told, named][::order], preset="energy-inter-peer")
    message = str(caught.value)
    assert "CalculateInterCalibration.reconstruction_algorithm = 'Told'" in message
    assert "CalculateAsymmetry.energy_reconstructor = 'Named'" in message
    assert "give one of them" in message
    agreeing = write("CalculateEnergyAsymmetry: {reconstruction_algorithm: Told}")
    configuration = load_configuration([told, agreeing][::order])
    assert configuration.CalculateAsymmetry.energy_reconstructor == "Told"


def test_an_empty_file_and_an_empty_section_change_nothing(write):
    assert load_configuration([write("# nothing yet\n")]) == Configuration()
    assert load_configuration([write("PairFinder:\n  # later\nQualityQuery: {}")]) == (
        Configuration()
    )


def test_an_unknown_key_names_the_file_and_the_nearest_known_one(mistake):
    message = mistake("CalculateEnergyAsymmetry: {chunck_size: 1}")
    assert "unknown key 'CalculateEnergyAsymmetry.chunck_size'" in message
    assert "did you mean 'chunk_size'?" in message
    assert "gammaness_reconstructor" in message  # the list of the known ones


def test_an_unknown_nested_key_is_compared_with_the_keys_beside_it(mistake):
    message = mistake("CalculateAsymmetry: {event_filters: {min_enegy: 1}}")
    assert "did you mean 'min_energy'? Known: min_gammaness, min_energy" in message
    message = mistake("""
        RelativeThroughputFitter:
          constraints: [{tel_id: 1, value: 1, eror: 0}]
    """)
    assert "did you mean 'error'? Known: tel_id, value, error" in message
    assert "constraints.0.error is missing" in message


def test_an_unknown_section_names_the_nearest_known_one(mistake):
    assert "unknown section 'PairFindr'; did you mean 'PairFinder'?" in mistake("PairFindr: {}")
    assert "unknown section 7" in mistake("7: {}")


def test_every_wrong_value_gets_a_sentence_with_its_name_and_what_was_expected(mistake):
    message = mistake("""
        RelativeThroughputFitter: {estimator: events, min_events: 1}
        CalculateInterCalibration: {RelativeThroughputFitter: {throughput_normalization: {LST: 0}}}
    """)
    lines = message.splitlines()
    assert len(lines) == 3
    assert "RelativeThroughputFitter.estimator is 'events', expected 'event' or 'pair'" in message
    assert "min_events is 1, expected a number greater than or equal to 2" in message
    assert (
        "CalculateInterCalibration.RelativeThroughputFitter.throughput_normalization: "
        "LST: 0 is out of range, expected more than 0"
    ) in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PairFinder: [", "line 1, column"),
        ("PairFinder: {a: 1}\nPairFinder: {b: 1}", "line 2, column 1: .*given twice"),
        ("PairFinder: {x: 1, x: 2}", "'x' is given twice"),
        ("PairFinder: {? [a, b] : 1}", "not valid YAML"),
        ("- a\n- b", "expected sections"),
        ("just text", "'just text', expected sections"),
        ("PairFinder: 125", "section PairFinder holds 125, expected keys and values"),
        ("PairFinder: !!python/object/apply:os.getcwd []", "not valid YAML"),
        ("PairFinder: &a {PairFinder: *a}", "nested in itself"),
        ("EventPreprocessor: {features: [a]}", "only a nested QualityQuery is read"),
        ("PairFinder: {max_impact_distance: 2021-99-99}", "not valid YAML"),
        ("PairFinder: " + "[" * 5000, "not valid YAML"),
        ("QualityQuery: {quality_criteria: &a [*a]}", "quality_criteria.0"),
        ("PairFinder: {max_impact_distance: .nan}", "nan is not a finite number"),
        ("a: \x07", "not valid YAML"),
    ],
)
def test_a_damaged_file_is_explained(mistake, text, expected):
    assert re.search(expected, mistake(text))


def test_values_that_would_be_gigantic_in_full_are_shown_in_short(mistake):
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)]
    body = "\n".join(f"  {line}" for line in lines)
    text = f"PairFinder:\n{body}\n  max_impact_distance: *a39\n"
    assert len(mistake(text)) < 5000


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no configuration file .*absent\.yaml"):
        load_configuration([tmp_path / "absent.yaml"])
    with pytest.raises(ConfigurationError, match="cannot read"):
        load_configuration([tmp_path])
    binary = tmp_path / "night.h5"
    binary.write_bytes(b"\x89HDF\r\n\x1a\n\xff")
    with pytest.raises(ConfigurationError, match=r"night\.h5 is not a text file"):
        load_configuration([binary])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("PairFinder.max_impact_distance", "expected Section.key=value"),
        ("PairFinder=1", "expected Section.key=value"),
        ("CalculateAsymmetry.PairFinder={}", "expected Section.key=value"),
        ("PairFinder.=1", "expected Section.key=value"),
        ("EventPreprocessor.x=1", "expected Section.key=value"),
        ("=1", "unknown section ''"),
        ("pairfinder.max_impact_distance=1", "did you mean 'PairFinder'"),
        ("ShowerSelection.threshold=*", "not valid YAML"),
        ("ShowerSelection.margn=1", "did you mean 'margin'"),
        ("ShowerSelection.margin=-1", "--set ShowerSelection.margin=-1: ShowerSelection.margin is"),
        ("RelativeThroughputFitter.gauge=reference", "needs reference_telescopes"),
    ],
)
def test_an_override_that_makes_no_sense_is_quoted(override, expected):
    message = override_mistake(override)
    assert expected in message
    assert f"--set {override}" in message


def test_an_override_cannot_enter_a_value_without_keys():
    message = override_mistake("ShowerSelection.threshold=1", "ShowerSelection.threshold.LST=2")
    assert "threshold holds 1, which has no keys" in message


def test_the_presets_are_complete_and_load():
    assert set(available_presets()) >= {"energy-inter", "energy-inter-peer"}
    for name in available_presets():
        assert load_preset(name) == load_configuration([preset_path(name)])


def test_the_recommended_preset_cuts_on_nothing_a_single_telescope_measured():
    configuration = load_preset("energy-inter")
    assert configuration.CalculateAsymmetry.event_filters == EnergyEventFilters()
    assert [text for _, text in configuration.QualityQuery.quality_criteria] == [
        "RandomForestRegressor_tel_is_valid"
    ]
    assert configuration.ShowerSelection.threshold == "auto"
    fitter = configuration.RelativeThroughputFitter
    assert (fitter.estimator, fitter.effective_gauge) == ("event", "geometric_mean")


def test_the_peer_preset_is_the_documented_file_with_the_peers_estimator(write):
    documented = load_configuration(
        [write(DOCUMENTED)],
        overrides=[
            "CalculateInterCalibration.overwrite=false",
            "RelativeThroughputFitter.estimator=pair",
            "RelativeThroughputFitter.min_events=2",
            "RelativeThroughputFitter.min_common_events=2",
        ],
    )
    assert load_preset("energy-inter-peer") == documented


@pytest.mark.parametrize(
    ("preset", "tool", "cuts"),
    [
        ("energy-inter-peer", "CalculateEnergyAsymmetry", "min_gammaness: 0.3"),
        ("image-inter-peer", "CalculateImageAsymmetry", "minimum_individual_intensity: 80"),
        ("energy-cross-peer", "CalculateCrossCalibration", "min_energy: 0.1"),
    ],
)
def test_a_preset_of_the_peer_selects_nothing_beside_a_file_of_the_peer(write, preset, tool, cuts):
    # What a preset may add to a file: how coefficients are found, and their scale.
    added = ("RelativeThroughputFitter", "CalculateInterCalibration")
    steps = {"method", "participation_factor"}
    for filters in (f"{{event_filters: {{{cuts}}}}}", "{chunk_size: 7}"):
        path = write(f"{tool}: {filters}\nPairFinder: {{max_impact_distance: 90}}")
        alone, beside = load_configuration([path]), load_configuration([path], preset=preset)
        first_step = {"CalculateAsymmetry"} if tool == "CalculateCrossCalibration" else set()
        for section in set(Configuration.model_fields) - {*added, *first_step}:
            expected, found = (getattr(c, section).model_dump() for c in (alone, beside))
            different = {key for key in expected if expected[key] != found[key]}
            assert different <= steps, section


def test_criteria_and_filters_of_different_files_are_the_selection_of_the_peer(write):
    criteria = write("QualityQuery: {quality_criteria: [[valid, ok]]}", "criteria.yaml")
    tool = write("CalculateEnergyAsymmetry: {chunk_size: 7}")
    for files in ([criteria, tool], [tool, criteria]):
        configuration = load_configuration(files, preset="energy-inter-peer")
        assert configuration.QualityQuery.quality_criteria == (("valid", "ok"),)
        assert configuration.CalculateAsymmetry.event_filters == EnergyEventFilters()


def test_a_preset_of_the_peer_keeps_its_selection_beside_files_and_overrides_that_select_nothing(
    write,
):
    fitter = write("RelativeThroughputFitter: {reference_telescopes: {LST: 2}}")
    configuration = load_configuration(
        [fitter], preset="energy-inter-peer", overrides=["CalculateAsymmetry.chunk_size=7"]
    )
    preset = load_preset("energy-inter-peer")
    assert configuration.QualityQuery == preset.QualityQuery
    assert configuration.CalculateAsymmetry.event_filters == preset.CalculateAsymmetry.event_filters


def test_a_preset_that_is_not_the_peers_gives_way_key_by_key_only(write):
    path = write("CalculateEnergyAsymmetry: {chunk_size: 7}")
    beside = load_configuration([path], preset="energy-inter")
    assert beside.QualityQuery == load_preset("energy-inter").QualityQuery


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(ConfigurationError, match="did you mean 'energy-inter'"):
        load_configuration(preset="energy-intr")


@given(
    st.builds(
        dict,
        min_energy=st.none() | st.floats(0, 1e6),
        max_distance_asymmetry=st.none()
        | st.lists(
            st.tuples(st.just("type"), st.text("LMST*_?[]'\"#:", max_size=6), st.floats(1e-9, 9)),
            min_size=1,
            max_size=3,
        ),
    ),
    st.one_of(st.none(), st.just("auto"), st.floats(0, 1e3)),
    st.text(min_size=1, max_size=10),
)
def test_what_is_written_as_yaml_is_read_back_as_equal(
    tmp_path_factory, cuts, threshold, algorithm
):
    configuration = Configuration(
        CalculateAsymmetry=CalculateAsymmetryOptions(
            event_filters=EnergyEventFilters.model_validate(cuts), energy_reconstructor=algorithm
        ),
        ShowerSelection=ShowerSelectionOptions.model_validate({"threshold": threshold}),
    )
    path = tmp_path_factory.mktemp("yaml") / "written.yaml"
    path.write_text(to_yaml(configuration), encoding="utf-8")
    assert load_configuration([path]) == configuration


def test_the_written_yaml_has_one_line_per_telescope_entry():
    assert "  - [type, LST*, 125.0]\n" in to_yaml(Configuration())


def test_what_a_caller_does_to_a_text_that_was_read_stays_with_the_caller():
    text = "{sections: [1], base: &base {a: 1}, other: {<<: *base}}"
    first: Any = _parse_yaml(text, "text")
    first["sections"].append(2)
    first["other"]["a"] = 3
    assert _parse_yaml(text, "text") == {"sections": [1], "base": {"a": 1}, "other": {"a": 1}}
