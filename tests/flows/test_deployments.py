"""Deployments: what Prefect would silently ignore is found here."""

from pathlib import Path

import pytest
import yaml
from prefect.cli.deploy._models import ConcurrencyLimitSpec, DeploymentConfig, PrefectYamlModel
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import is_valid

from arraycal.calib.errors import WrongUsage
from arraycal.calib.observables import OBSERVABLES
from arraycal.config.settings import Settings
from arraycal.flows.calibrate import of_deployment
from arraycal.flows.jobs.parameters import CalibrateParameters
from arraycal.flows.service.registering import DEPLOYMENTS_FILE, deployment_schema, read_deployments

FOLDER = Path(__file__).parents[2]
FILE = FOLDER / "deployments" / "prefect.yaml"
CONTENT = yaml.safe_load(FILE.read_text(encoding="utf-8"))
DEPLOYMENTS = {item["name"]: item for item in CONTENT["deployments"]}
#: Of the file's own, for YAML aliases; Prefect ignores it.
DEFINITIONS = "definitions"


def schema(name):
    return parameter_schema(load(name))


def load(name):
    return load_flow_from_entrypoint(DEPLOYMENTS[name]["entrypoint"], use_placeholder_flow=False)


def test_the_file_of_the_checkout_is_the_one_that_is_installed():
    assert FILE.resolve() == DEPLOYMENTS_FILE.resolve()
    assert read_deployments() == CONTENT["deployments"]


def test_the_file_fits_the_model_of_prefect():
    PrefectYamlModel.model_validate(CONTENT)
    assert set(CONTENT) - {DEFINITIONS} <= set(PrefectYamlModel.model_fields)


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_no_key_of_a_deployment_is_unknown(name):
    item = DEPLOYMENTS[name]
    assert set(item) <= set(DeploymentConfig.model_fields)
    assert set(item["concurrency_limit"]) <= set(ConcurrencyLimitSpec.model_fields)
    assert set(item["work_pool"]) == {"name"}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_the_entry_point_of_a_deployment_is_its_flow(name):
    assert load(name).name == DEPLOYMENTS[name]["flow_name"]


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_second_run_of_a_deployment_waits_for_the_first(name):
    assert DEPLOYMENTS[name]["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}


def test_there_is_a_deployment_for_every_calibration_and_for_nights():
    calibrations = {
        name: item["parameters"]["parameters"]["calibration"]
        for name, item in DEPLOYMENTS.items()
        if item["flow_name"] == "calibrate"
    }
    assert calibrations == {name: name for name in OBSERVABLES}
    assert set(DEPLOYMENTS) - set(calibrations) == {"nightly", "backfill"}


def test_only_the_nightly_run_has_a_schedule_and_it_is_that_of_the_settings():
    assert {name for name, item in DEPLOYMENTS.items() if "schedules" in item} == {"nightly"}
    (schedule,) = DEPLOYMENTS["nightly"]["schedules"]
    settings = Settings()
    assert schedule["cron"] == settings.nightly_cron
    assert schedule["timezone"] == settings.time_zone
    CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])


def test_the_flow_of_the_file_is_the_flow_of_the_module():
    # Loaded by path, the same flow is another object; its tasks must still be found.
    for name, path in (("calibrate", "calibrate.py"), ("nightly", "nightly.py")):
        entry = f"{FOLDER / 'flows' / path}:{name}"
        assert load_flow_from_entrypoint(entry, use_placeholder_flow=False).name == name


VALID = {
    "energy-inter": {"blocks": ["night"], "output": "result"},
    "nightly": {"night": "2026-03-01"},
    "backfill": {"first": "2026-03-01", "last": "2026-03-07"},
}


def accepts(name, changes):
    return is_valid({"parameters": VALID[name] | changes}, schema(name).model_dump())


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("energy-inter", {}),
        (
            "energy-inter",
            {"calibration": "energy-inter", "preset": "energy-inter-peer", "overwrite": True},
        ),
        ("energy-inter", {"overrides": ["CalculateAsymmetry.event_filters.min_energy=50 GeV"]}),
        ("nightly", {}),
        ("nightly", {"night": None, "look_back": 0}),
        ("nightly", {"options": {"blocks": "{night:%Y/%m/%d}/*.h5", "settle_s": 60}}),
        ("nightly", {"options": {"calibrations": [{"calibration": "energy-inter"}]}}),
        *(("nightly", {"night": f"2028-{text}"}) for text in ("02-29", "04-30", "10-31", "12-01")),
        ("backfill", {}),
        ("backfill", {"options": {"again": "always"}}),
    ],
)
def test_the_form_accepts(name, changes):
    assert accepts(name, changes)


