"""How many selected telescopes of each type a shower has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from arraycal.calib.schema import PARTICIPATION

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.subarray import Subarray

    Indices = npt.NDArray[np.intp]

__all__ = ["Company"]


@dataclass
class Company:
    """Which showers have at least so many selected telescopes of which types.

    Counts the pairs across types that it refuses.
    """

    shower: Indices
    node: Indices
    kinds: Indices
    enough: npt.NDArray[np.bool_]
    least: int
    refused: int = 0

    @classmethod
    def of(cls, shower: Indices, node: Indices, subarray: Subarray, least: int) -> Company:
        """Count the telescopes of each type in every shower; `enough` is (n_showers, n_types)."""
        kinds, n_types = subarray.type_codes, len(set(subarray.types))
        n_showers = int(shower.max(initial=-1)) + 1
        counts = np.bincount(shower * n_types + kinds[node], minlength=n_showers * n_types)
        return cls(shower, node, kinds, counts.reshape(n_showers, n_types) >= least, least)

    def passing(
        self, pair: tuple[int, int], first: Indices, second: Indices
    ) -> tuple[Indices, Indices]:
        """Return the matches of a pair; across types, those whose shower has enough of both."""
        one, two = self.kinds[list(pair)]
        if one == two or not len(first):
            return first, second
        of_row = self.enough[self.shower[first]]
        kept = np.flatnonzero(of_row[:, one] & of_row[:, two])
        self.refused += len(first) - len(kept)
        return first[kept], second[kept]

    def participation(self, subarray: Subarray) -> pl.DataFrame:
        """PARTICIPATION of every telescope beside every other type."""
        kind = self.kinds[self.node]
        of_row = self.enough[self.shower]
        own = of_row[np.arange(len(kind)), kind]
        frames = [PARTICIPATION.to_frame()]
        for code, name in enumerate(sorted(set(subarray.types))):
            counted = own & of_row[:, code] & (kind != code)
            rows = np.bincount(self.node[counted], minlength=len(subarray))
            members = np.flatnonzero(self.kinds != code)
            frames.append(
                pl.DataFrame(
                    {
                        "tel_type": [name] * len(members),
                        "tel_id": np.asarray(subarray.tel_ids)[members],
                        "rows": rows[members],
                    },
                    schema=PARTICIPATION,
                )
            )
        return pl.concat(frames)
