"""The same blocks through both programs, with the peer's selection and its estimator."""

import json

import numpy as np
import pytest

QTable = pytest.importorskip("astropy.table").QTable
ctapipe_io = pytest.importorskip("ctapipe.io")

#: The peer's minimiser stops up to a few thousandths of an error from the minimum.
STOPS_SHORT = 1e-2


@pytest.fixture(scope="module")
def peer_rows(peer_asymmetries):
    """The peer's event rows by shower and pair."""
    rows: dict[tuple[int, ...], float] = {}
    for path in sorted(peer_asymmetries.glob("*.h5")):
        table = QTable.read(path, path="/energy_asymmetry/events", format="hdf5")
        keys = zip(*(table[name].tolist() for name in KEYS), strict=True)
        rows.update(zip(keys, np.asarray(table["energy_asymmetry"]), strict=True))
    return rows


KEYS = ("obs_id", "event_id", "tel_id_1", "tel_id_2")


@pytest.fixture(scope="module")
def our_rows(array):
    table = np.genfromtxt(array / "pairs.csv", delimiter=",", names=True, dtype=None)
    keys = zip(*(table[name].tolist() for name in KEYS), strict=True)
    return dict(zip(keys, table["asymmetry"], strict=True))


def test_both_select_the_same_rows(our_rows, peer_rows):
    assert len(our_rows) > 4000
    assert our_rows.keys() == peer_rows.keys()


def test_every_asymmetry_is_the_same(our_rows, peer_rows):
    keys = sorted(our_rows)
    ours, theirs = ([rows[key] for key in keys] for rows in (our_rows, peer_rows))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


def test_the_means_of_all_pairs_are_the_same(array, peer_rows):
    ours = np.genfromtxt(array / "pair_summary.csv", delimiter=",", names=True, dtype=None)
    by_pair: dict[tuple[int, int], list[float]] = {}
    for (_, _, first, second), asymmetry in peer_rows.items():
        by_pair.setdefault((first, second), []).append(asymmetry)
    assert {(row["tel_id_1"], row["tel_id_2"]) for row in ours} == by_pair.keys()
    for row in ours:
        values = np.asarray(by_pair[row["tel_id_1"], row["tel_id_2"]])
        assert row["n_events"] == len(values)
        # as in the peer's aggregate_by_pair
        spread = np.std(values, ddof=1)
        expected = [values.mean(), spread, spread / np.sqrt(len(values))]
        found = [row["mean_asymmetry"], row["std_asymmetry"], row["mean_asymmetry_err"]]
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def assert_same(ours, theirs):
    """Compare two coefficient tables ordered by type and telescope."""
    np.testing.assert_array_equal(ours["tel_id"], theirs["tel_id"])
    np.testing.assert_array_equal(ours["tel_type"], theirs["tel_type"])
    assert np.isfinite(theirs["value"]).all()
    difference = np.abs(ours["value"] - theirs["value"]) / theirs["error"]
    print(f"largest difference of a coefficient: {difference.max():.1e} of its error")
    assert difference.max() < STOPS_SHORT


def test_the_coefficients_are_the_same(array, peer_coefficients):
    path = array / "peer_selection" / "monitoring.h5"
    ours = ctapipe_io.read_table(path, "/dl2/monitoring/subarray/inter_calibration")
    assert_same(ours, peer_coefficients)
    # Its reference telescopes have the error 0.01, the minimiser's first step; ours have none.
    free = ours["error"] > 0
    assert (peer_coefficients["error"][~free] == 0.01).all()
    # Minuit's errors are estimates from the last steps, good to some per cent.
    np.testing.assert_allclose(ours["error"][free], peer_coefficients["error"][free], rtol=0.1)


def test_our_asymmetry_files_feed_the_peer(array, peer_coefficients, inter_calibrate):
    output = array / "peer" / "inter_calibration_from_ours.h5"
    from_ours = inter_calibrate(array / "asymmetries", output)
    assert_same(from_ours, peer_coefficients)
    truth = json.loads((array / "blocks" / "truth.json").read_text(encoding="utf-8"))
    assert from_ours.meta["obs_id"].tolist() == truth["obs_ids"]
