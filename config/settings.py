"""Where things are and how much runs at once: what depends on the machine, not on the science.

The only module that reads environment variables: ``ARRAYCAL_DATA_ROOT`` and so on.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from arraycal.config.errors import ConfigurationError
from arraycal.config.messages import Origins, explain

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Settings", "given_settings", "load_settings", "variable"]

PREFIX = "ARRAYCAL_"
#: The history, unless a database is named.
HISTORY_FILE = "history.sqlite"
#: Folders of a site inside its home, unless others are named.
DATA_FOLDER, OUTPUT_FOLDER = "data", "output"


class Settings(BaseSettings):
    """Settings of one machine, from ``ARRAYCAL_*`` variables."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid"
    )

    data_root: Path | None = Field(
        None,
        description="Folder that relative block paths start from. Nights without one are in the "
        "folder data of the home folder.",
    )
    output_root: Path | None = Field(
        None,
        description="Folder that relative outputs start from. Nights without one go to the folder "
        "output of the home folder.",
    )
    cache_root: Path = Field(
        Path("~/.cache/arraycal"), description="Folder of intermediate tables, safe to delete."
    )
    home: Path = Field(
        Path("~/.local/share/arraycal"),
        description="Folder of `arraycal up`: database and logs of its server, and, unless others "
        "are named, the folders of data and output.",
    )
    database_url: str | None = Field(
        None,
        description="SQLAlchemy URL of the history; None for history.sqlite in the output folder. "
        "If set, every run is recorded.",
        repr=False,  # it may hold a password
    )
    runner: Literal["threads", "processes", "dask"] = Field(
        "threads", description="What runs the blocks of a flow side by side."
    )
    dask_address: str | None = Field(
        None, description="Scheduler to use with runner 'dask'; None starts a local cluster."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        "INFO", description="Least severity that is logged."
    )

    time_zone: str = Field(
        "UTC", description="Time zone of the site: a night goes from noon to noon there."
    )
    nightly_cron: str = Field(
        "30 8 * * *", description="When the scheduled calibration of a night starts, local time."
    )
    nightly_options: Path | None = Field(
        None,
        description="YAML file with options of the nightly and backfill deployments: calibrations "
        "with preset, config and overrides, blocks, output, settle_s, again.",
    )
    auth: str | None = Field(
        None,
        description="USER:PASSWORD that UI and API of the server of `arraycal up` ask for; None "
        "for no password.",
        repr=False,
    )
    notification_block: str | None = Field(
        None,
        pattern=r"^[a-z0-9-]+/[a-z0-9-]+$",
        description="Prefect block TYPE/NAME that is told of failed, late and degraded runs, such "
        "as slack-webhook/array; None tells nobody.",
    )

    @property
    def history_url(self) -> str:
        """SQLAlchemy URL of the history, the default one if none is set."""
        if self.database_url is not None:
            return self.database_url
        return f"sqlite:///{self.output_folder / HISTORY_FILE}"

    @property
    def data_folder(self) -> Path:
        """Folder of the blocks of nights, absolute: the one named, else one in the home folder."""
        return (self.data_root or self.home / DATA_FOLDER).absolute()

    @property
    def output_folder(self) -> Path:
        """Folder of the results of nights, absolute: the one named, else one in the home folder."""
        return (self.output_root or self.home / OUTPUT_FOLDER).absolute()

    @field_validator("time_zone", mode="after")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ValueError(
                f"there is no time zone {name!r}; expected a name such as UTC, Atlantic/Canary or "
                "America/Santiago"
            ) from None
        return name

    @field_validator("auth", mode="after")
    @classmethod
    def _has_user_and_password(cls, text: str | None) -> str | None:
        if text is not None and not all(text.partition(":")):
            raise ValueError("expected USER:PASSWORD, found no user or no password")
        return text

    @field_validator(
        "data_root", "output_root", "cache_root", "home", "nightly_options", mode="after"
    )
    @classmethod
    def _expand_home(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser()

    @field_validator("log_level", mode="before")
    @classmethod
    def _accept_lower_case(cls, raw: object) -> object:
        return raw.upper() if isinstance(raw, str) else raw


def variable(name: str) -> str:
    """Environment variable of a setting.

    Examples
    --------
    >>> variable("data_root")
    'ARRAYCAL_DATA_ROOT'
    """
    return f"{PREFIX}{name.upper()}"


def given_settings() -> dict[str, str]:
    """Texts of the settings that the environment names, the empty ones included, by name."""
    by_variable = {variable(name): name for name in Settings.model_fields}
    return {
        by_variable[key.upper()]: text
        for key, text in os.environ.items()
        if key.upper() in by_variable
    }


def load_settings(
    remembered: Mapping[str, str] = MappingProxyType({}), source: str = "remembered"
) -> Settings:
    """Read the settings from the environment.

    Parameters
    ----------
    remembered : mapping of str to str, optional
        Settings by name, for those that the environment does not name.
    source : str, optional
        Where these come from, for messages.

    Raises
    ------
    ConfigurationError
        If a variable holds what its setting does not allow; the message names the variable.
    """
    given = given_settings()
    kept: dict[str, Any] = {name: text for name, text in remembered.items() if name not in given}
    try:
        return Settings(**kept)
    except ValidationError as error:
        origins: Origins = {
            (name,): (source if name in kept else "environment", variable(name))
            for name in Settings.model_fields
        }
        raise ConfigurationError(explain(error, Settings, origins)) from None
