"""Our monitoring file as ctapipe and the peer's cross-calibration see it."""

import json
import shutil

import numpy as np
import pytest

ctapipe_io = pytest.importorskip("ctapipe.io")
metadata = pytest.importorskip("ctapipe.io.metadata")
tables = pytest.importorskip("tables")

INTER_CALIBRATION = "/dl2/monitoring/subarray/inter_calibration"
CROSS_CALIBRATION = "/dl2/monitoring/subarray/cross_calibration"
SERVICE = "/dl2/service/arraycal/energy-inter"
COMPANIONS = {
    "telescopes",
    "pairs",
    "covariance",
    "rejected",
    "blocks",
    "residuals",
    "configuration",
    "fit",
    "provenance",
}
#: The telescope of the peer's reference type that the result in ``lacking`` has no value for.
LOST_TELESCOPE = 6


@pytest.fixture(scope="module", params=["peer_selection", "recommended"])
def home(array, request):
    return array / request.param


@pytest.fixture(scope="module")
def monitoring(home):
    return home / "monitoring.h5"


@pytest.fixture(scope="module")
def result(home):
    return json.loads((home / "result.json").read_text(encoding="utf-8"))


def test_the_coefficients_have_the_peers_columns(monitoring, result):
    table = ctapipe_io.read_table(monitoring, INTER_CALIBRATION)
    assert table.colnames == ["tel_type", "tel_id", "value", "error"]
    assert [table[name].dtype.kind for name in table.colnames] == ["U", "i", "f", "f"]
    assert table["tel_id"].dtype == np.int64
    assert table.meta["obs_id"].dtype == np.uint64
    assert table.meta["obs_id"].tolist() == result["obs_ids"]


def test_the_coefficients_are_those_of_the_result(monitoring, result):
    table = ctapipe_io.read_table(monitoring, INTER_CALIBRATION)
    expected = [row for row in result["telescopes"] if row["value"] is not None]
    expected.sort(key=lambda row: (row["tel_type"], row["tel_id"]))
    for name in table.colnames:
        assert table[name].tolist() == [row[name] for row in expected]


def test_every_companion_table_can_be_read(monitoring, result):
    with tables.open_file(monitoring) as file:
        paths = {node._v_pathname for node in file.walk_nodes("/", "Table")}
        found = {path: ctapipe_io.read_table(file, path) for path in paths}
    extras = result["extras"]
    assert "pair_histograms" in extras
    assert paths == {INTER_CALIBRATION} | {f"{SERVICE}/{name}" for name in COMPANIONS | set(extras)}
    for name, rows in extras.items():
        assert len(found[f"{SERVICE}/{name}"]) == len(rows)
    telescopes = found[f"{SERVICE}/telescopes"]
    assert telescopes["tel_id"].tolist() == [row["tel_id"] for row in result["telescopes"]]
    assert telescopes["pos_x"].unit == "m"
    assert telescopes["reason"].tolist() == [row["reason"] for row in result["telescopes"]]
    blocks = found[f"{SERVICE}/blocks"]
    assert blocks["cached"].dtype == bool
    assert len(found[f"{SERVICE}/pairs"]) == len(result["pairs"])
    covariance = found[f"{SERVICE}/covariance"]
    assert covariance["tel_id"].tolist() == result["covariance"]["tel_ids"]
    # null in JSON, here NaN
    expected = np.asarray(result["covariance"]["matrix"], float)
    np.testing.assert_array_equal(covariance["covariance"], expected)
    lines = found[f"{SERVICE}/configuration"]["line"]
    assert "\n".join(lines) == result["configuration"].rstrip()


def test_tables_can_be_searched_with_pytables(monitoring):
    with tables.open_file(monitoring) as file:
        found = file.get_node(INTER_CALIBRATION).read_where("tel_id == 2")
    assert found["tel_id"].tolist() == [2]


def test_the_reference_metadata_are_complete(monitoring):
    reference = metadata.read_reference_metadata(monitoring)
    assert reference.product.format == "hdf5"
    assert [level.name for level in reference.product.data_levels] == ["DL2"]
    assert reference.activity.software_name == "arraycal"
    assert reference.process.id_ == "1001,1002"
    written = {key for key in metadata.read_hdf5_metadata(monitoring) if key.startswith("CTA ")}
    assert written == set(reference.to_dict())


