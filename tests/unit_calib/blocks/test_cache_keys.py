"""Rows are used again only under the settings that made them: every setting, every calibration.

Settings are found by looking at the models: who adds one says here whether it changes rows.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest

from arraycal.calib.blocks.cache import PairCache
from arraycal.calib.blocks.rows import rows_of_block
from arraycal.calib.observables import OBSERVABLES
from arraycal.calib.pairs.rules import forming_pairs
from arraycal.config import load_configuration
from arraycal.config.models import Configuration, Options

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Where a tool writes and logs, and how much it holds at a time.
TOOL = {
    "input_url", "input_data_url", "output_url", "overwrite", "log_level", "log_file",
    "log_file_level", "quiet", "provenance_log", "chunk_size",
}  # fmt: skip
#: What the fit makes of the rows, by section.
AFTERWARDS = {
    # An older spelling, translated before anything reads it.
    "CalculateAsymmetry": {"reconstruction_algorithm"},
    "CalculateImageAsymmetry": set[str](),
    "CalculateCrossCalibration": {
        "reference_subsystem", "method", "participation_factor", "inter_calibration",
        "allow_other_observations", "simulation_reference", "energy_slope", "energy_pivot",
    },
    "CalculateTimingCalibration": {
        "time_convention", "min_h_max", "max_h_max", "usual_maximum", "fit_curvature",
        "curvature_scale", "fit_walk", "clip", "max_clock_offset", "max_residual_rms", "max_error",
        "chunk_duration", "chunk_showers", "step_probability", "reference_telescope", "min_events",
        "min_common_events",
        # Only whether it is "file" decides the rows; see below.
        "core_resolution",
    },
    # Of the curve only where it reaches to, and that only if there is one; see below.
    "DistanceCurve": {"range"},
    "ShowerSelection": {"threshold", "margin", "ceiling", "scan", "max_iterations", "resolution"},
    "QualityQuery": set[str](),
    "PairFinder": set[str](),
}  # fmt: skip


class Other(dict[str, str]):
    """A value that no setting has, and that is written as any of them may be."""

    def to_plain(self) -> dict[str, str]:
        return dict(self)


OTHER = Other(another="value")


def leaves(options: Options, *above: str) -> Iterator[tuple[str, ...]]:
    """Names of all settings, with the sections they are in."""
    for name in type(options).model_fields:
        value = getattr(options, name)
        if isinstance(value, Options):
            yield from leaves(value, *above, name)
        else:
            yield *above, name


def changed(options: Any, path: tuple[str, ...]) -> Any:
    """Copy with one setting that is not what it was, whatever that may mean."""
    name, *below = path
    old = getattr(options, name)
    new = changed(old, tuple(below)) if below else OTHER
    return options.model_copy(update={name: new})


def key_options(name: str, configuration: Configuration, path: Any, monkeypatch: Any) -> list[Any]:
    """What the rows of a block are kept under."""
    asked: list[Any] = []

    class Asked(BaseException):
        pass

    def key(_cache: PairCache, _digest: str, options: Any) -> str:
        asked.append(dict(options))
        raise Asked

    monkeypatch.setattr(PairCache, "key", key)
    with warnings.catch_warnings():
        # A text where a number belongs cannot be written as one, and need not.
        warnings.filterwarnings("ignore", message="(?s)Pydantic serializer")
        with pytest.raises(Asked):
            rows_of_block(path, OBSERVABLES[name], configuration, path.parent / "cache")
    return asked


SECTIONS = {name: observable.section for name, observable in OBSERVABLES.items()}
CASES = [
    (name, path)
    for name, own in SECTIONS.items()
    for path in leaves(Configuration())
    if path[0] in {own, "QualityQuery", "PairFinder", "DistanceCurve", "ShowerSelection"}
    and path != ("DistanceCurve", "knots")
]


def test_the_settings_that_make_no_difference_are_those_of_the_models() -> None:
    for section, names in AFTERWARDS.items():
        known = {path[-1] for path in leaves(getattr(Configuration(), section))}
        assert names <= known, f"no setting of {section} any more: {sorted(names - known)}"


def test_every_setting_that_changes_rows_changes_the_key(make_block, monkeypatch) -> None:
    path = make_block().write()
    for name, setting in CASES:
        with monkeypatch.context() as patch:
            before, after = (
                key_options(name, configuration, path, patch)
                for configuration in (Configuration(), changed(Configuration(), setting))
            )
        section, leaf = setting[0], setting[-1]
        matters = leaf not in TOOL | AFTERWARDS[section]
        if name == "timing-cross" and section == "PairFinder":
            matters = False  # clocks are compared over any distance
        assert (before != after) is matters, (
            f"{name}: {'.'.join(setting)} "
            + ("does not change the key of its rows" if matters else "makes all rows anew")
            + f"; if that is right, say so in {__name__}"
        )


def test_rows_and_pairs_of_one_selection_are_kept_apart(make_block, monkeypatch) -> None:
    path = make_block().write()
    differs = {}
    for preset in ("energy-inter", "energy-cross", "image-inter", "energy-inter-peer"):
        options = load_configuration(preset=preset)
        with monkeypatch.context() as patch:
            one, two = (
                key_options(preset.removesuffix("-peer"), some, path, patch)
                for some in (options, forming_pairs(options))
            )
        differs[preset] = one != two
    # Whose filters look at pairs has pairs in any case.
    assert differs == dict.fromkeys(differs, True) | {"energy-inter-peer": False}


@pytest.mark.parametrize("name", [name for name in OBSERVABLES if name != "timing-cross"])
def test_a_curve_changes_the_key_by_its_range_and_not_by_its_knots(
    name: str, make_block, monkeypatch
) -> None:
    path = make_block().write()

    def key(**curve: Any) -> Any:
        fields = Configuration().DistanceCurve.model_copy(update=curve)
        configuration = Configuration().model_copy(update={"DistanceCurve": fields})
        with monkeypatch.context() as patch:
            return key_options(name, configuration, path, patch)

    flat, few, many = key(), key(knots=4), key(knots=6)
    assert flat != few
    assert few == many
    assert few != key(knots=4, range=OTHER)


def test_only_sizes_are_searched_for_saturation(make_block, monkeypatch) -> None:
    path = make_block().write()
    found = Configuration().model_copy(
        update={
            "ShowerSelection": Configuration().ShowerSelection.model_copy(
                update={"ceiling": "auto"}
            )
        }
    )
    differs = {}
    for name in OBSERVABLES:
        with monkeypatch.context() as patch:
            one, two = (key_options(name, each, path, patch) for each in (Configuration(), found))
        differs[name] = one != two
    expected = dict.fromkeys(OBSERVABLES, False) | {"image-inter": True}
    assert differs == expected


def test_rows_of_different_calibrations_are_kept_apart(make_block, monkeypatch) -> None:
    path = make_block().write()
    keys = []
    for name in OBSERVABLES:
        with monkeypatch.context() as patch:
            keys.append(key_options(name, Configuration(), path, patch))
    assert all(one != two for i, one in enumerate(keys) for two in keys[:i])


def test_errors_of_the_cores_from_the_file_are_rows_of_their_own(make_block, monkeypatch) -> None:
    path = make_block().write()
    keys = []
    for value in (None, "12 m", "20 m", "file"):
        section = Configuration().CalculateTimingCalibration.model_dump()
        timing = {"CalculateTimingCalibration": section | {"core_resolution": value}}
        configuration = Configuration.model_validate(timing)
        with monkeypatch.context() as patch:
            keys.append(key_options("timing-cross", configuration, path, patch))
    assert keys[0] == keys[1] == keys[2] != keys[3]
