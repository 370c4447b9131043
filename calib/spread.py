"""Work on the blocks of a calibration, one after the other or spread over whoever helps.

The science says what is to be done with the rows of a block; who runs it, threads, processes or
machines, gives a `Spread`. What travels is the work with the model in it, and sums, never rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["BlockWindows", "Spread", "in_turn", "over_blocks"]

T = TypeVar("T")
R = TypeVar("R")
W = TypeVar("W")


class Spread(Protocol):
    """Does work on every item, anywhere, and yields the answers in the order of the items.

    One by one, because who merges them needs no more of them than two.
    """

    def __call__(self, work: Callable[[T], R], items: Sequence[T], /) -> Iterator[R]:
        """`work` and the items can be pickled."""


def in_turn(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Do work on one item after the other, here."""
    return map(work, items)


@dataclass(frozen=True)
class BlockWindows(Generic[W]):
    """Windows of all blocks; called, it yields them in the order of the blocks.

    Parameters
    ----------
    blocks : tuple of callable
        Each returns the windows of a block, and can be pickled.
    spread : Spread
        Who works on the blocks.
    """

    blocks: tuple[Callable[[], Iterable[W]], ...]
    spread: Spread = in_turn

    def __call__(self) -> Iterator[W]:
        """Yield all windows."""
        for block in self.blocks:
            yield from block()


def over_blocks(
    windows: Callable[[], Iterable[W]], work: Callable[[Iterable[W]], R]
) -> Iterator[R]:
    """Do work on the windows of every block.

    Parameters
    ----------
    windows : callable
        Returns windows; the blocks of `BlockWindows` are worked on one by one.
    work : callable
        Makes something that merges of windows.

    Returns
    -------
    iterator
        One answer for each block, in their order.
    """
    if isinstance(windows, BlockWindows):
        return windows.spread(partial(_on_windows, work=work), windows.blocks)
    return iter([work(windows())])


def _on_windows(block: Callable[[], Iterable[W]], work: Callable[[Iterable[W]], R]) -> R:
    return work(block())
