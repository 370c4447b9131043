"""Parts of the data: what each is compared with, how fine they are, how they are named."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib.checks import parts as parts_module
from arraycal.calib.checks.constancy import against_others
from arraycal.calib.checks.judged_parts import LARGEST, NO_TELESCOPE
from arraycal.calib.checks.night_parts import _listed
from arraycal.calib.checks.parts import _finest, _largest
from arraycal.calib.fit.loop import FitOptions, solve_summary
from arraycal.calib.fit.model import Model
from arraycal.calib.fit.showers import prepare_pairs
from arraycal.calib.fit.sums.summarise import summarise
from arraycal.calib.fit.sums.summary import Summary, merge_summaries

SUBARRAY = toy_subarray(4)
OPTIONS = FitOptions("event", 20, 5, "none", None, 1.0, True, 12)


@pytest.fixture
def summaries() -> list[Summary]:
    """Of four parts, in each of which another telescope is 10 % bright."""
    model = Model.initial(SUBARRAY, variance=0.04, margin=1.0)
    toys = [Toy([0.1 * (i == part) for i in range(4)], [0.2] * 4, 200, 3) for part in range(4)]
    return [
        summarise(prepare_pairs(toy_pairs(toy, seed), SUBARRAY), model)
        for seed, toy in enumerate(toys)
    ]


@pytest.mark.parametrize("runs", [None, [(0, 2), (1, 3), (3, 4)]])
def test_the_others_of_a_part_are_each_of_them_once(
    summaries: list[Summary], runs: list[tuple[int, int]] | None
) -> None:
    found = against_others(summaries, OPTIONS, None, runs)
    for pair, (start, stop) in zip(found, runs or [(i, i + 1) for i in range(4)], strict=True):
        own, others = summaries[start:stop], summaries[:start] + summaries[stop:]
        assert pair.others is not None
        for solution, expected in ((pair.own, own), (pair.others, others)):
            np.testing.assert_allclose(
                solution.log_throughput,
                solve_summary(merge_summaries(expected), OPTIONS).log_throughput,
                atol=1e-12,
            )


def test_parts_are_as_fine_as_every_one_of_them_still_compares_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def runs(*compared: int) -> list[Any]:
        """Single parts with so many telescopes, and a run of parts, which does not count."""
        known = [np.where(np.arange(6) < n, 0.1, np.nan) for n in compared]
        single = [SimpleNamespace(pair=alone, is_single=True) for alone in known]
        return [*single, SimpleNamespace(pair=np.zeros(6), is_single=False)]

    monkeypatch.setattr(parts_module, "difference", lambda pair, _: SimpleNamespace(alone=pair))
    levels = [runs(6, 4, 6, 3), runs(6, 5), runs(5, 5)]
    # At least 3, 5 and 5 telescopes compare.
    assert _finest(levels, np.arange(6)) is levels[1]
    assert _finest(levels[1:], np.arange(6)) is levels[1]


def test_where_nothing_compares_nothing_is_the_largest() -> None:
    found = _largest([])
    assert found.keys() == {"part", *LARGEST}
    assert (found["part"], found["deviating"], found["tel_id"]) == ("", "", NO_TELESCOPE)
    assert all(math.isnan(found[name]) for name in ("difference", "difference_error", "p_largest"))


def test_the_least_likely_deviation_has_as_many_chances_as_there_are_rows() -> None:
    row = {"part": "1", "deviating": "LST", "tel_id": 1, "difference": 0.1, "n_events": 7}
    rows = [
        row | {"difference_error": 0.05, "chance": 0.05, "z": 2.0},
        row | {"tel_id": 2, "difference_error": 0.02, "chance": 0.0, "z": 5.0},
        row | {"tel_id": 3, "difference_error": 0.01, "chance": 0.0, "z": -10.0},
    ]
    found = _largest(rows[:1] * 3)
    assert (found["tel_id"], found["p_largest"]) == (1, pytest.approx(0.15))
    # Of two that cannot be told apart by their chance, the one with the larger deviation.
    assert _largest(rows)["tel_id"] == 2
    assert _largest(rows[:1] * 30)["p_largest"] == 1.0


@pytest.mark.parametrize(
    ("n", "said"), [(5, "observation 0, 1, 2, 3, 4"), (7, "observation 0, 1, 2, 3, 4 and 2 more")]
)
def test_five_blocks_are_named_and_more_are_counted(n: int, said: str) -> None:
    assert _listed([str(number) for number in range(n)]) == said
