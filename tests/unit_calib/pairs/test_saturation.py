"""Saturation: found where the brightest pixels pile up, and nowhere else."""

import dataclasses

import h5py
import numpy as np
import polars as pl
import pytest

from arraycal.calib.blocks.pair_rows import pairs_of_block
from arraycal.calib.calibrate import calibrate
from arraycal.calib.fit.loop import STATIONARY
from arraycal.calib.observables import IMAGE_INTER
from arraycal.calib.pairs.saturation import BrightestPixels, Saturation, without_number
from arraycal.calib.simulation import CameraSettings, SimulationSettings, block_path, simulate_night
from arraycal.calib.subarray import Subarray
from arraycal.config import load_configuration

ARRAY = Subarray(
    "toy",
    (1, 2, 5),
    ("LST", "LST", "MST"),
    ("LST_LST_LSTCam",) * 2 + ("MST_MST_NectarCam",),
    ((0.0, 0.0, 0.0), (100.0, 0.0, 0.0), (200.0, 0.0, 0.0)),
)
#: Slope of the integral spectrum of image sizes.
GAMMA = 1.7


def images(tel_id, n, rng, *, level=np.inf, spread=0.0, faintest=100.0):
    """Draw images whose brightest pixel has a tenth of the light and stops at a level."""
    size = faintest * np.exp(rng.exponential(1 / GAMMA, n))
    limit = level * np.exp(spread * rng.standard_normal(n))
    return pl.DataFrame(
        {
            "tel_id": np.full(n, tel_id, np.uint16),
            "hillas_intensity": size,
            "intensity_max": np.minimum(0.1 * size, limit),
        }
    )


def found(*frames):
    pixels = BrightestPixels(ARRAY)
    for frame in frames:
        pixels.add(frame, "hillas_intensity", "intensity_max")
    return pixels.found()


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_images_that_fall_steadily_do_not_saturate(rng):
    for n in (1, 30, 3000, 100_000):
        assert found(*(images(tel_id, n, rng) for tel_id in ARRAY.tel_ids)) == []


def test_the_abrupt_lower_end_of_the_images_is_no_saturation(rng):
    assert found(images(1, 30_000, rng, faintest=5000.0)) == []


def test_a_level_its_share_and_its_ceiling_are_found(rng):
    (one,) = found(images(1, 20_000, rng, level=40.0), images(2, 20_000, rng))
    # Brightest pixels have a tenth of the size: the level is reached from 400 p.e. on, by the part
    # (400 / 100)^-1.7 of the images; 2 % of those lie between the onset and the ceiling, which is
    # 0.02 / 1.7 in the logarithm, and sizes are binned in steps of 0.02.
    assert (one.tel_id, one.images) == (1, 20_000)
    assert one.level == pytest.approx(40.0, rel=0.002)
    assert one.share == pytest.approx(4**-GAMMA, abs=3 * np.sqrt(0.095 * 0.905 / 20_000))
    assert np.log(one.ceiling / 400) == pytest.approx(0.02 / GAMMA, abs=0.02)


def test_a_level_that_is_smeared_by_the_gains_of_the_pixels_is_found_as_well(rng):
    (one,) = found(images(1, 20_000, rng, level=40.0, spread=0.02))
    assert one.level == pytest.approx(40.0, rel=0.05)
    assert one.ceiling == pytest.approx(400.0, rel=0.1)


def test_images_that_share_a_brightest_pixel_at_any_size_are_no_saturation(rng):
    # A hot pixel or a flasher: 200 images of any size with one and the same brightest pixel.
    frame = images(1, 5_000, rng)
    at = pl.col("intensity_max").is_between(9.0, 30.0)
    hot = frame[:200].with_columns(intensity_max=pl.lit(60.0))
    assert found(frame.filter(pl.col("intensity_max") < 59.0), hot) == []
    assert len(frame.filter(at)) > 100  # what lies just below is there to compare


def test_no_steady_fall_in_many_nights_ends_in_a_spike():
    # 40 blocks of three telescopes with the few images at which the end of a spectrum is ragged.
    for seed in range(40):
        rng = np.random.default_rng(seed)
        n = int(10 ** rng.uniform(1, 3.5))
        assert found(*(images(tel_id, n, rng) for tel_id in ARRAY.tel_ids)) == []


def test_windows_add_up(rng):
    frame = images(1, 9_000, rng, level=40.0)
    assert found(frame[:2000], frame[2000:]) == found(frame)


def test_what_is_no_image_does_not_count(rng):
    frame = images(1, 5_000, rng, level=40.0)
    nothing = frame[:50].with_columns(intensity_max=pl.lit(float("nan")))
    negative = frame[:50].with_columns(hillas_intensity=pl.lit(-1.0))
    assert found(frame, nothing, negative) == found(frame)


