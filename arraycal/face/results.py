"""Results, to look at, to draw, to write and to hand on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from arraycal.calib.column_descriptions import describe
from arraycal.calib.errors import NothingToDo, WrongUsage
from arraycal.calib.figures import FIGURES, draw_figures
from arraycal.calib.observables import OBSERVABLES
from arraycal.calib.publish.reading import read_result
from arraycal.calib.publish.writing import publish
from arraycal.calib.result.result import CLOCK_OFFSET
from arraycal.config.messages import did_you_mean
from arraycal.face.display import html_paragraph, html_table, text_table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from astropy.table import QTable
    from matplotlib.figure import Figure

    from arraycal.calib.publish.writing import Published
    from arraycal.calib.result.result import CalibrationResult, Verdict

__all__ = ["Result", "load"]

#: What a short view says of each telescope.
SHOWN = ("tel_type", "tel_id", "value", "error", "systematic", "n_events", "flag", "reason")
#: Columns of the coefficients in the unit of the value.
IN_ITS_UNIT = ("value", "error", "systematic")


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """Coefficients of the telescopes of an array, with everything that explains them.

    Parameters
    ----------
    details : CalibrationResult
        All there is; the properties are its main parts.
    folder : Path, optional
        Where it was read from.
    """

    details: CalibrationResult
    folder: Path | None = None

    @property
    def calibration(self) -> str:
        """Which calibration it is."""
        return self.details.calibration

    @property
    def verdict(self) -> Verdict:
        """Whether the result may be used (``.status``), why not, and what could not be tested."""
        return self.details.verdict

    @property
    def telescopes(self) -> pl.DataFrame:
        """One row per telescope: value, error, systematic, flag, reason and so on."""
        return self.details.telescopes

    @property
    def pairs(self) -> pl.DataFrame:
        """One row per pair of telescopes: what was measured, and what the coefficients say."""
        return self.details.pairs

    @property
    def blocks(self) -> pl.DataFrame:
        """One row per block, those that were left out included."""
        return self.details.blocks

    @property
    def rejected(self) -> pl.DataFrame:
        """Rows that were left out, by the first rule that refused them."""
        return self.details.rejected

    @property
    def tables(self) -> dict[str, pl.DataFrame]:
        """Tables of this calibration alone, by name."""
        return self.details.extras

    @property
    def covariance(self) -> npt.NDArray[np.float64]:
        """Covariance of the coefficients, in the order of `tel_ids`."""
        return self.details.covariance

    @property
    def tel_ids(self) -> tuple[int, ...]:
        """Telescopes that have a coefficient: rows of the covariance."""
        return self.details.tel_ids

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the figures that `figure` draws."""
        return tuple(FIGURES)

    def figure(self, name: str) -> Figure:
        """Draw a figure of the report.

        Parameters
        ----------
        name : str
            One of `figures`.

        Returns
        -------
        matplotlib.figure.Figure
            Not known to pyplot: a notebook shows it, ``savefig`` writes it.

        Raises
        ------
        WrongUsage
            If there is no such figure.
        NothingToDo
            If the result has nothing to show in it.
        """
        if name not in FIGURES:
            raise WrongUsage(
                f"there is no figure {name!r}{did_you_mean(name, FIGURES)}; there are "
                f"{', '.join(FIGURES)}"
            )
        drawn = draw_figures(self.details, [name])
        if name not in drawn:
            raise NothingToDo(f"this result of {self.calibration} has nothing to show as {name!r}.")
        return drawn[name]

    def write(self, folder: str | Path, *, overwrite: bool = False) -> Published:
        """Write ``monitoring.h5``, ``result.json`` and ``report.html``, all or none.

        Parameters
        ----------
        folder : str or Path
            Created if missing.
        overwrite : bool
            Replace results that are there.

        Returns
        -------
        Published
            The files.

        Raises
        ------
        WrongUsage
            If results are there, or this one was read from a folder itself.
        OSError
            If the folder cannot be written; nothing in it has changed then.
        """
        if self.folder is not None:
            # The monitoring file holds tables that nothing reads back.
            raise WrongUsage(f"the result was read from {self.folder}: copy that folder instead.")
        observable = OBSERVABLES[self.calibration]
        return publish(self.details, observable, Path(folder), overwrite=overwrite)

    def to_astropy(self) -> QTable:
        """Return the telescopes as an astropy table, with units and descriptions.

        Returns
        -------
        astropy.table.QTable
            Columns of `telescopes`; its ``meta`` has calibration, verdict and observations.
        """
        from astropy.table import QTable
        from astropy.units import Unit

        quantity = self.details.quantity
        table = QTable(
            meta={
                "calibration": self.calibration,
                "quantity": quantity.name,
                "verdict": self.verdict.status,
                "reasons": list(self.verdict.reasons),
                "untested": list(self.verdict.untested),
                "obs_ids": list(self.details.obs_ids),
            }
        )
        for series in self.telescopes:
            is_text = series.dtype == pl.String
            values = series.fill_null("").to_list() if is_text else series.to_numpy()
            said = describe(series.name, "telescopes", clocks=quantity is CLOCK_OFFSET)
            table[series.name] = values * Unit(said.unit) if said.unit else values
            table[series.name].info.description = said.description
        return table

    def __repr__(self) -> str:
        return "\n".join([self._title, text_table(self._coefficients, self._digits)])

    def _repr_html_(self) -> str:
        untested = [f"not tested: {text}" for text in self.verdict.untested]
        return "".join(
            [
                *map(html_paragraph, [self._title, *untested]),
                html_table(self._coefficients, self._digits),
            ]
        )

    @property
    def _title(self) -> str:
        return f"{self.calibration}, {self.details.quantity.label}: {self.verdict}"

    @property
    def _digits(self) -> int:
        return self.details.quantity.digits

    @property
    def _coefficients(self) -> pl.DataFrame:
        return self.telescopes.select(SHOWN)


def load(folder: str | Path) -> Result:
    """Read a result from its folder.

    Parameters
    ----------
    folder : str or Path
        With ``result.json`` and ``monitoring.h5``.

    Returns
    -------
    Result
        As it was written.

    Raises
    ------
    WrongUsage
        If there is no result.
    CannotCompute
        If a file is damaged.
    """
    return Result(read_result(Path(folder)), Path(folder))
