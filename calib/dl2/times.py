"""Times of a file as plain seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.hdf5.table import Table

__all__ = ["seconds"]

SECONDS_PER_DAY = 86400.0
#: Modified Julian day of 1970-01-01.
EPOCH_MJD = 40587.0
#: Unit of the second number of ``ctao_high_res``, s.
QUARTER_NANOSECOND = 0.25e-9


def seconds(table: Table, column: str, rows: npt.NDArray[np.void]) -> npt.NDArray[np.float64]:
    """Read a time column.

    Parameters
    ----------
    table : Table
        The table.
    column : str
        One of its times: two integers (``ctao_high_res``) or a modified Julian day.
    rows : structured array
        Rows of it.

    Returns
    -------
    array, shape (n_rows,)
        Seconds since 1970-01-01 in the time scale of the file (TAI in those of ctapipe), good to
        0.2 us; NaN where no time was taken. Compare trigger times in their own integers instead.
    """
    values = table.column(column, rows)
    if values.ndim > 1:
        time = values[:, 0] + QUARTER_NANOSECOND * values[:, 1]
        missing = ~values.any(axis=1)
    else:
        time = (values - EPOCH_MJD) * SECONDS_PER_DAY
        missing = ~(values > 0)
    return np.where(missing, np.nan, time)
