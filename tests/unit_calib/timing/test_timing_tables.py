"""Tables of a timing result: which bin is which, and the moments in it."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from toy_stamps import toy_timing_array

from arraycal.calib.checks.changepoint import Step
from arraycal.calib.timing.detail import DISTANCE_EDGES_M, SIZE_EDGES
from arraycal.calib.timing.tables import distance_table, steps_table, walk_table

ARRAY = toy_timing_array()
KIND, PLACE = 1, 3  # MST, fourth bin


def profile(edges, values):
    """Sums of values that are all in one bin."""
    shape = (2, len(edges) - 1)
    sums = {"n": len(values), "total": np.sum(values), "square": np.sum(np.square(values))}
    made = {name: np.zeros(shape) for name in sums}
    for name, value in sums.items():
        made[name][KIND, PLACE] = value
    return SimpleNamespace(**made)


@pytest.mark.parametrize(
    ("table", "name", "edges", "low", "high"),
    [
        (distance_table, "distance", DISTANCE_EDGES_M, "low_m", "high_m"),
        (walk_table, "walk", SIZE_EDGES, "low", "high"),
    ],
)
def test_a_bin_has_its_edges_and_the_moments_of_what_is_in_it(table, name, edges, low, high):
    bins = profile(edges, [1.0, 3.0])
    detail = SimpleNamespace(**{name: bins}, brightness=profile(edges, [0.25, 0.75]))
    model = SimpleNamespace(walk_ns=np.array([7.0, 4.0]))
    (row,) = table(SimpleNamespace(detail=detail, model=model), ARRAY).iter_rows(named=True)
    assert (row["tel_type"], row["rows"]) == ("MST", 2)
    assert (row[low], row[high]) == (edges[PLACE], edges[PLACE + 1])
    # Of 1 and 3: mean 2, rms about it 1; walk of the type times the mean brightness: 4 times 0.5.
    assert (row["mean_ns"], row["rms_ns"]) == pytest.approx((2.0, 1.0))
    if table is walk_table:
        assert row["fitted_ns"] == pytest.approx(2.0)


def test_a_jump_lies_behind_the_chunk_before_the_first_place_it_may_have():
    start = 100.0 * np.arange(6)
    plan = SimpleNamespace(start_s=start, stop_s=start + 90.0)
    steps = [Step(4, 3, 5, -8.0, 0.5, 1e-9), Step(1, 0, 1, 8.0, 0.5, 1e-9)]
    found: Any = SimpleNamespace(plan=plan, jumps={4: steps})
    table = steps_table(found, ARRAY)
    assert table["tel_id"].to_list() == [5, 5]
    assert table["time_s"].to_list() == [400.0, 100.0]
    # Between the start of the chunk before and the end of the last one; no chunk before the first.
    assert table["earliest_s"].to_list() == [200.0, 0.0]
    assert table["latest_s"].to_list() == [590.0, 190.0]
