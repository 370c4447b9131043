"""Row numbers instead of ids: of the showers of a window, of the telescopes of an array."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    from arraycal.calib.subarray import Subarray

    Indices = npt.NDArray[np.intp]

__all__ = ["node_index", "shower_index"]

#: A table of flags is cheaper than a sort up to this many flags per key.
DENSE_FACTOR = 64


def shower_index(events: pl.DataFrame) -> Indices:
    """Number the showers of a window from 0."""
    event_id = events["event_id"].to_numpy()
    if events["obs_id"].n_unique() <= 1:
        return _dense(event_id)
    keys = np.stack([_dense(events["obs_id"].to_numpy()), _dense(event_id)], axis=1)
    return _dense(keys[:, 0] * (int(keys[:, 1].max()) + 1) + keys[:, 1])


def node_index(tel_ids: pl.Series, subarray: Subarray) -> Indices:
    """Index of each telescope id in the subarray."""
    table = np.full(max(subarray.tel_ids) + 1, -1, np.intp)
    table[list(subarray.tel_ids)] = np.arange(len(subarray))
    index: Indices = table[tel_ids.to_numpy()]
    return index


def _dense(keys: npt.NDArray[np.int64]) -> Indices:
    """Replace keys by their rank, without sorting when they span few enough numbers."""
    if not len(keys):
        return np.empty(0, np.intp)
    low, span = keys.min(), int(keys.max() - keys.min()) + 1
    if span > DENSE_FACTOR * len(keys):
        return np.unique(keys, return_inverse=True)[1]
    present = np.zeros(span, np.bool_)
    present[keys - low] = True
    ranks: Indices = (np.cumsum(present) - 1)[keys - low]
    return ranks
