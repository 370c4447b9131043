"""From the solution to coefficients: what gets no number, and what the verdict says."""

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib.fit.loop import fit
from arraycal.calib.fit.options import fit_options
from arraycal.calib.fit.showers import prepare_pairs
from arraycal.calib.observables import ENERGY_INTER
from arraycal.calib.result.assemble import assemble
from arraycal.calib.schema import BLOCKS, REJECTED
from arraycal.config import Configuration


def result_of(truth, sigma, fitter=None, selection=None, n_showers=4000, multiplicity=None):
    """Calibrate a toy in which every telescope sees every shower, or as many as `multiplicity`."""
    subarray = toy_subarray(len(truth))
    configuration = Configuration.model_validate(
        {"RelativeThroughputFitter": fitter or {}, "ShowerSelection": selection or {}}
    )
    toy = Toy(truth, [sigma] * len(truth), n_showers, multiplicity or len(truth))
    pairs = toy_pairs(toy, 3)
    showers = [prepare_pairs(pairs, subarray)]
    return assemble(
        fit(lambda: showers, subarray, fit_options(configuration, subarray)),
        subarray,
        ENERGY_INTER,
        configuration,
        blocks=BLOCKS.to_frame(),
        rejected=REJECTED.to_frame(),
        obs_ids=(1,),
        provenance={},
    )


def test_values_without_any_scatter_are_no_measurement():
    result = result_of([0.0, 0.0, 0.0], 0.0)
    assert result.telescopes["value"].is_nan().all()
    assert set(result.telescopes["flag"]) == {"degenerate"}
    assert result.verdict.status == "unusable"


def test_a_reference_is_without_error_and_keeps_its_value():
    fitter = {"reference_telescopes": {"MST": 2}, "throughput_normalisation": {"MST": 0.8}}
    row = result_of([0.0, 0.1, 0.0], 0.2, fitter).telescopes.row(1, named=True)
    assert row["value"] == pytest.approx(0.8, rel=1e-12)
    assert row["error"] == row["systematic"] == 0
    assert row["flag"] == "ok"


def test_the_response_slope_scales_value_error_and_systematic():
    one, half = (
        result_of([0.2, 0.0, -0.2], 0.2, {"response_slope": slope}).telescopes
        for slope in (1.0, 0.5)
    )
    log_one, log_half = (np.log(t["value"].to_numpy()) for t in (one, half))
    np.testing.assert_allclose(log_half, 2 * log_one, rtol=1e-9)
    for name in ("error", "systematic"):
        relative = [(t[name] / t["value"]).to_numpy() for t in (one, half)]
        np.testing.assert_allclose(relative[1], 2 * relative[0], rtol=1e-9)


def test_a_constraint_sets_the_scale_and_is_named_as_the_gauge():
    result = result_of(
        [0.0, 0.1, 0.0], 0.2, {"constraints": [{"tel_id": 1, "value": 0.9, "error": 0}]}
    )
    assert result.telescopes["value"][0] == pytest.approx(0.9, rel=1e-6)
    assert result.fit["gauge"] == "constraints"
    assert result.verdict.status == "usable"


def test_a_constraint_on_an_absent_telescope_is_not_passed_over_in_silence():
    result = result_of(
        [0.0, 0.1, 0.0], 0.2, {"constraints": [{"tel_id": 77, "value": 0.9, "error": 0}]}
    )
    assert result.fit["gauge"] == "geometric_mean"
    assert result.verdict.status == "degraded"
    assert "telescopes [77] were not used" in str(result.verdict)


def test_two_constraints_on_one_telescope_are_refused():
    twice = [{"tel_id": 1, "value": value, "error": 0} for value in (0.9, 0.95)]
    with pytest.raises(ValidationError, match="name a telescope twice"):
        Configuration.model_validate({"RelativeThroughputFitter": {"constraints": twice}})


def test_two_telescopes_cannot_tell_their_resolutions_apart_and_the_verdict_says_so():
    selected = result_of([0.1, -0.1], 0.2, selection={"threshold": "auto"}, n_showers=20_000)
    assert "assumes equal resolutions of the only two MST" in str(selected.verdict)
    assert result_of([0.1, -0.1], 0.2).verdict.status == "usable"


def test_rows_within_the_margin_are_counted_with_the_other_rejected_rows():
    result = result_of([0.0, 0.0, 0.0], 0.2, selection={"threshold": "auto"})
    lost = result.rejected.filter(pl.col("rule").str.contains("ShowerSelection"))["rows"]
    assert lost.to_list() == [result.fit["n_below_margin"]]
    assert lost[0] > 0


def test_a_threshold_of_zero_selects_nothing_away():
    result = result_of([0.0, 0.0, 0.0], 0.2, selection={"threshold": 0})
    assert result.fit["n_below_margin"] == 0