def test_few_saturated_images_of_each_telescope_are_found_in_all_of_the_type(rng):
    # 6 saturated images do not tell, 12 do; MST have none.
    alone = images(1, 3000, rng, level=400.0), images(2, 3000, rng, level=400.0)
    few = [
        pl.concat([frame.filter(pl.col("intensity_max") < 400), *[_at(frame, 400.0)] * 6])
        for frame in alone
    ]
    assert found(few[0]) == []
    assert [item.tel_id for item in found(*few, images(5, 3000, rng))] == [1, 2]


def _at(frame, level):
    return frame[:1].with_columns(hillas_intensity=pl.lit(10 * level), intensity_max=pl.lit(level))


def test_a_telescope_is_flagged_when_it_saturates_in_every_block():
    mostly, partly = Saturation(1, 6.0, 100, 90, 80.0), Saturation(1, 6.0, 100, 10, 80.0)
    assert without_number([[mostly], [mostly]]) == {
        1: ("saturated", "90.0% of its images are saturated, from sizes of 80 p.e. on")
    }
    assert without_number([[mostly], [partly]])[1] == (
        "saturated",
        "50.0% of its images are saturated, from sizes of 80 p.e. on",
    )
    assert without_number([[mostly], []])[1][0] == ""


#: Of the telescopes with the ids of the array, where blocks must agree.
THROUGHPUT = dict.fromkeys(range(1, 14), 1.0)


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Simulate a block and return its path."""

    def simulate(limits, **changes):
        folder = tmp_path_factory.mktemp("night")
        settings = SimulationSettings(
            array="north", n_blocks=1, n_showers=2000, seed=4,
            camera=CameraSettings(saturation_pe=limits),
        )  # fmt: skip
        settings = dataclasses.replace(settings, **changes)
        simulate_night(folder, settings)
        return block_path(folder, settings.first_obs_id)

    return simulate


def lose_brightest(path):
    """Rename the column of the brightest pixel."""
    with h5py.File(path, "a") as file:
        group = file["/dl1/event/telescope/parameters"]
        for name in list(group):
            rows, attributes = group[name][:], dict(group[name].attrs)
            rows.dtype.names = ["other" if n == "intensity_max" else n for n in rows.dtype.names]
            del group[name]
            group.create_dataset(name, data=rows).attrs.update(attributes)


def calibrated(path, cache, preset="image-inter", overrides=()):
    configuration = load_configuration(preset=preset, overrides=overrides)
    block = pairs_of_block(path, IMAGE_INTER, configuration, cache)
    return calibrate([block], IMAGE_INTER, configuration)


def test_telescopes_whose_images_are_all_saturated_get_no_number(make, tmp_path):
    # At the trigger, 80 p.e., the brightest pixel has 7 p.e.
    result = calibrated(make({"LST": 6.0, "MST": 6.0}), tmp_path)
    assert result.verdict.status == "unusable"
    assert "13 saturated" in str(result.verdict)
    assert set(result.telescopes["flag"]) == {"saturated"}
    assert set(result.telescopes["reason"]) == {"all of its images are saturated"}
    assert result.extras["saturation"]["use"].unique().to_list() == ["left out"]
    lost = result.rejected.filter(pl.col("rule").str.contains("saturated"))
    assert lost["rule"].to_list() == [
        f"most images of the {kind} are saturated" for kind in ("LST", "MST")
    ]
    assert set(lost["level"]) == {"telescope event"}
    # Every telescope event is accounted for: no other had been selected.
    assert result.rejected["rows"].sum() == result.blocks["n_events"].sum()


def test_one_saturated_type_leaves_the_other_as_it_was(make, tmp_path):
    result = calibrated(make({"MST": 6.0}), tmp_path / "one")
    plain = calibrated(make({}), tmp_path / "two")
    lst = pl.col("tel_type") == "LST"
    found, expected = (r.telescopes.filter(lst) for r in (result, plain))
    assert found["n_candidates"].equals(expected["n_candidates"])
    # The selection is held once no telescope of any type moves by more: not after the same passes.
    moved = (found["value"] - expected["value"]).abs() / expected["error"]
    assert moved.max() < STATIONARY
    assert set(result.telescopes.filter(~lst)["flag"]) == {"saturated"}


def test_a_block_that_telescopes_are_left_out_of_degrades_the_night(make, tmp_path):
    configuration = load_configuration(preset="image-inter")
    blocks = [
        pairs_of_block(path, IMAGE_INTER, configuration, tmp_path)
        for path in (
            make({}, throughput=THROUGHPUT),
            make({"LST": 6.0}, first_obs_id=1002, throughput=THROUGHPUT),
        )
    ]
    result = calibrate(blocks, IMAGE_INTER, configuration)
    assert result.verdict.status == "degraded"
    (reason,) = [text for text in result.verdict.reasons if "saturated" in text]
    assert reason.startswith("telescopes 1, 2, 3, 4 are left out of blocks (1 in all)")


def test_a_ceiling_is_found_and_said(make, tmp_path):
    path = make({"LST": 30.0})
    result = calibrated(path, tmp_path)
    # 1.5 size / (size^0.6 + 3) = 30 at a size of 1,960 p.e.
    table = result.extras["saturation"]
    assert table["tel_id"].to_list() == [1, 2, 3, 4]
    assert set(table["use"]) == {"ceiling"}
    assert table["ceiling"].min() == pytest.approx(1960, rel=0.05)
    assert table["level"].to_list() == pytest.approx([30.0] * 4, rel=0.002)
    # All of the type saturate: that is how they are built, and nothing is wrong.
    assert "saturate" not in str(result.verdict)
    np.testing.assert_allclose(result.sums.model.ceiling[:4], np.log(table["ceiling"]))
    assert set(result.sums.model.ceiling[4:]) == {np.inf}
    ((topic, note),) = result.extras["block_notes"].select("topic", "note").rows()
    assert topic == "saturation"
    assert "images of 4 LST are saturated: their brightest pixel stops at 30 p.e." in note
    # Without being asked nothing is looked for.
    assert "saturation" not in calibrated(path, tmp_path, "image-inter-peer").extras


def test_an_array_that_does_not_saturate_is_calibrated_as_without_the_search(make, tmp_path):
    path = make({})
    searched = calibrated(path, tmp_path)
    plain = calibrated(path, tmp_path, overrides=["ShowerSelection.ceiling=null"])
    assert searched.telescopes.equals(plain.telescopes)
    assert searched.extras.keys() == plain.extras.keys()


def clip(path, tel_id, level):
    """Let the brightest pixels of one telescope stop at a level."""
    with h5py.File(path, "a") as file:
        table = file[f"/dl1/event/telescope/parameters/tel_{tel_id:03d}"]
        rows = table[:]
        rows["intensity_max"] = np.minimum(rows["intensity_max"], level)
        table[:] = rows


@pytest.mark.parametrize(("level", "has_number"), [(10.0, False), (17.0, True)])
def test_one_telescope_that_saturates_is_alone_with_it(make, tmp_path, level, has_number):
    path = make({}, n_showers=6000)
    base = calibrated(path, tmp_path).telescopes.sort("tel_id")
    clip(path, 7, level)
    result = calibrated(path, tmp_path)
    found = result.telescopes.sort("tel_id")
    own = found.row(by_predicate=pl.col("tel_id") == 7, named=True)
    assert own["flag"] == "saturated"
    assert "of its images are saturated, from sizes of" in own["reason"]
    assert np.isfinite(own["value"]) == has_number
    assert result.verdict.status == "degraded"
    assert "MST 7 saturates unlike its type" in str(result.verdict) or not has_number
    # The ceiling is that of the telescope: its siblings keep the showers they share with others.
    siblings = (pl.col("tel_type") == "MST") & (pl.col("tel_id") != 7)
    assert found.filter(siblings)["flag"].to_list() == base.filter(siblings)["flag"].to_list()
    ratio = found.filter(siblings)["error"] / base.filter(siblings)["error"]
    # Some see most of their showers together with the one that is lost.
    assert ratio.median() < 1.1
    assert ratio.max() < 1.6


def test_pairs_without_a_selection_are_marked_when_images_saturate(make, tmp_path):
    result = calibrated(
        make({"LST": 10.0}), tmp_path, overrides=["RelativeThroughputFitter.estimator=pair"]
    )
    assert result.verdict.status == "degraded"
    assert "saturated images are in use" in str(result.verdict)


def test_without_brightest_pixels_the_result_says_that_it_was_not_checked(make, tmp_path):
    path = make({})
    verdict = str(calibrated(path, tmp_path).verdict)
    lose_brightest(path)
    result = calibrated(path, tmp_path)
    assert str(result.verdict) == verdict
    assert result.extras["block_notes"].select("topic", "note").rows() == [
        (
            "saturation",
            "not checked: the file has no intensity_max, the brightest pixel of an image",
        )
    ]


@pytest.mark.parametrize("preset", ["energy-inter", "energy-cross"])
def test_the_search_is_for_images_only(preset):
    assert load_configuration(preset=preset).ShowerSelection.ceiling is None
