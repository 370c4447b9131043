"""Blocks are found, and on a machine with roots nothing leads out of them."""

import os

import pytest

from arraycal.config.errors import ConfigurationError
from arraycal.config.settings import Settings
from arraycal.flows.jobs.job import prepare_job
from arraycal.flows.jobs.parameters import CalibrateParameters
from arraycal.flows.jobs.path_patterns import find_blocks


@pytest.fixture
def tree(tmp_path):
    """root/night with two blocks, and a secret beside the root."""
    root = tmp_path / "root"
    for name in ("night/a.dl2.h5", "night/b.dl2.h5", "night/report.h5", "other/c.h5", "out/.keep"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "other" / "monitoring.h5").touch()
    (root / "other" / ".hidden.h5").touch()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "s.h5").touch()
    (tmp_path / "secret" / "c.yaml").write_text("ShowerSelection: {margin: 3.0}\n")
    return root


def names(paths):
    return [path.name for path in paths]


def test_of_a_folder_the_dl2_files_are_taken(tree):
    assert names(find_blocks([str(tree / "night")])) == ["a.dl2.h5", "b.dl2.h5"]


def test_of_a_folder_without_dl2_files_all_but_our_products_are_taken(tree):
    assert names(find_blocks([str(tree / "other")])) == ["c.h5"]


def test_patterns_are_expanded_through_folders(tree):
    assert names(find_blocks([str(tree / "**" / "?.dl2.h5")])) == ["a.dl2.h5", "b.dl2.h5"]


def test_a_block_named_twice_is_taken_once(tree, tmp_path):
    (tmp_path / "link.h5").symlink_to(tree / "night" / "a.dl2.h5")
    texts = [str(tree / "night" / "a.dl2.h5"), str(tree / "night"), str(tmp_path / "link.h5")]
    assert names(find_blocks(texts)) == ["a.dl2.h5", "b.dl2.h5"]


def test_a_missing_file_stays_among_the_blocks(tree):
    texts = [str(tree / "nothing.h5"), str(tree / "night")]
    assert names(find_blocks(texts)) == ["nothing.h5", "a.dl2.h5", "b.dl2.h5"]


def test_missing_files_alone_are_wrong_usage(tree):
    with pytest.raises(ConfigurationError, match="no block file matches"):
        find_blocks([str(tree / "nothing.h5")])


def test_a_folder_of_our_own_products_says_that_they_are_left_out(tmp_path):
    for name in ("a.corrected.h5", "monitoring.h5"):
        (tmp_path / name).touch()
    with pytest.raises(ConfigurationError, match=r"left out: a\.corrected\.h5, monitoring\.h5"):
        find_blocks([str(tmp_path)])


def test_a_file_whose_name_is_a_pattern_is_found(tree):
    (tree / "run[1].h5").touch()
    assert names(find_blocks([str(tree / "run[1].h5")])) == ["run[1].h5"]


def test_relative_blocks_start_from_the_current_folder(tree, monkeypatch):
    monkeypatch.chdir(tree)
    assert find_blocks(["night/a.dl2.h5"]) == (tree / "night" / "a.dl2.h5",)


def test_relative_blocks_start_from_the_data_root(tree):
    assert find_blocks(["night"], tree) == (tree / "night/a.dl2.h5", tree / "night/b.dl2.h5")


def test_nothing_found_is_an_error(tree):
    with pytest.raises(ConfigurationError, match=r"no block file matches"):
        find_blocks([str(tree / "out"), str(tree / "*.fits")])


@pytest.mark.parametrize(
    "text",
    ["../secret/s.h5", "night/../../secret", "{outside}/secret/s.h5", "{outside}/secret/*.h5", "/"],
)
def test_no_block_lies_outside_the_data_root(tree, text):
    with pytest.raises(ConfigurationError, match=r"lies outside .*ARRAYCAL_DATA_ROOT"):
        find_blocks([text.format(outside=tree.parent)], tree)


def test_no_pattern_climbs_out_of_the_data_root(tree):
    with pytest.raises(ConfigurationError, match=r"must not contain '\.\.'"):
        find_blocks(["n*/../../secret/*.h5"], tree)


@pytest.mark.parametrize("text", ["night/link", "night/link/s.h5", "night/link/*.h5", "**/s.h5"])
def test_no_link_leads_out_of_the_data_root(tree, text):
    (tree / "night" / "link").symlink_to(tree.parent / "secret")
    with pytest.raises(ConfigurationError, match=r"lies outside|no block file"):
        find_blocks([text], tree)


def test_a_folder_with_a_link_to_the_outside_is_refused(tree):
    (tree / "night" / "x.dl2.h5").symlink_to(tree.parent / "secret" / "s.h5")
    with pytest.raises(ConfigurationError, match=r"lies outside"):
        find_blocks(["night"], tree)


def test_links_that_go_round_in_a_circle_are_refused(tree):
    (tree / "one").symlink_to(tree / "two")
    (tree / "two").symlink_to(tree / "one")
    with pytest.raises(ConfigurationError, match=r"cannot follow|no block file matches"):
        find_blocks(["one"], tree)


@pytest.mark.parametrize("text", ["a\0b", "x" * 300])
def test_impossible_names_are_refused(text):
    with pytest.raises(ConfigurationError, match=r"null character|cannot look for"):
        find_blocks([text], None)


def parameters(**changes):
    return CalibrateParameters(**({"blocks": ["night"], "output": "result"} | changes))


def test_a_preset_of_another_calibration_is_refused_with_those_that_fit(tree):
    with pytest.raises(ConfigurationError, match="choose image-inter or image-inter-peer"):
        prepare_job(parameters(calibration="image-inter", preset="timing-cross"), roots(tree))


def test_files_that_a_calibration_has_no_use_for_are_refused(tree):
    with pytest.raises(ConfigurationError, match="simulation_reference is for energy-cross"):
        prepare_job(parameters(simulation_reference="night/a.dl2.h5"), roots(tree))


def roots(tree):
    return Settings(data_root=tree, output_root=tree / "out")


def test_outputs_start_from_the_output_root(tree):
    assert prepare_job(parameters(), roots(tree)).output == tree / "out" / "result"


@pytest.mark.parametrize("output", ["../night", "/etc", "link/x"])
def test_no_output_lies_outside_the_output_root(tree, output):
    (tree / "out" / "link").symlink_to(tree.parent / "secret")
    with pytest.raises(ConfigurationError, match=r"lies outside .*ARRAYCAL_OUTPUT_ROOT"):
        prepare_job(parameters(output=output), roots(tree))


def test_no_configuration_file_lies_outside_the_data_root(tree):
    with pytest.raises(ConfigurationError, match=r"lies outside .*ARRAYCAL_DATA_ROOT"):
        prepare_job(parameters(config=["../secret/c.yaml"]), roots(tree))


def test_roots_may_be_links_themselves(tree, tmp_path):
    (tmp_path / "data").symlink_to(tree)
    settings = Settings(data_root=tmp_path / "data", output_root=tmp_path / "data" / "out")
    assert len(prepare_job(parameters(), settings).blocks) == 2


def test_a_folder_that_may_not_be_searched_is_named(monkeypatch):
    def denied(*_):
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr("pathlib.Path.exists", denied)
    with pytest.raises(ConfigurationError, match=r"cannot look for \*.h5: Permission denied"):
        find_blocks(["*.h5"])
