"""Threshold scan: a hard trigger shows, nothing else does, errors are those of nested samples."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from toy_pairs import Toy, toy_pairs, toy_subarray
from toy_sizes import SizeToy, size_pairs, square_array

from arraycal.calib.checks.scan import ScanSums, margins_to_scan, scan_window
from arraycal.calib.checks.scan_tables import SMALLEST, GaugeGroup, compare_margins, scan_remarks
from arraycal.calib.fit.curve import Knots
from arraycal.calib.fit.loop import FitOptions, fit
from arraycal.calib.fit.showers import prepare_pairs
from arraycal.calib.fit.weighing import weigh
from arraycal.config.models import RelativeThroughputFitterOptions

if TYPE_CHECKING:
    from arraycal.calib.subarray import Subarray

#: 80 toys of 9 or 10 telescopes: the width of pulls is known to 1 / sqrt(2 * 640) = 3 %.
N_TOYS = 80
MARGINS = (2.0, 2.5, 3.0, 4.0)
OPTIONS = FitOptions(
    "event", 50, 20, "none", "auto", 2.5, binned_resolution=False, max_iterations=20
)
LIMITS = RelativeThroughputFitterOptions()


def scanned(
    pairs: pl.DataFrame,
    subarray: Subarray,
    margins: tuple[float, ...],
    anchors: tuple[int, ...] = (),
    **changes: object,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Tables of the scan of a fit, all telescopes or the anchors with a fixed mean."""
    showers = prepare_pairs(pairs, subarray)
    fitted = fit(lambda: [showers], subarray, FitOptions(**{**vars(OPTIONS), **changes}))
    assert fitted.settled
    rows = weigh(showers, fitted.model)
    sums = scan_window(showers, fitted.model, rows, margins_to_scan(fitted.model, margins))
    nodes = np.flatnonzero(fitted.solution.component >= 0)
    groups = [GaugeGroup(nodes, np.array(anchors, np.intp) if anchors else nodes)]
    value = np.exp(fitted.solution.log_throughput)
    return compare_margins(sums.margins, fitted.model.margin, subarray, value, groups, LIMITS)


def check_pulls(nights: list[tuple[pl.DataFrame, pl.DataFrame]]) -> None:
    """Differences that are noise alone scatter by their errors, and almost no night is flagged."""
    table = pl.concat([telescopes for telescopes, _ in nights])
    for margin in (2.0, 3.0, 4.0):
        own = table.filter(pl.col("margin") == margin)
        pulls = (own["difference"] / own["difference_error"]).to_numpy()
        print(f"margin {margin}: width {pulls.std():.3f} of {len(pulls)}")
        assert 0.9 < pulls.std() < 1.1
        # Half the showers are common, so that errors of independent samples were far too large.
        assert (own["difference_error"] < 0.9 * own["error"] / own["value"]).all()
    tests = pl.concat([types for _, types in nights]).filter(~pl.col("in_use"))
    # A probability is as likely to be anywhere: three margins share a night.
    assert tests["p_value"].mean() == pytest.approx(0.5, abs=4 * np.sqrt(3 / 12 / len(tests)))
    # A chance of 0.0027 a night.
    assert sum(bool(scan_remarks(types)) for _, types in nights) <= 1


def test_differences_of_energies_scatter_by_their_errors() -> None:
    nights = []
    for seed in range(N_TOYS):
        truth = np.random.default_rng(1000 + seed).normal(0, 0.08, 10)
        toy = Toy(truth.tolist(), [0.2] * 10, 20_000, 4, trigger=-3.0)
        nights.append(scanned(toy_pairs(toy, seed), toy_subarray(10), MARGINS))
    check_pulls(nights)


def test_differences_of_sizes_scatter_by_their_errors() -> None:
    # With the distance curve fitted along at every margin.
    array = square_array(9)
    threshold = dict.fromkeys(array.tel_ids, float(np.log(80.0)))
    knots = Knots.spaced([(20.0, 200.0)], 7)
    nights = []
    for seed in range(100, 100 + N_TOYS):
        truth = np.random.default_rng(seed).normal(0.0, 0.05, 9)
        pairs = size_pairs(SizeToy(truth.tolist()), seed, reach_m=200.0)
        nights.append(
            scanned(pairs, array, MARGINS, threshold=threshold, knots=knots, binned_resolution=True)
        )
    check_pulls(nights)


