"""Stamps that contradict the model: what is found, and what is said of telescopes."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from arraycal.calib.timing.convention.contradiction import (
    contradictions_of,
    foreign_blocks,
    mostly_clipped,
    restless_array,
    untested_convention,
)
from arraycal.calib.timing.convention.plane_wave_test import Checks
from arraycal.calib.timing.reasons import reason_of
from arraycal.calib.timing.solve import constant_nodes
from arraycal.calib.timing.sums import empty_sums
from arraycal.calib.wording import few_common
from arraycal.config.models import CalculateTimingCalibrationOptions

N = 5
#: 4 chunks of 200 showers in two blocks.
PLAN: Any = SimpleNamespace(edges=np.arange(0, 801, 200), obs_id=np.array([7, 7, 8, 8]))


def sums_with(lost, n_chunks=4):
    """Sums with 100 stamps of every telescope in every chunk, and parts of them left out."""
    stamps = np.full((n_chunks, N), 100.0)
    rows = stamps * (1.0 - np.broadcast_to(np.asarray(lost), stamps.shape))
    return replace(empty_sums(n_chunks, N, 1), n_all=stamps, n_rows=rows)


def fit_with(lost=0.0, scale=1.3, error=0.01, columns=("curvature",)):
    found: Any = SimpleNamespace(
        plan=PLAN,
        sums=sums_with(lost),
        model=SimpleNamespace(log_scale=np.log(scale), columns=columns, names=lambda: columns),
        solution=SimpleNamespace(column_error=np.array([error])),
    )
    return found


@pytest.mark.parametrize(
    "lost",
    [
        0.05,
        0.2,
        # Two telescopes of five without clocks.
        [[1.0, 1.0, 0.0, 0.1, 0.0]],
        # All telescopes lose a little less than what is too much.
        [[0.0], [0.0], [0.0], [0.24]],
    ],
)
def test_clocks_that_are_wrong_do_not_accuse_the_block(lost):
    assert foreign_blocks(fit_with(lost)) == {}
    assert contradictions_of(fit_with(lost), 1.0) == ()


def test_a_block_is_accused_by_most_telescopes():
    found = foreign_blocks(fit_with([[0.0], [0.02], [0.4], [0.6]]))
    assert list(found) == [8]
    assert found[8] == pytest.approx(0.5)  # of the stamps of both chunks
    (reason,) = contradictions_of(fit_with([[0.0], [0.02], [0.4], [0.6]]), 1.0)
    assert "50% in block 8 (at most 25% expected)" in reason


def test_a_part_of_a_block_is_enough():
    # One chunk of two is more than a quarter of its showers.
    assert foreign_blocks(fit_with([[0.0], [0.3], [0.0], [0.0]])) == {7: pytest.approx(0.3)}


@pytest.mark.parametrize(
    ("scale", "error", "start", "columns", "said"),
    [
        (1.3, 0.01, 1.0, ("curvature",), ""),
        (3.9, 0.01, 1.0, ("curvature",), ""),
        # 1/6 +- 1/6: showers have 1/2 and more, 2 errors away.
        (6.0, 1.0, 1.0, ("curvature",), ""),
        (10.0, 0.4, 1.0, ("curvature",), "10.0 times the distance to the shower maximum (its"),
        (0.2, 0.05, 1.0, ("curvature",), "0.2 times"),
        (7.389, np.nan, 1.0, (), "where the stamps ceased to determine it"),
        # Held where it was configured.
        (7.0, np.nan, 7.0, (), ""),
    ],
)
def test_a_front_that_is_not_that_of_showers(scale, error, start, columns, said):
    reasons = contradictions_of(fit_with(0.0, scale, error, columns), start)
    assert len(reasons) == bool(said)
    assert said in " ".join(reasons)


def test_most_stamps_of_a_node_are_more_than_half():
    nodes = constant_nodes(4, N, {1: [2]})  # telescope 1 jumps in the middle
    lost = np.zeros((4, N))
    lost[:, 0], lost[:2, 1], lost[:, 2] = 0.51, 0.9, 0.5
    found = mostly_clipped(sums_with(lost), nodes)
    assert found == {int(nodes.of[0, 0]): (204, 400), int(nodes.of[0, 1]): (180, 200)}


def answer_with(**changes) -> Any:
    nodes = constant_nodes(4, N)
    known = {
        "nodes": nodes,
        "contradictions": (),
        "clipped": {},
        "far": {},
        "noisy": {},
        "vague": {},
        "restless": frozenset(),
        "jumps": {},
        "offset_ns": np.full(N, np.nan),
        "n_events": np.full(N, 196.0),
        "detail": SimpleNamespace(sums=sums_with(0.51)),
        "component": np.full(N, -1),
        "common": np.triu(np.full((N, N), 24.0), 1),
    }
    return SimpleNamespace(**(known | changes))


def reason(found):
    subarray: Any = SimpleNamespace()
    return reason_of(found, subarray, 0, CalculateTimingCalibrationOptions())


def test_a_telescope_is_told_how_many_of_its_stamps_contradict():
    flag, said = reason(answer_with(clipped={0: (204, 400)}))
    assert flag == "contradictory"
    assert said.startswith("204 of its 400 stamps contradict their showers, more than half")
    flag, said = reason(answer_with(contradictions=("all is wrong",), noisy={0: 30.0}))
    assert (flag, said) == (
        "contradictory",
        "the stamps of the array contradict the model; see the verdict",
    )


def test_a_telescope_with_enough_in_common_is_not_told_that_it_has_not():
    flag, said = reason(answer_with())
    assert flag == "few_common"
    assert said == few_common(24, 20)
    assert "left out themselves" in said
    flag, said = reason(answer_with(common=np.triu(np.ones((N, N)), 1)))
    assert said == "at most 1 shower in common with any telescope, 20 needed (min_common_events)"


def test_widths_have_no_sign_and_one_shower_is_singular():
    assert "scatter by 27.05 ns" in reason(answer_with(noisy={0: 27.05}))[1]
    assert "its error is 12.00 ns" in reason(answer_with(vague={0: 12.0}))[1]
    assert reason(answer_with(n_events=np.ones(N)))[1].startswith("1 shower, 50 needed")


def checks(n_tested, unchecked="few telescopes"):
    return Checks(np.nan, np.nan, np.nan, np.nan, 1, unchecked, n_tested)


@pytest.mark.parametrize("stated", [None, "raw"])
def test_a_convention_that_the_fit_cannot_test_is_not_believed_even_if_it_is_stated(stated):
    # All 5 telescopes have stamps, and none has an offset to test with.
    options = CalculateTimingCalibrationOptions(time_convention=stated)
    (reason,) = untested_convention(checks(0), sums_with(0.0), options)
    assert "The 5 with enough stamps fit nothing" in reason


def test_without_a_pointing_there_is_nothing_that_stamps_could_fail_to_fit():
    nowhere = replace(checks(0), n_pointings=0)
    (reason,) = untested_convention(
        nowhere, sums_with(0.0), CalculateTimingCalibrationOptions(time_convention=None)
    )
    assert "Nobody stated it either" in reason
    stated = CalculateTimingCalibrationOptions(time_convention="raw")
    assert untested_convention(nowhere, sums_with(0.0), stated) == ()


def test_a_convention_that_was_tested_is_believed():
    options = CalculateTimingCalibrationOptions()
    assert untested_convention(checks(0, unchecked=""), sums_with(0.0), options) == ()


def test_most_is_more_than_half_of_the_telescopes_with_enough_stamps():
    # 400 stamps each; the last two telescopes have lost theirs.
    sums = sums_with([[0.0, 0.0, 0.0, 1.0, 0.95]])
    assert restless_array(frozenset({0, 3, 4}), sums, 50) == ()
    (reason,) = restless_array(frozenset({0, 1, 4}), sums, 50)
    assert reason.startswith("2 of 3 clocks jump or drift")
