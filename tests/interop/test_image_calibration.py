"""Image sizes of the same blocks through both programs, with the peer's selection."""

import json

import numpy as np
import pytest

QTable = pytest.importorskip("astropy.table").QTable
ctapipe_io = pytest.importorskip("ctapipe.io")

KEYS = ("obs_id", "event_id", "tel_id_1", "tel_id_2")
#: The peer's minimiser stops up to a few thousandths of an error from the minimum.
STOPS_SHORT = 1e-2


def by_key(table, column):
    keys = zip(*(table[name].tolist() for name in KEYS), strict=True)
    return dict(zip(keys, np.asarray(table[column]), strict=True))


@pytest.fixture(scope="module")
def peer_rows(peer_image_asymmetries):
    """The peer's asymmetries by shower and pair."""
    rows: dict[tuple[int, ...], float] = {}
    for path in sorted(peer_image_asymmetries.glob("*.h5")):
        table = QTable.read(path, path="/image_asymmetry/events", format="hdf5")
        rows |= by_key(table, "image_asymmetry")
    return rows


@pytest.fixture(scope="module")
def our_rows(array):
    path = array / "images" / "pairs.csv"
    table = np.genfromtxt(path, delimiter=",", names=True, dtype=None)
    return by_key(table, "asymmetry")


def test_both_select_the_same_rows_of_sizes(our_rows, peer_rows):
    assert len(our_rows) > 1000
    assert our_rows.keys() == peer_rows.keys()


def test_every_asymmetry_of_sizes_is_the_same(our_rows, peer_rows):
    keys = sorted(our_rows)
    ours, theirs = ([rows[key] for key in keys] for rows in (our_rows, peer_rows))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


def assert_same(ours, theirs):
    """Compare two coefficient tables ordered by type and telescope."""
    np.testing.assert_array_equal(ours["tel_id"], theirs["tel_id"])
    np.testing.assert_array_equal(ours["tel_type"], theirs["tel_type"])
    assert np.isfinite(theirs["value"]).all()
    difference = np.abs(ours["value"] - theirs["value"]) / theirs["error"]
    print(f"largest difference of a coefficient: {difference.max():.1e} of its error")
    assert difference.max() < STOPS_SHORT


def test_the_coefficients_of_sizes_are_the_same(array, peer_image_coefficients):
    path = array / "images" / "monitoring.h5"
    ours = ctapipe_io.read_table(path, "/dl2/monitoring/subarray/inter_calibration")
    assert_same(ours, peer_image_coefficients)


def test_our_asymmetries_of_sizes_feed_the_peer(array, peer_image_coefficients, inter_calibrate):
    output = array / "peer_images" / "inter_calibration_from_ours.h5"
    folder = array / "images" / "asymmetries"
    from_ours = inter_calibrate(folder, output, "image_inter_calibration")
    assert_same(from_ours, peer_image_coefficients)
    truth = json.loads((array / "blocks" / "truth.json").read_text(encoding="utf-8"))
    assert from_ours.meta["obs_id"].tolist() == truth["obs_ids"]
