"""Settings of the last `arraycal up`, kept in its folder: every shell starts the same site.

A variable that is set wins over what is remembered, and an empty one makes `up` forget it.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from arraycal.config import plain_yaml
from arraycal.config.errors import ConfigurationError
from arraycal.config.settings import Settings, given_settings, variable

__all__ = ["Changes", "changes", "read_remembered", "remember", "settings_texts", "to_remember"]

#: The key of what is remembered, and no part of it.
HOME = "home"
#: Only read when deployments are registered; the worker does not know them.
REGISTERED = frozenset({"nightly_cron", "nightly_options", "notification_block"})
#: It may hold a password.
SECRET = frozenset(name for name, info in Settings.model_fields.items() if not info.repr)
OWNER_ONLY = 0o600


def settings_texts(settings: Settings) -> dict[str, str]:
    """Settings as texts for the environment, by name; empty where there is none.

    Paths are absolute: they mean the same wherever they are read again.
    """
    return {name: _text(getattr(settings, name)) for name in Settings.model_fields if name != HOME}


def _text(value: object) -> str:
    if isinstance(value, Path):
        return str(value.expanduser().absolute())
    return "" if value is None else str(value)


def read_remembered(file: Path) -> dict[str, str] | None:
    """Read what the last `up` has remembered, by name; None if there was none.

    Raises
    ------
    ConfigurationError
        If the file cannot be understood.
    """
    try:
        content = plain_yaml.parse_yaml(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigurationError(
            f"{file}: the settings of the last `arraycal up` cannot be read ({error}). Set the "
            "variables again and delete the file"
        ) from None
    if not isinstance(content, Mapping):
        raise ConfigurationError(
            f"{file}: expected the settings of the last `arraycal up`, one NAME: value a line. Set "
            "the variables again and delete the file"
        )
    by_variable = {variable(name): name for name in Settings.model_fields if name != HOME}
    return {by_variable[key]: str(text) for key, text in content.items() if key in by_variable}


def to_remember(settings: Settings, before: Mapping[str, str]) -> dict[str, str]:
    """Choose what the next `up` must know: what was given now or before, and not taken back."""
    given = given_settings()
    texts = settings_texts(settings)
    return {
        name: text
        for name, text in texts.items()
        if text and (given.get(name) or (name in before and name not in given))
    }


def remember(file: Path, texts: Mapping[str, str]) -> None:
    """Write settings for the next `up`; nobody but the owner may read them."""
    content = {variable(name): text for name, text in texts.items()}
    temporary = file.with_name(f".{file.name}.tmp")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write("# Settings of the last `arraycal up`; variables that are set win.\n")
        yaml.safe_dump(content, stream, sort_keys=True, allow_unicode=True)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)


class Changes(dict[str, str]):
    """What has changed: names of settings, and a line on each."""

    @property
    def concern_the_worker(self) -> bool:
        """Whether a worker that runs already has other settings."""
        return bool(self.keys() - REGISTERED)


def changes(before: Mapping[str, str], settings: Settings) -> Changes:
    """Compare settings with those of the last `up`.

    Parameters
    ----------
    before : mapping of str to str
        As remembered; what is not there had its default.
    settings : Settings
        Wanted now.
    """
    old = settings_texts(Settings.model_construct()) | dict(before)
    new = settings_texts(settings)
    return Changes(
        {name: _line(name, old[name], new[name]) for name in new if old[name] != new[name]}
    )


def _line(name: str, old: str, new: str) -> str:
    if name in SECRET:
        return f"{variable(name)} is another one"
    return f"{variable(name)} was {old or 'not set'}, is {new or 'not set'}"
