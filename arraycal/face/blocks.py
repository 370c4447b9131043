"""Block files in, their rows out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from arraycal.calib.blocks.stage import block_table
from arraycal.config.settings import load_settings
from arraycal.face.calibrations import Calibration, as_calibration
from arraycal.face.display import html_paragraph, html_table, text_table
from arraycal.flows.jobs.path_patterns import find_blocks
from arraycal.tasks.one_thread import one_polars_thread
from arraycal.tasks.workers import block_stage, cpu_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arraycal.calib.blocks.stage import BlockPairs

    Paths = str | Path | Sequence[str | Path]

__all__ = ["Blocks", "read"]

#: What a short view of blocks says of each.
SHOWN = ("path", "status", "n_events", "n_pairs", "cached", "reason")


@dataclass(frozen=True, repr=False)
class Blocks:
    """Rows of blocks, read for one calibration, and what became of each file.

    Parameters
    ----------
    calibration : Calibration
        What they were read for.
    outcomes : tuple of BlockPairs
        One for each file, those that cannot be used included.
    cache : Path
        Folder of the rows.
    """

    calibration: Calibration
    outcomes: tuple[BlockPairs, ...]
    cache: Path

    @property
    def table(self) -> pl.DataFrame:
        """One row per file: path, status, reason, obs_ids, n_events, n_pairs and so on."""
        return block_table(self.outcomes)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files."""
        return tuple(outcome.path for outcome in self.outcomes)

    @property
    def rows(self) -> pl.LazyFrame:
        """Rows of all usable blocks: of telescopes or of pairs of them, or time stamps.

        Pairs where the calibration looks at pairs, time stamps for ``timing-cross``; see
        `arraycal.calib.schema`.
        """
        parts = [outcome.entry.scan() for outcome in self.outcomes if outcome.entry]
        return pl.concat(parts) if parts else pl.LazyFrame()

    def __len__(self) -> int:
        return len(self.outcomes)

    def __repr__(self) -> str:
        return f"{self._title}\n{text_table(self.table.select(SHOWN))}"

    def _repr_html_(self) -> str:
        return html_paragraph(self._title) + html_table(self.table.select(SHOWN))

    @property
    def _title(self) -> str:
        usable = sum(outcome.status == "ok" for outcome in self.outcomes)
        return f"Blocks for {self.calibration.name}: {usable} of {len(self)} can be used"


def read(
    paths: Paths,
    calibration: Calibration | str,
    *,
    cache: str | Path | None = None,
    workers: int = 0,
) -> Blocks:
    """Read block files for a calibration, or find their rows where they were read before.

    Parameters
    ----------
    paths : str, Path or sequence of them
        DL2 files, folders (their ``*.dl2.h5``) or patterns such as ``night/**/*.dl2.h5``.
    calibration : Calibration or str
        Of `preset`, or the name of one.
    cache : str or Path, optional
        Folder that keeps the rows; by default that of the machine (``ARRAYCAL_CACHE_ROOT``, else
        ``~/.cache/arraycal``).
    workers : int
        Number of blocks at a time; 0 for one per CPU.

    Returns
    -------
    Blocks
        A file that cannot be used is among them, with the reason.

    Raises
    ------
    ConfigurationError
        If no file is found, or the configuration is wrong.
    OSError
        If the cache cannot be written.
    """
    chosen, settings = as_calibration(calibration), load_settings()
    if cache is not None:
        settings = settings.model_copy(update={"cache_root": Path(cache).expanduser()})
    texts = [paths] if isinstance(paths, str | Path) else paths
    found = find_blocks(map(str, texts))
    n = min(workers or cpu_count(), len(found))
    with (
        block_stage(
            chosen.observable, chosen.configuration, settings, n, one_polars_thread
        ) as stage,
        ThreadPoolExecutor(n) as pool,
    ):
        outcomes = tuple(pool.map(stage, found))
    return Blocks(chosen, outcomes, settings.cache_root)
