"""One sweep over all showers with everything held: every sum that a result is made of.

The model has been learnt (`arraycal.calib.fit.sketch`). What is summed merges exactly, over
windows, blocks, machines and nights.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from arraycal.calib.fit.model import split_values
from arraycal.calib.fit.sums.block_sums import chunk_of_shower
from arraycal.calib.fit.sums.solver_sums import solver_sums
from arraycal.calib.fit.sums.summarise import with_statistics
from arraycal.calib.fit.sums.summary import merge_for_solver, merge_summaries
from arraycal.calib.fit.weighing import pairs_in_use, restricted, weigh
from arraycal.calib.spread import over_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import numpy.typing as npt

    from arraycal.calib.fit.model import Model
    from arraycal.calib.fit.showers import Showers
    from arraycal.calib.fit.sums.summary import Summary
    from arraycal.calib.fit.weighing import WeighedRows

    Floats = npt.NDArray[np.float64]

__all__ = ["Additive", "Observer", "Sweep", "sweep", "sweep_blocks"]


class Additive(Protocol):
    """Sums that merge."""

    def __add__(self, other: Self, /) -> Self:
        """Merge sums of disjoint showers."""


class Observer(Protocol):
    """Sums something else of showers."""

    def __call__(self, showers: Showers, model: Model, rows: WeighedRows) -> Additive:
        """Look at the showers of a window."""


@dataclass(frozen=True)
class Sweep:
    """Sums over showers with a model that is held.

    Parameters
    ----------
    whole : Summary
        Of all showers, without what steers a model.
    chunks : dict of int to dict of int to Summary
        As far as a solver reads them, by block and time chunk.
    halves : tuple of Summary
        Of the upper halves, in the order of the model's `split_at`.
    observed : dict of str to Any
        What observers have summed.
    """

    whole: Summary
    chunks: Mapping[int, Mapping[int, Summary]] = field(default_factory=dict)
    halves: tuple[Summary, ...] = ()
    observed: Mapping[str, Any] = field(default_factory=dict)

    def __add__(self, other: Sweep) -> Sweep:
        """Merge sums of disjoint showers."""
        blocks = {
            block: _merged(self.chunks.get(block, {}), other.chunks.get(block, {}))
            for block in (*self.chunks, *(b for b in other.chunks if b not in self.chunks))
        }
        return Sweep(
            whole=merge_summaries([self.whole, other.whole]),
            chunks=blocks,
            halves=tuple(
                merge_for_solver(pair) for pair in zip(self.halves, other.halves, strict=True)
            ),
            observed={name: own + other.observed[name] for name, own in self.observed.items()},
        )


def sweep(
    windows: Iterable[Showers],
    model: Model,
    edges: Mapping[int, Floats],
    observers: Mapping[str, Observer],
) -> Sweep | None:
    """Sum up showers.

    Parameters
    ----------
    windows : iterable of Showers
        The rows.
    model : Model
        Solution, weights and selection, all held.
    edges : mapping of int to array
        Time chunks by block, from `arraycal.calib.fit.sums.block_sums.chunk_edges`.
    observers : mapping of str to Observer
        What else is to be summed.

    Returns
    -------
    Sweep or None
        None without any window.
    """
    total: Sweep | None = None
    for showers in windows:
        for number, part in _chunks(showers, edges[showers.block]):
            found = _swept(part, number, model, observers)
            total = found if total is None else total + found
    return total


def sweep_blocks(
    windows: Callable[[], Iterable[Showers]],
    model: Model,
    edges: Mapping[int, Floats],
    observers: Mapping[str, Observer],
) -> Sweep:
    """Sum up the showers of all blocks, wherever each is worked on; see `sweep`.

    Raises
    ------
    ValueError
        If there is no window.
    """
    work = partial(sweep, model=model, edges=edges, observers=observers)
    total: Sweep | None = None
    for part in over_blocks(windows, work):
        if part is not None:
            total = part if total is None else total + part
    if total is None:
        msg = "nothing to sweep"
        raise ValueError(msg)
    return total


def _chunks(showers: Showers, edges: Floats) -> Iterator[tuple[int, Showers]]:
    chunk = chunk_of_shower(showers, edges)
    for number in np.unique(chunk).tolist():
        yield number, showers.some(chunk == number)


def _swept(showers: Showers, chunk: int, model: Model, observers: Mapping[str, Observer]) -> Sweep:
    rows, columns = weigh(showers, model), model.now.columns(showers)
    own = solver_sums(showers, model, rows, columns)
    values = split_values(showers, rows.values.mean) if model.split_at else {}
    kind = showers.kind[showers.group_start]
    upper = {name: values[name] > cut[kind] for name, cut in model.split_at.items()}
    return Sweep(
        whole=with_statistics(own, showers, model, rows, pairs_in_use(showers, rows)),
        chunks={showers.block: {chunk: own}},
        halves=tuple(
            solver_sums(showers, model, restricted(rows, half[showers.group]), columns)
            for half in upper.values()
        ),
        observed={name: look(showers, model, rows) for name, look in observers.items()},
    )


def _merged(one: Mapping[int, Summary], two: Mapping[int, Summary]) -> dict[int, Summary]:
    return {
        number: merge_for_solver([part[number] for part in (one, two) if number in part])
        for number in sorted({*one, *two})
    }
