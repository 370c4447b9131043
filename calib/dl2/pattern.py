"""Which telescopes triggered in each shower, as the trigger table of the array says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.subarray import MAX_TEL_ID

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    import numpy.typing as npt

    Bools = npt.NDArray[np.bool_]
    Keys = npt.NDArray[np.int64]

__all__ = ["Pattern"]


@dataclass(frozen=True)
class Pattern:
    """Telescopes of every shower, as packed bits.

    Parameters
    ----------
    showers : array of int64
        Numbers of the showers; sorted, all different.
    masks : array of uint8, shape (n_showers, n_bytes)
        A bit for each telescope of the layout, in its order.
    layout : sequence of int
        Ids of these telescopes.
    """

    showers: Keys
    masks: npt.NDArray[np.uint8]
    layout: Sequence[int]

    def telescopes(self) -> Iterator[tuple[int, Bools]]:
        """Yield every telescope, and in which showers it triggered."""
        for column, tel_id in enumerate(self.layout):
            bit = self.masks[:, column // 8] >> (7 - column % 8) & 1
            yield tel_id, bit.astype(np.bool_)

    def lacks(self, keys: Keys, tel_ids: npt.NDArray[Any]) -> Bools:
        """Tell which rows are of a telescope that did not trigger in that shower.

        Parameters
        ----------
        keys : array of int64, shape (n_rows,)
            Numbers of showers; of those without a pattern nothing is said.
        tel_ids : array of int, shape (n_rows,)
            Telescopes; of those that the layout does not list nothing is said, either.
        """
        if not self.showers.size:
            return np.zeros(len(keys), np.bool_)
        columns = np.full(MAX_TEL_ID + 1, -1)
        columns[list(self.layout)] = np.arange(len(self.layout))
        column = columns[tel_ids.astype(np.int64).clip(0, MAX_TEL_ID)]
        place = np.searchsorted(self.showers, keys).clip(max=len(self.showers) - 1)
        bit = self.masks[place, column // 8] >> (7 - column % 8).astype(np.uint8) & 1
        return np.asarray((self.showers[place] == keys) & (column >= 0) & (bit == 0))
