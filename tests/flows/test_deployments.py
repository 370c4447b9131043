"""deployments/prefect.yaml: what Prefect would silently ignore is found here."""

from pathlib import Path

import pytest
import yaml
from prefect.cli.deploy._models import DeploymentConfig, PrefectYamlModel
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import is_valid

from calib.observables import OBSERVABLES

FILE = Path(__file__).parents[2] / "deployments" / "prefect.yaml"
CONTENT = yaml.safe_load(FILE.read_text(encoding="utf-8"))
DEPLOYMENTS = {item["name"]: item for item in CONTENT["deployments"]}


def schema():
    return parameter_schema(load("calibrate"))


def load(name):
    return load_flow_from_entrypoint(DEPLOYMENTS[name]["entrypoint"], use_placeholder_flow=False)


def test_the_file_fits_the_model_of_prefect():
    PrefectYamlModel.model_validate(CONTENT)
    assert set(CONTENT) <= set(PrefectYamlModel.model_fields)


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_no_key_of_a_deployment_is_unknown(name):
    assert set(DEPLOYMENTS[name]) <= set(DeploymentConfig.model_fields)


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_the_entry_point_of_a_deployment_is_its_flow(name):
    assert load(name).name == name


def test_the_flow_of_the_file_is_the_flow_of_the_module():
    # Loaded by path, the same flow is another object; its tasks must still be found.
    path = Path(__file__).parents[2] / "flows" / "calibrate.py"
    assert (
        load_flow_from_entrypoint(f"{path}:calibrate", use_placeholder_flow=False).name
        == "calibrate"
    )


def valid(**changes):
    return {"parameters": {"blocks": ["night"], "output": "result"} | changes}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"calibration": "energy-inter", "preset": "energy-inter-peer", "overwrite": True},
        {"overrides": ["CalculateAsymmetry.event_filters.min_energy=50 GeV"]},
    ],
)
def test_the_form_accepts(changes):
    assert is_valid(valid(**changes), schema().model_dump())


@pytest.mark.parametrize(
    "changes",
    [
        {"calibration": "energy"},
        {"preset": "energy"},
        {"blocks": []},
        {"blocks": [""]},
        {"output": ""},
        {"output": None},
        {"overrides": ["margin"]},
        {"overwrite": "perhaps"},
        {"unknown": 1},
    ],
)
def test_the_form_refuses_before_a_run_starts(changes):
    assert not is_valid(valid(**changes), schema().model_dump())


def test_every_field_of_the_form_is_described():
    fields = next(iter(schema().definitions.values()))["properties"]
    assert all(field.get("description") for field in fields.values())
    assert fields["calibration"]["enum"] == list(OBSERVABLES)
