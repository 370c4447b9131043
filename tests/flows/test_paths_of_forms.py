"""No path of any form leads out of the folders of a machine that names them.

The fields are found by looking at the forms: who adds one says here whether it is a path.
"""

from datetime import date

import pytest

from arraycal.config.errors import ConfigurationError
from arraycal.config.models import Configuration
from arraycal.config.settings import Settings
from arraycal.flows.jobs.job import RESULT_FILES, configured, prepare_job
from arraycal.flows.jobs.parameters import (
    BackfillParameters,
    CalibrateParameters,
    NightCalibration,
    NightlyParameters,
    NightOptions,
)
from arraycal.flows.night.find_blocks import find_night, night_folder

NIGHT = date(2026, 1, 1)
#: Fields that name no file.
NO_PATHS = {
    "calibration", "preset", "overrides", "overwrite", "night", "record", "settle_s", "again",
    "calibrations", "look_back", "options", "first", "last",
}  # fmt: skip
FORMS = (CalibrateParameters, NightCalibration, NightOptions, NightlyParameters, BackfillParameters)
#: Calibrations that a field is for; the others take any.
MADE_FOR = {
    "inter": "energy-cross",
    "simulation_reference": "energy-cross",
    "compare": "image-inter",
}
#: What else such a field needs.
NEEDED = {"inter": ["CalculateCrossCalibration.method=three_step"]}
CASES = [(form, name) for form in FORMS for name in form.model_fields if name not in NO_PATHS]
#: Settings that name files, which files and overrides may give as well.
FILE_SETTINGS = {
    "inter_calibration": "CalculateCrossCalibration",
    "simulation_reference": "CalculateCrossCalibration",
    "compare": "CalculateInterCalibration",
}


@pytest.fixture
def site(tmp_path):
    """Settings with roots, in which links lead out to a secret beside them."""
    secret = tmp_path / "secret"
    secret.mkdir()
    for name in ("s.dl2.h5", "monitoring.h5", "result.json", "c.yaml"):
        (secret / name).write_text("{}")
    for root in ("data", "output"):
        (tmp_path / root / "night").mkdir(parents=True)
        (tmp_path / root / "night" / "a.dl2.h5").touch()
        (tmp_path / root / "link").symlink_to(secret)
        (tmp_path / root / "linked").mkdir()
        for name in ("monitoring.h5", "result.json"):
            (tmp_path / root / "linked" / name).symlink_to(secret / name)
    return Settings(
        data_root=tmp_path / "data", output_root=tmp_path / "output", cache_root=tmp_path / "cache"
    )


def use(form, name, text, settings):
    """Do what a flow does with a form of which one field leads somewhere."""
    listed = str(form.model_fields[name].annotation).startswith("list")
    content = {name: [text] if listed else text}
    if form is NightOptions:
        options = NightOptions.model_validate(content)
        return find_night(NIGHT, options, settings), night_folder(NIGHT, options, settings)
    calibration = MADE_FOR.get(name, "energy-inter")
    content |= {"calibration": calibration, "overrides": NEEDED.get(name, [])}
    if form is NightCalibration:
        return configured(form.model_validate(content), settings)
    whole = {"blocks": ["night"], "output": "results"} | content
    return prepare_job(CalibrateParameters.model_validate(whole), settings)


@pytest.mark.parametrize("way", ["../secret", "{root}/secret", "link", "night/../../secret"])
@pytest.mark.parametrize(("form", "name"), CASES)
def test_no_path_of_a_form_leads_out_of_its_folder(site, tmp_path, form, name, way):
    text = way.format(root=tmp_path) + ("/s.dl2.h5" if name == "blocks" else "")
    if (form, name, way) == (NightOptions, "blocks", "link"):
        # Of a night, a link is one block that is left out, and named.
        found, _ = use(form, name, text, site)
        assert not found.blocks
        assert "lies outside" in found.left_out[0].reason
        return
    with pytest.raises(ConfigurationError, match=r"lies outside|must not contain '\.\.'"):
        use(form, name, text, site)


@pytest.mark.parametrize("name", MADE_FOR)
@pytest.mark.parametrize("form", [CalibrateParameters, NightCalibration])
def test_a_folder_of_results_does_not_hide_a_link_that_leads_out(site, form, name):
    with pytest.raises(ConfigurationError, match="lies outside"):
        use(form, name, "linked", site)


@pytest.mark.parametrize("key", FILE_SETTINGS)
def test_a_setting_that_names_a_file_is_held_to_the_same(site, key):
    calibration = "image-inter" if key == "compare" else "energy-cross"
    override = f"{FILE_SETTINGS[key]}.{key}=../secret/result.json"
    needed = NEEDED["inter"] if key == "inter_calibration" else []
    wanted = {"calibration": calibration, "overrides": [override, *needed]}
    with pytest.raises(ConfigurationError, match="lies outside"):
        configured(NightCalibration.model_validate(wanted), site)


def test_all_settings_that_name_files_are_held_to_it():
    named = {
        name
        for section in Configuration.model_fields
        for name, field in type(getattr(Configuration(), section)).model_fields.items()
        if any(word in str(field.description) for word in ("result.json", "monitoring file"))
    }
    assert named == set(FILE_SETTINGS) == set(RESULT_FILES)


def test_paths_inside_are_taken(site, tmp_path):
    job = use(CalibrateParameters, "blocks", "night", site)
    assert job.blocks == (tmp_path / "data/night/a.dl2.h5",)
    assert job.output == tmp_path / "output/results"
    assert night_folder(NIGHT, NightOptions(output="x"), site) == (
        tmp_path / "output/x" / "2026-01-01"
    )
