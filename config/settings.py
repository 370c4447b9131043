"""Where things are and how much runs at once: what depends on the machine, not on the science.

The only module that reads environment variables: ``ARRAYCAL_DATA_ROOT`` and so on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from config.errors import ConfigurationError
from config.messages import Origins, explain

__all__ = ["Settings", "load_settings"]

PREFIX = "ARRAYCAL_"


class Settings(BaseSettings):
    """Settings of one machine, from ``ARRAYCAL_*`` variables."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid"
    )

    data_root: Path | None = Field(None, description="Folder that relative block paths start from.")
    output_root: Path | None = Field(None, description="Folder that relative outputs start from.")
    cache_root: Path = Field(
        Path("~/.cache/arraycal"), description="Folder of intermediate tables, safe to delete."
    )
    database_url: str | None = Field(
        None,
        description="SQLAlchemy URL of the history; None for the default file.",
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

    @field_validator("data_root", "output_root", "cache_root", mode="after")
    @classmethod
    def _expand_home(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser()

    @field_validator("log_level", mode="before")
    @classmethod
    def _accept_lower_case(cls, raw: object) -> object:
        return raw.upper() if isinstance(raw, str) else raw


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises
    ------
    ConfigurationError
        If a variable holds what its setting does not allow; the message names the variable.
    """
    try:
        return Settings()
    except ValidationError as error:
        origins: Origins = {
            (name,): ("environment", f"{PREFIX}{name.upper()}") for name in Settings.model_fields
        }
        raise ConfigurationError(explain(error, Settings, origins)) from None