def hard_trigger(margin: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Unequal telescopes behind a hard trigger."""
    toy = Toy([-0.1, 0.1, 0.0, -0.1, 0.1], [0.1, 0.3, 0.2, 0.3, 0.1], 200_000, 5, trigger=0.0)
    pairs = toy_pairs(toy, 1)
    return scanned(pairs, toy_subarray(5), (0.0, 1.0, 2.0, 2.5, 3.0, 4.0), margin=margin)


def test_too_small_a_margin_behind_a_hard_trigger_is_told() -> None:
    telescopes, types = hard_trigger(0.5)
    assert not types.filter("in_use")["plateau"].item()
    (remark,) = scan_remarks(types)
    assert remark.startswith("throughputs of MST still change when the margin")
    # The shift it tells is the bias that the wider margin takes away: about 2.5 % of telescope 5.
    truth = np.array([-0.1, 0.1, 0.0, -0.1, 0.1])
    here, there = (
        np.log(telescopes.filter(pl.col("margin") == margin).sort("tel_id")["value"].to_numpy())
        for margin in (0.5, 4.0)
    )
    assert np.abs(here - here.mean() - truth + truth.mean()).max() > 4 * SMALLEST
    assert np.abs(there - there.mean() - truth + truth.mean()).max() < SMALLEST


def test_the_recommended_margin_stands_on_the_plateau() -> None:
    telescopes, types = hard_trigger(2.5)
    assert types.filter(pl.col("margin") >= 2.0)["plateau"].all()
    assert not types.filter(pl.col("margin") <= 1.0)["plateau"].any()
    assert types.filter(pl.col("margin") <= 1.0)["changed"].all()
    assert scan_remarks(types) == []
    in_use = telescopes.filter(pl.col("margin") == 2.5)
    assert (in_use["difference"].abs() < 1e-12).all()
    assert (in_use["difference_error"] == 0).all()


def test_one_telescope_with_a_threshold_of_its_own_does_not_hide_among_many() -> None:
    # 20 telescopes, of which one triggers where the others have long been seen.
    n = 20
    subarray = toy_subarray(n)
    pairs = toy_pairs(Toy([0.0] * n, [0.2] * n, 60_000, 4, trigger=-3.0), 3)
    late = pl.any_horizontal(
        *(
            (pl.col(f"tel_id_{side}") == 7) & (pl.col(f"value_{side}").log() < -2.4)
            for side in (1, 2)
        )
    )
    _, types = scanned(pairs.filter(~late), subarray, (0.0, 1.0, 2.0, 2.5, 3.0, 4.0))
    (remark,) = scan_remarks(types)
    assert "telescope 7 by" in remark


def test_across_types_the_mean_of_the_reference_type_is_held() -> None:
    subarray = replace(toy_subarray(5), types=("LST", "LST", "MST", "MST", "MST"))
    toy = Toy([0.2, 0.1, 0.0, 0.0, 0.0], [0.1, 0.1, 0.3, 0.3, 0.3], 100_000, 5, trigger=0.0)
    pairs = toy_pairs(toy, 1).with_columns(tel_type=pl.lit("LST-MST"))
    telescopes, types = scanned(pairs, subarray, (0.0, 2.5, 4.0), anchors=(2, 3, 4))
    for margin in (0.0, 4.0):
        own = telescopes.filter(pl.col("margin") == margin)
        assert own.filter(tel_type="MST")["difference"].to_numpy().sum() == pytest.approx(0.0)
    # Two telescopes against the reference type, and three about their own mean.
    assert types.filter(pl.col("margin") == 0.0).select("tel_type", "ndf").rows() == [
        ("LST", 2),
        ("MST", 2),
    ]
    # Behind a trigger the noisier type looks brighter; the margin in use takes that away.
    raw = telescopes.filter(pl.col("margin") == 0.0, pl.col("tel_type") == "LST")
    assert (raw["difference"] < -0.02).all()
    assert types.filter("in_use")["plateau"].all()


def test_sums_of_windows_add_up() -> None:
    subarray = toy_subarray(5)
    toy = Toy([0.0] * 5, [0.2] * 5, 4_000, 4, trigger=-3.0)
    one, two = toy_pairs(toy, 1), toy_pairs(toy, 2, first_event=10_000)
    both = prepare_pairs(pl.concat([one, two]), subarray)
    fitted = fit(lambda: [both], subarray, OPTIONS)

    def sums(pairs: pl.DataFrame) -> dict[float, ScanSums]:
        showers = prepare_pairs(pairs, subarray)
        rows = weigh(showers, fitted.model)
        return dict(scan_window(showers, fitted.model, rows, (1.0, 2.5)).margins)

    whole, parts = sums(pl.concat([one, two])), [sums(one), sums(two)]
    for margin, expected in whole.items():
        found = parts[0][margin] + parts[1][margin]
        np.testing.assert_allclose(found.cross, expected.cross, atol=1e-9)
        np.testing.assert_allclose(found.summary.meat, expected.summary.meat, atol=1e-9)
        np.testing.assert_array_equal(found.n_changed, expected.n_changed)
