"""Requests that cannot be meant so are refused, or told, before the work starts."""

import logging

import pytest
from pydantic import ValidationError

from arraycal.config.settings import Settings
from arraycal.flows.jobs.job import configured
from arraycal.flows.jobs.parameters import CalibrateParameters, NightCalibration


@pytest.mark.parametrize(
    ("field", "wrong", "right"),
    [("preset", "energy-intr", "energy-inter"), ("calibration", "energy-crss", "energy-cross")],
)
def test_a_name_that_does_not_exist_is_refused_with_the_one_that_may_be_meant(field, wrong, right):
    content = {"blocks": ["x.h5"], "output": "out", field: wrong}
    with pytest.raises(ValidationError, match=f"there is no {field} '{wrong}'.*{right}"):
        CalibrateParameters.model_validate(content)


@pytest.mark.parametrize(
    ("calibration", "label", "is_told"),
    [
        ("energy-inter", "image_asymmetry", True),
        ("energy-inter", "energy_asymmetry", False),
        ("image-inter", None, False),
        ("image-inter", "energy_asymmetry", True),
        ("energy-cross", "image_asymmetry", False),
    ],
)
def test_a_label_of_another_quantity_is_told(tmp_path, caplog, calibration, label, is_told):
    overrides = [] if label is None else [f"CalculateInterCalibration.asymmetry_label={label}"]
    wanted = {"calibration": calibration, "overrides": overrides}
    with caplog.at_level(logging.WARNING, "arraycal"):
        configured(NightCalibration.model_validate(wanted), Settings(cache_root=tmp_path))
    assert ("compares by" in caplog.text) is is_told
