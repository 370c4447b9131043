"""A night calibrated of the rows of its telescopes, and of their pairs: one result."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from arraycal.calib.blocks.pair_rows import pairs_of_block
from arraycal.calib.calibrate import calibrate
from arraycal.calib.observables import OBSERVABLES
from arraycal.calib.pairs.rules import NO_DISTANCE, forming_pairs
from arraycal.calib.schema import ROWS, pairs_with, rows_with
from arraycal.calib.simulation import SimulationSettings, block_path, simulate_night
from arraycal.config import load_configuration

NAMES = ("energy-inter", "energy-cross", "image-inter")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("night")
    settings = SimulationSettings(array="north", n_blocks=2, n_showers=1500, seed=5)
    simulate_night(folder, settings)
    return [block_path(folder, settings.first_obs_id + i) for i in range(2)]


@pytest.fixture(scope="module", params=NAMES)
def both(request, paths, tmp_path_factory):
    """Blocks as rows and as pairs, in one cache, and the results of them."""
    observable, cache = OBSERVABLES[request.param], tmp_path_factory.mktemp("cache")
    configuration = load_configuration(preset=request.param)
    blocks = [
        [pairs_of_block(path, observable, options, cache) for path in paths]
        for options in (configuration, forming_pairs(configuration))
    ]
    return blocks, [calibrate(some, observable, configuration) for some in blocks]


def test_the_cache_keeps_rows_and_pairs_apart(both):
    (rows, pairs), _ = both
    assert not any(block.cached for block in (*rows, *pairs))
    assert all(block.entry.holds_rows for block in rows)
    assert not any(block.entry.holds_rows for block in pairs)
    for one, two in zip(rows, pairs, strict=True):
        shower = one.entry.summary["shower_columns"]
        assert one.entry.scan().collect_schema() == rows_with(shower)
        assert two.entry.scan().collect_schema() == pairs_with(shower)
        assert shower == list(one.entry.schema)[len(ROWS) :]
        assert one.n_rows == one.entry.scan().select(pl.len()).collect().item()


def without_distances(rejected):
    """Without the rule that rows alone have, and which rejects none here."""
    rule = pl.col("rule") == NO_DISTANCE
    assert rejected.filter(rule)["rows"].sum() == 0
    return rejected.filter(~rule)


def test_what_is_said_of_a_block_is_the_same(both):
    (rows, pairs), _ = both
    for one, two in zip(rows, pairs, strict=True):
        assert one.n_pairs == two.n_pairs == two.n_rows
        assert without_distances(one.rejected).equals(two.rejected)
        same = ("n_events", "notes", "participation", "saturation", "remarks", "untested")
        for name in set(same) & {*one.entry.summary, *two.entry.summary}:
            assert one.entry.summary[name] == two.entry.summary[name]


def test_the_results_are_the_same(both):
    _, (of_rows, of_pairs) = both
    assert of_rows.telescopes["value"].is_finite().all()
    for name in ("telescopes", "pairs", "rejected"):
        one, two = getattr(of_rows, name), getattr(of_pairs, name)
        one = without_distances(one) if name == "rejected" else one
        assert_frame_equal(one, two, rel_tol=1e-12, abs_tol=1e-12)
    assert str(of_rows.verdict) == str(of_pairs.verdict)