@pytest.mark.parametrize("name", OBSERVABLES)
@pytest.mark.parametrize("asked", OBSERVABLES)
def test_the_form_of_a_calibration_takes_no_other_one(name, asked):
    given = {"parameters": {"blocks": ["night"], "output": "result", "calibration": asked}}
    own = deployment_schema(DEPLOYMENTS[name], load(name))
    assert is_valid(given, own) == (asked == name)
    field = own["definitions"]["CalibrateParameters"]["properties"]["calibration"]
    assert name in field["description"]


@pytest.mark.parametrize("name", ["nightly", "backfill"])
def test_the_form_of_nights_offers_every_calibration(name):
    assert deployment_schema(DEPLOYMENTS[name], load(name)) == schema(name).model_dump()


def test_a_run_of_a_deployment_is_of_its_calibration():
    asked = CalibrateParameters(calibration="image-inter", blocks=["night"], output="result")
    with pytest.raises(WrongUsage, match=r"energy-inter runs energy-inter, found .*image-inter"):
        of_deployment(asked, "energy-inter")
    for name in ("image-inter", None, "a site's own"):
        assert of_deployment(asked, name) is asked
    unasked = CalibrateParameters(blocks=["night"], output="result")
    assert of_deployment(unasked, "image-inter").calibration == "image-inter"


def test_the_night_needs_no_parameters():
    assert is_valid({}, schema("nightly").model_dump())


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("energy-inter", {"calibration": "energy"}),
        ("energy-inter", {"preset": "energy"}),
        ("energy-inter", {"blocks": []}),
        ("energy-inter", {"blocks": [""]}),
        ("energy-inter", {"output": ""}),
        ("energy-inter", {"output": None}),
        ("energy-inter", {"overrides": ["margin"]}),
        ("energy-inter", {"overwrite": "perhaps"}),
        ("energy-inter", {"unknown": 1}),
        ("nightly", {"night": 20260301}),
        *(
            ("nightly", {"night": text})
            for text in (
                *("garbage", "2026-13-28", "2026-02-30", "2026-04-31", "2026-3-1"),
                *("0001-01-01", "9999-12-31", "2026-03-01T00:00", "20260301"),
            )
        ),
        ("nightly", {"look_back": -1}),
        ("nightly", {"look_back": 61}),
        ("nightly", {"options": {"settle_s": -1}}),
        ("nightly", {"options": {"again": "never"}}),
        ("nightly", {"options": {"blocks": "{day}/*.h5"}}),
        ("nightly", {"options": {"calibrations": []}}),
        ("nightly", {"options": {"calibrations": [{"calibration": "energy"}]}}),
        ("nightly", {"unknown": 1}),
        ("backfill", {"first": None}),
        ("backfill", {"last": "2026-13-28"}),
        ("backfill", {"unknown": 1}),
    ],
)
def test_the_form_refuses_before_a_run_starts(name, changes):
    assert not accepts(name, changes)


@pytest.mark.parametrize("name", VALID)
def test_no_label_of_the_form_is_the_name_of_a_class(name):
    definitions = schema(name).definitions
    titles = [definition["title"] for definition in definitions.values()]
    assert not set(titles) & set(definitions)


def test_simple_fields_of_a_night_come_before_the_boxes_of_its_calibrations():
    fields = schema("nightly").definitions["NightOptions"]["properties"]
    assert list(fields) == ["blocks", "output", "settle_s", "again", "calibrations"]


@pytest.mark.parametrize("name", VALID)
def test_every_field_of_the_form_is_described(name):
    for definition in schema(name).definitions.values():
        fields = definition["properties"]
        assert all(field.get("description") for field in fields.values()), definition
        if "calibration" in fields:
            assert fields["calibration"]["enum"] == list(OBSERVABLES)
