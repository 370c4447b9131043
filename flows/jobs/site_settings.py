"""Settings of the site on this machine: those that the service of `arraycal up` runs with.

Commands about nights use the same folders as the service, without any variable in the shell.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arraycal.calib.history.known import sqlite_path
from arraycal.config.settings import Settings, given_settings, load_settings, variable
from arraycal.flows.jobs.home import Home
from arraycal.flows.jobs.path_patterns import fixed_part
from arraycal.flows.jobs.remembered import read_remembered

__all__ = ["Site", "find_site", "run_settings"]

#: As `arraycal up` shows them.
LABELS = {"data_root": "data", "output_root": "results"}
DEFAULT = f"default, in {variable('home')}"


@dataclass(frozen=True)
class Site:
    """Settings of the site, and who has said so.

    Parameters
    ----------
    settings : Settings
        With a data and an output folder, the default ones if none are named.
    named : frozenset of str
        Settings that a variable of this shell names.
    remembered : frozenset of str
        Settings that the last `arraycal up` has remembered and no variable names.
    file : Path
        Where it has.
    remark : str
        What should be known of that file; empty for nothing.
    """

    settings: Settings
    named: frozenset[str]
    remembered: frozenset[str]
    file: Path
    remark: str = ""

    def folder_lines(self, name: str) -> list[str]:
        """Say which folder is used and why; nothing if a variable names it.

        Parameters
        ----------
        name : {"data_root", "output_root"}
            Its setting.
        """
        if name in self.named:
            return []
        return [f"{LABELS[name]:10}{getattr(self.settings, name)} ({self._source(name)})"]

    def history_lines(self) -> list[str]:
        """Say which history is used and why; nothing if a variable names it or its folder."""
        if "database_url" in self.named:
            return []
        name = "database_url" if "database_url" in self.remembered else "output_root"
        if name in self.named:
            return []
        remark = [self.remark] if self.remark else []
        place = sqlite_path(self.settings.history_url) or "a database server"
        line = f"{'history':10}{place} ({self._source(name)})"
        return [*remark, line]

    def with_places(self, blocks: str | None, output: str | None) -> Settings:
        """Settings for nights whose blocks or results are at absolute places.

        One that lies outside the folder of the site stands for itself where no variable forbids
        it: a folder of results there is an experiment, and not recorded unless a variable says so.

        Parameters
        ----------
        blocks, output : str or None
            Pattern and folder; relative ones and None are in the folders of the site.
        """
        changes: dict[str, Any] = {}
        if self._is_elsewhere("data_root", blocks):
            changes["data_root"] = None
        if self._is_elsewhere("output_root", output):
            changes["output_root"] = None
            if "database_url" in self.remembered:
                changes["database_url"] = None
        return self.settings.model_copy(update=changes)

    def _is_elsewhere(self, name: str, text: str | None) -> bool:
        if text is None or name in self.named:
            return False
        place = fixed_part(Path(text))
        root: Path = getattr(self.settings, name)
        return place.is_absolute() and not place.resolve().is_relative_to(root.resolve())

    def _source(self, name: str) -> str:
        return f"remembered in {self.file}" if name in self.remembered else DEFAULT


def find_site() -> Site:
    """Find the settings of the site: variables, then what `up` remembers, then the defaults.

    Raises
    ------
    ConfigurationError
        If a setting cannot be, or what is remembered cannot be understood.
    """
    file = Home(load_settings().home.absolute()).settings
    before, remark = _remembered(file)
    given = given_settings()
    settings = load_settings(before, str(file))
    folders = {"data_root": settings.data_folder, "output_root": settings.output_folder}
    return Site(
        settings.model_copy(update=folders),
        named=frozenset(name for name, text in given.items() if text),
        remembered=frozenset(before.keys() - given.keys()),
        file=file,
        remark=remark,
    )


def _remembered(file: Path) -> tuple[dict[str, str], str]:
    """Read what is remembered, if this user may: it is for the eyes of its owner."""
    try:
        file.open().close()
    except PermissionError:
        return {}, f"{file}: this user may not read the settings of the last `arraycal up`"
    except OSError:  # there is none, or `read_remembered` says what is wrong
        pass
    return read_remembered(file) or {}, ""


def run_settings(record: str) -> Settings:
    """Settings of a single calibration: its paths are those of the shell.

    Parameters
    ----------
    record : str
        ``yes`` puts the result into the history of the site, under a night on its clock.
    """
    settings = load_settings()
    is_named = settings.database_url is not None or settings.output_root is not None
    if record != "yes" or is_named:
        return settings
    site = find_site().settings
    changes = {"database_url": site.history_url, "time_zone": site.time_zone}
    return settings.model_copy(update=changes)
