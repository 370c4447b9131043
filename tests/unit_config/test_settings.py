"""Settings come from the environment, and only there."""

import ast
from pathlib import Path

import pytest

import arraycal.config
from arraycal.config.errors import ConfigurationError
from arraycal.config.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(f"ARRAYCAL_{name.upper()}", raising=False)


def test_the_defaults_need_no_environment():
    settings = load_settings()
    assert settings.runner == "threads"
    assert settings.data_root is None
    assert settings.cache_root == Path("~/.cache/arraycal").expanduser()
    assert settings.database_url is None


def test_variables_with_the_prefix_are_read(monkeypatch):
    monkeypatch.setenv("ARRAYCAL_DATA_ROOT", "/data")
    monkeypatch.setenv("ARRAYCAL_RUNNER", "dask")
    monkeypatch.setenv("ARRAYCAL_DASK_ADDRESS", "tcp://scheduler:8786")
    monkeypatch.setenv("ARRAYCAL_LOG_LEVEL", "debug")
    monkeypatch.setenv("ARRAYCAL_OUTPUT_ROOT", "")  # empty is as good as absent
    settings = load_settings()
    assert settings.data_root == Path("/data")
    assert settings.output_root is None
    assert (settings.runner, settings.dask_address) == ("dask", "tcp://scheduler:8786")
    assert settings.log_level == "DEBUG"


def test_a_wrong_value_names_the_variable(monkeypatch):
    monkeypatch.setenv("ARRAYCAL_RUNNER", "fork")
    with pytest.raises(ConfigurationError, match="ARRAYCAL_RUNNER is 'fork', expected 'threads'"):
        load_settings()


def test_a_password_does_not_show_in_the_representation(monkeypatch):
    monkeypatch.setenv("ARRAYCAL_DATABASE_URL", "postgresql://me:secret@host/db")
    assert load_settings().database_url == "postgresql://me:secret@host/db"
    assert "secret" not in repr(load_settings())


def test_every_setting_is_described():
    for name, info in Settings.model_fields.items():
        assert info.description, name


def test_only_settings_reads_the_environment_and_nothing_imports_the_other_packages():
    forbidden = {"calib", "tasks", "flows", "polars", "prefect", "h5py"}
    for path in Path(arraycal.config.__file__).parent.glob("*.py"):
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
        assert not names & forbidden, path
        if path.name != "settings.py":
            assert not names & {"os", "pydantic_settings"}, path
