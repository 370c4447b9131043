"""What one `up` remembers for the next: given once, kept, taken back, never shown to others."""

import pytest

from arraycal.config.errors import ConfigurationError
from arraycal.config.settings import Settings, given_settings, load_settings, variable
from arraycal.flows.jobs.remembered import (
    changes,
    read_remembered,
    remember,
    settings_texts,
    to_remember,
)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "settings.yaml"


def up(file):
    """Settings of an `up`, which the file remembers."""
    before = read_remembered(file) or {}
    settings = load_settings(before, str(file))
    remember(file, to_remember(settings, before))
    return settings


def test_a_bare_shell_gets_what_was_given_before(file, monkeypatch):
    monkeypatch.setenv("ARRAYCAL_NIGHTLY_CRON", "15 9 * * *")
    monkeypatch.setenv("ARRAYCAL_DATA_ROOT", "/srv/data")
    first = up(file)
    monkeypatch.delenv("ARRAYCAL_NIGHTLY_CRON")
    monkeypatch.delenv("ARRAYCAL_DATA_ROOT")
    assert up(file) == first
    assert up(file).nightly_cron == "15 9 * * *"


def test_a_variable_that_is_set_wins_and_an_empty_one_makes_forget(file, monkeypatch):
    monkeypatch.setenv("ARRAYCAL_TIME_ZONE", "Atlantic/Canary")
    monkeypatch.setenv("ARRAYCAL_NOTIFICATION_BLOCK", "slack-webhook/array")
    up(file)
    monkeypatch.setenv("ARRAYCAL_TIME_ZONE", "America/Santiago")
    monkeypatch.setenv("ARRAYCAL_NOTIFICATION_BLOCK", "")
    assert up(file).time_zone == "America/Santiago"
    assert read_remembered(file) == {"time_zone": "America/Santiago"}


def test_a_relative_folder_means_the_same_from_another_one(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARRAYCAL_OUTPUT_ROOT", "results")
    up(file)
    assert read_remembered(file) == {"output_root": str(tmp_path / "results")}


def test_defaults_are_not_remembered(file):
    up(file)
    assert read_remembered(file) == {}


def test_nobody_else_may_read_it(file, monkeypatch):
    monkeypatch.setenv("ARRAYCAL_DATABASE_URL", "postgresql://me:secret@host/db")
    file.write_text("{}")
    file.chmod(0o644)
    up(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_what_has_changed_is_named_without_passwords(monkeypatch):
    before = {"database_url": "postgresql://me:old@host/db", "time_zone": "Atlantic/Canary"}
    monkeypatch.setenv("ARRAYCAL_DATABASE_URL", "postgresql://me:new@host/db")
    found = changes(before, load_settings())
    assert dict(found) == {
        "database_url": "ARRAYCAL_DATABASE_URL is another one",
        "time_zone": "ARRAYCAL_TIME_ZONE was Atlantic/Canary, is UTC",
    }
    assert found.concern_the_worker


def test_a_default_that_is_given_is_no_change(monkeypatch):
    for name, text in settings_texts(load_settings()).items():
        if text:
            monkeypatch.setenv(variable(name), text)
    assert given_settings()
    assert not changes({}, load_settings())


def test_the_hour_of_the_schedule_does_not_concern_the_worker(monkeypatch):
    monkeypatch.setenv("ARRAYCAL_NIGHTLY_CRON", "15 9 * * *")
    found = changes({}, load_settings())
    assert list(found) == ["nightly_cron"]
    assert not found.concern_the_worker


def test_a_wrong_value_that_is_remembered_names_the_file(file):
    file.write_text("ARRAYCAL_RUNNER: fork\n")
    with pytest.raises(ConfigurationError, match=f"{file}: ARRAYCAL_RUNNER is 'fork'"):
        up(file)


@pytest.mark.parametrize("text", ["- a list", "{", "ARRAYCAL_RUNNER"])
def test_a_file_that_makes_no_sense_is_named_with_a_way_out(file, text):
    file.write_text(text)
    with pytest.raises(ConfigurationError, match="delete the file") as caught:
        up(file)
    assert str(file) in str(caught.value)


def test_settings_of_a_later_version_are_left_out(file):
    file.write_text("ARRAYCAL_TIME_ZONE: UTC\nARRAYCAL_TELEPATHY: 1\n")
    assert read_remembered(file) == {"time_zone": "UTC"}
