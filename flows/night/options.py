"""Options of nights from a YAML file: those of the form in the Prefect UI."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from arraycal.config import plain_yaml
from arraycal.config.errors import ConfigurationError, shown
from arraycal.config.messages import did_you_mean, known_keys
from arraycal.flows.jobs.parameters import NightOptions

__all__ = ["checked", "explain_options", "read_options"]


def read_options(path: Path | None, name: str) -> dict[str, Any]:
    """Read options by name, as they stand in a file.

    Parameters
    ----------
    path : Path or None
        The file; None for no options.
    name : str
        Of the option or variable that names the file, for messages.

    Returns
    -------
    dict
        Not checked yet: see `checked`.

    Raises
    ------
    ConfigurationError
        If the file cannot be read or holds something else.
    """
    if path is None:
        return {}
    try:
        content = plain_yaml.parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{name} {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{name} {path}: no YAML file ({error})") from None
    if not isinstance(content, dict):
        raise ConfigurationError(f"{name} {path}: expected options by name, found {shown(content)}")
    return content


def checked(options: Mapping[str, Any]) -> NightOptions:
    """Make options from what a file holds.

    Raises
    ------
    ConfigurationError
        If one is unknown or out of bounds.
    """
    try:
        return NightOptions.model_validate(options)
    except ValidationError as error:
        raise ConfigurationError(explain_options(error, NightOptions)) from None


def explain_options(error: ValidationError, model: type[BaseModel]) -> str:
    """One sentence per mistake of what should have become a model."""
    return "; ".join(_problem(item, model) for item in error.errors())


def _problem(item: Mapping[str, Any], model: type[BaseModel]) -> str:
    name = ".".join(str(part) for part in item["loc"] if part != "options")
    if item["type"] == "extra_forbidden":
        known = known_keys(item["loc"], model)
        return f"unknown option {name!r}{did_you_mean(str(item['loc'][-1]), known)}"
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{name}: {message} (found {shown(item['input'])})"
