"""Who wants to hear how far a run is: nobody in a deployment, the terminal otherwise."""

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arraycal.calib.blocks.stage import BlockPairs
    from arraycal.calib.nights.record import NightRecord
    from arraycal.calib.publish.writing import Published
    from arraycal.calib.result.result import CalibrationResult
    from arraycal.config.settings import Settings

__all__ = ["LISTENER", "Listener"]


class Listener:
    """Hears of every step; this one keeps it to itself.

    Attributes
    ----------
    command : str
        The command line that started the run, for the provenance; empty without one.
    workers : int
        Blocks at a time; 0 for one per CPU, or per thread of the Dask workers.
    settings : Settings or None
        Those that the command line has made out for the nights; None for those of the site.
    """

    command: str = ""
    workers: int = 0
    settings: "Settings | None" = None

    def started(self, n_blocks: int) -> None:
        """Hear that the blocks are about to be read."""

    def block_done(self, block: "BlockPairs") -> None:
        """Hear that a block is done."""

    def remark(self, text: str) -> None:
        """Hear of what goes wrong on the way and does not stop the run."""

    def solving(self) -> None:
        """Hear that all blocks are done."""

    def stopping(self) -> None:
        """Hear that the run was interrupted and waits for the blocks under way."""

    def finished(self, result: "CalibrationResult", published: "Published") -> None:
        """Hear of the result and where it is."""

    def not_recorded(self, reason: str) -> None:
        """Hear that the history did not take the result, which is published all the same."""

    def nights_finished(self, records: "Sequence[NightRecord]") -> None:
        """Hear of the verdicts on nights."""


#: The flow is called in the context of the command line, so that this reaches its body.
LISTENER: ContextVar[Listener] = ContextVar("arraycal_listener", default=Listener())  # noqa: B039  it holds nothing
