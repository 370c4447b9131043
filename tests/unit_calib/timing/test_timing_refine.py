"""Edges of chunks at jumps: which edge moves, and which offsets change."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from arraycal.calib.timing.refine import _cut

OFFSET = np.array([[0.0, 1.0], [0.0, 4.0], [0.0, 11.0], [0.0, 11.0]])


class FakePlan(SimpleNamespace):
    """Four chunks of 100 showers of one block, and what is asked of it."""

    def __len__(self):
        return len(self.edges) - 1

    def move(self, edge, shower, *_):
        return "moved", edge, shower

    def split(self, shower, *_):
        return "split", shower


@pytest.mark.parametrize(
    ("shower", "asked", "offset"),
    [
        # Near the begin of the third chunk, near the end of the second, and in its middle.
        (210, ("moved", 2, 210), [1.0, 4.0, 14.0, 11.0]),
        (190, ("moved", 2, 190), [1.0, 1.0, 11.0, 11.0]),
        (150, ("split", 150), [1.0, 1.0, 11.0, 11.0, 11.0]),
    ],
)
def test_a_jump_near_an_edge_takes_it_along(shower, asked, offset):
    plan: Any = FakePlan(edges=np.arange(0, 401, 100), obs_id=np.full(4, 7))
    found, changed = _cut(plan, OFFSET, shower, 1.0, 2.0, 1, 10.0)
    assert found == asked
    assert changed[:, 1].tolist() == offset
    assert not changed[:, 0].any()