@pytest.fixture(scope="module")
def cross_calibrate(exchange, run_tool):
    """Let the peer cross-calibrate a copy of a result of an array, which it writes into."""

    def run(array, result, change=None, config="cross_calibration"):
        home = exchange / array / "peer" / f"{config}_{result}_{change is not None}"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        copy = home / "monitoring.h5"
        shutil.copy(exchange / array / result / "monitoring.h5", copy)
        if change:
            change(copy)
        arguments = ("-i", copy, "-d", exchange / array / "blocks")
        printed = run_tool("cross-calibration", config, *arguments, cwd=home)
        factors, coefficients, before = (
            ctapipe_io.read_table(copy, path)
            for path in (
                f"{CROSS_CALIBRATION}/scaling_factors",
                f"{CROSS_CALIBRATION}/coefficients",
                INTER_CALIBRATION,
            )
        )
        return factors, coefficients, before, printed

    return run


@pytest.mark.parametrize("config", ["cross_calibration", "guide_energy_cross_calibration"])
def test_the_peers_cross_calibration_takes_our_file(cross_calibrate, config):
    factors, coefficients, before, _ = cross_calibrate("mixed", "peer_selection", config=config)
    assert sorted(factors["tel_type"]) == ["LST", "SST"]
    # The types of the simulation agree in scale, but for the throughput of their reference
    # telescopes, which the gauge calls 1, and the biases of the peer's selection.
    assert (np.abs(np.log(factors["scaling_factor"])) < 0.4).all()
    scale = dict(zip(factors["tel_type"], factors["scaling_factor"], strict=True))
    expected = [row["value"] * scale.get(row["tel_type"], 1.0) for row in before]
    np.testing.assert_allclose(coefficients["value"], expected, rtol=1e-12)
    assert coefficients.meta["obs_id"].tolist() == [1001, 1002]


def test_the_peers_cross_calibration_takes_our_cross_calibration(cross_calibrate, exchange):
    own = exchange / "north" / "cross" / "monitoring.h5"
    ours = ctapipe_io.read_table(own, f"{CROSS_CALIBRATION}/scaling_factors")
    written = ctapipe_io.read_table(own, f"{CROSS_CALIBRATION}/coefficients")
    assert written.colnames == ["tel_type", "tel_id", "value", "error"]
    assert written.meta["obs_id"].tolist() == [1001, 1002]
    factors, coefficients, before, _ = cross_calibrate("north", "cross")
    assert ours.colnames == factors.colnames
    assert factors["tel_type"].tolist() == ours["tel_type"].tolist() == ["LST"]
    scale = {"LST": factors["scaling_factor"][0]}
    expected = [row["value"] * scale.get(row["tel_type"], 1.0) for row in before]
    np.testing.assert_allclose(coefficients["value"], expected, rtol=1e-12)


def test_the_peer_names_a_telescope_without_a_row(cross_calibrate):
    factors, coefficients, before, printed = cross_calibrate("north", "lacking")
    assert LOST_TELESCOPE not in before["tel_id"]
    assert f"No inter-calibration factor found for telescope {LOST_TELESCOPE}" in printed
    assert np.isfinite(factors["scaling_factor"]).all()
    assert coefficients["tel_id"].tolist() == before["tel_id"].tolist()
    assert np.isfinite(coefficients["value"]).all()


def test_one_nan_would_cost_the_peer_every_factor(cross_calibrate):
    # The reason why a telescope without a coefficient has no row in our file.
    def set_nan(path):
        with tables.open_file(path, "a") as file:
            table = file.get_node(INTER_CALIBRATION)
            rows = table.read()
            rows["value"][rows["tel_id"] == LOST_TELESCOPE] = np.nan
            table[:] = rows

    factors, *_ = cross_calibrate("north", "peer_selection", set_nan)
    assert np.isnan(factors["scaling_factor"]).all()
