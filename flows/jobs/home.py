"""The folder of `arraycal up`: where its state is."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["POOL", "Home"]

#: Work pool of our deployments.
POOL = "arraycal"


@dataclass(frozen=True)
class Home:
    """Where the state is.

    Parameters
    ----------
    folder : Path
        ARRAYCAL_HOME.
    """

    folder: Path

    @property
    def prefect(self) -> Path:
        """Database and settings of the server."""
        return self.folder / "prefect"

    @property
    def port(self) -> Path:
        """Port of the last server: addresses that people keep stay the same."""
        return self.folder / "port"

    @property
    def settings(self) -> Path:
        """Settings of the last `up`."""
        return self.folder / "settings.yaml"

    def file(self, name: str) -> Path:
        """File of a process."""
        return self.folder / f"{name}.json"

    def log(self, name: str) -> Path:
        """What a process prints."""
        return self.folder / "logs" / f"{name}.log"
