"""What is 0, in words."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from arraycal.calib.timing.assemble import _gauge
from arraycal.calib.timing.solve import constant_nodes


@pytest.mark.parametrize(
    ("offset", "left_out", "reference", "said"),
    [
        ([0.0, 1.0, -1.0], (), None, "mean"),
        ([0.0, 1.0, -1.0], (), 12, "telescope 12 is 0"),
        ([0.0, 90.0, -1.0], (1,), None, "mean without telescope 12, far off"),
        # The third has no offset, and no stamps either.
        (
            [0.0, np.nan, np.nan],
            (0,),
            None,
            "mean without telescopes 11, 12, far off or without offset",
        ),
    ],
)
def test_telescopes_that_are_no_part_of_the_mean_are_named(offset, left_out, reference, said):
    found: Any = SimpleNamespace(
        offset_ns=np.array(offset),
        left_out=left_out,
        nodes=constant_nodes(1, 3),
        detail=SimpleNamespace(sums=SimpleNamespace(n_all=np.array([[9.0, 9.0, 0.0]]))),
    )
    subarray: Any = SimpleNamespace(tel_ids=(11, 12, 13))
    assert _gauge(found, subarray, reference) == said
