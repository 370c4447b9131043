"""Results on disk: complete, readable, and all or none."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib import report
from arraycal.calib.blocks.cache import PairCache
from arraycal.calib.blocks.stage import BlockPairs
from arraycal.calib.calibrate import calibrate
from arraycal.calib.errors import WrongUsage
from arraycal.calib.hdf5.file import open_file, require_table
from arraycal.calib.hdf5.table import attribute_text
from arraycal.calib.monitoring import published_tables as monitoring
from arraycal.calib.observables import ENERGY_INTER
from arraycal.calib.publish import writing as store
from arraycal.calib.publish.writing import provenance, publish, publish_report, refuse_existing
from arraycal.calib.result.result import CLOCK_OFFSET
from arraycal.config import load_configuration

FILES = ["monitoring.h5", "report.html", "result.json"]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Five telescopes, of which the last one saw nothing."""
    toy = Toy(
        log_throughput=[0.1, -0.1, 0.05, -0.05], sigma=[0.2] * 4, n_showers=400, multiplicity=3
    )
    pairs = toy_pairs(toy, 1)
    summary = {"n_events": 1200, "n_pairs": len(pairs), "rejected": [("pair", "far apart", 7)]}
    entry = PairCache(tmp_path_factory.mktemp("cache")).store("toy", [pairs], summary)
    good = BlockPairs(
        Path("night/block_1.h5"),
        "ok",
        digest="d1",
        data_model="v7.6.0",
        obs_ids=(1,),
        subarray=toy_subarray(5),
        entry=entry,
    )
    bad = BlockPairs(Path("night/block_2.h5"), "failed", reason="truncated")
    configuration = load_configuration(preset="energy-inter")
    return calibrate([good, bad], ENERGY_INTER, configuration, provenance("arraycal run ..."))


@pytest.fixture(scope="module")
def published(result, tmp_path_factory):
    return publish(result, ENERGY_INTER, tmp_path_factory.mktemp("out"), overwrite=False)


@pytest.fixture
def quick(monkeypatch):
    """Without the figures, which take longest and have their own tests."""
    monkeypatch.setattr(report, "html", lambda *_: "<!doctype html>")


def read(path, name):
    with open_file(path) as file:
        table = require_table(file, name, path)
        rows = table.read()
        return {column: table.column(column, rows) for column in table.columns}


def tree(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_report_in_the_folder_of_its_night_links_to_the_index(result, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "html", lambda _, index: f"<!doctype html>{index}")
    ours = replace(result, provenance=result.provenance | {"nights": ["2026-03-01"]})
    several = replace(result, provenance={"nights": ["2026-03-01", "2026-03-02"]})
    for folder, made, expected in (
        ("2026-03-01", ours, "../../index.html"),
        ("2026-03-02", ours, ""),
        ("2026-03-01", several, ""),
        ("2026-03-01", result, ""),
    ):
        output = tmp_path / folder / "energy-inter"
        published = publish(made, ENERGY_INTER, output, overwrite=True)
        assert published.report.read_text() == f"<!doctype html>{expected}"
        assert publish_report(made, output).read_text() == f"<!doctype html>{expected}"


@pytest.mark.usefixtures("quick")
def test_who_reads_results_while_they_are_replaced_reads_the_old_ones_to_the_end(result, tmp_path):
    publish(result, ENERGY_INTER, tmp_path, overwrite=False)
    old = tree(tmp_path)
    streams = {name: (tmp_path / name).open("rb", buffering=0) for name in old}
    halves = {name: stream.read(len(old[name]) // 2) for name, stream in streams.items()}
    later = replace(result, provenance=result.provenance | {"command": "another"})
    publish(later, ENERGY_INTER, tmp_path, overwrite=True)
    publish_report(later, tmp_path)
    for name, stream in streams.items():
        with stream:
            assert halves[name] + stream.read() == old[name]
    assert tree(tmp_path)["result.json"] != old["result.json"]


class Killed(BaseException):
    """The process ends here."""


def killed_after(monkeypatch, n_renames):
    """Let a process die once it has given so many files their name; it says how many there were."""
    done = list[object]()
    for name in ("rename", "replace"):
        original = getattr(os, name)

        def rename(*args, original=original, **how):
            if len(done) == n_renames:
                raise Killed
            original(*args, **how)
            done.append(args)

        monkeypatch.setattr(os, name, rename)
    return done


@pytest.mark.usefixtures("quick")
def test_a_result_json_means_that_all_the_files_are_there(result, tmp_path, monkeypatch):
    # Whoever waits for results waits for the numbers, and then opens what belongs to them.
    for n_renames in range(9):
        output = tmp_path / str(n_renames)
        with monkeypatch.context() as patch:
            done = killed_after(patch, n_renames)
            try:
                publish(result, ENERGY_INTER, output, overwrite=False)
            except Killed:
                found = set(FILES) & set(tree(output))
                assert "result.json" not in found or found == set(FILES)
            else:
                assert n_renames == len(done) > 0
                return
    pytest.fail("publishing never ended")


@pytest.mark.usefixtures("quick")
def test_publish_writes_three_files_and_nothing_else(result, tmp_path):
    published = publish(result, ENERGY_INTER, tmp_path / "new" / "out", overwrite=False)
    out = tmp_path / "new" / "out"
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert published.monitoring == out / "monitoring.h5"
    assert published.report == out / "report.html"
    assert published.result == out / "result.json"


@pytest.mark.usefixtures("quick")
def test_coefficients_are_ordered_and_lack_telescopes_without_a_value(result, tmp_path):
    shuffled = replace(result, telescopes=result.telescopes.reverse())
    path = publish(shuffled, ENERGY_INTER, tmp_path, overwrite=False).monitoring
    table = read(path, ENERGY_INTER.monitoring_path)
    assert table["tel_id"].tolist() == [1, 2, 3, 4]
    expected = result.telescopes.sort("tel_id")[:4]
    np.testing.assert_array_equal(table["value"], expected["value"])
    np.testing.assert_array_equal(table["error"], expected["error"])
    assert [table[name].dtype for name in ("tel_id", "value")] == [np.int64, np.float64]
    with open_file(path) as file:
        obs_id = file[ENERGY_INTER.monitoring_path].attrs["obs_id"]
    assert obs_id.dtype == np.uint64
    assert obs_id.tolist() == [1]


def test_companions_hold_every_telescope_with_its_reason(result, published):
    path = published.monitoring
    table = read(path, f"{monitoring.SERVICE}/energy-inter/telescopes")
    assert table["tel_id"].tolist() == result.telescopes["tel_id"].to_list()
    assert table["reason"].tolist() == result.telescopes["reason"].to_list()
    assert table["reason"][-1] != ""
    assert np.isnan(table["value"][-1])
    assert table["pos_x"].tolist() == [0.0, 100.0, 200.0, 300.0, 400.0]


@pytest.mark.usefixtures("quick")
def test_tables_of_one_calibration_alone_are_companions_and_in_the_numbers(result, tmp_path):
    delays = pl.DataFrame({"tel_id": [1, 2], "delay_ns": [0.5, float("nan")], "note": ["", "late"]})
    more = replace(result, extras={"delays": delays})
    published = publish(more, ENERGY_INTER, tmp_path, overwrite=False)
    path = f"{monitoring.SERVICE}/energy-inter/delays"
    table = read(published.monitoring, path)
    np.testing.assert_array_equal(table["delay_ns"], [0.5, np.nan])
    assert table["note"].tolist() == ["", "late"]
    with open_file(published.monitoring) as file:
        assert attribute_text(file[path].attrs["CTAFIELD_1_UNIT"]) == "ns"
        assert file[path].attrs["obs_id"].tolist() == [1]
    content = json.loads(published.result.read_text())
    assert content["extras"]["delays"][1] == {"tel_id": 2, "delay_ns": None, "note": "late"}
    assert "published" not in content


@pytest.mark.usefixtures("quick")
def test_a_calibration_may_publish_more_tables_and_replace_its_own(result, tmp_path):
    factors = pl.DataFrame({"tel_type": ["LST"], "scaling_factor": [1.1]})
    own = pl.DataFrame({"tel_id": [3], "offset": [2.5]})
    paths = "/dl2/monitoring/subarray/cross/factors", ENERGY_INTER.monitoring_path
    tables = dict(zip(paths, (factors, own), strict=True))
    more = replace(result, published=tables, quantity=CLOCK_OFFSET)
    published = publish(more, ENERGY_INTER, tmp_path, overwrite=False)
    assert read(published.monitoring, paths[0])["scaling_factor"].tolist() == [1.1]
    assert list(read(published.monitoring, paths[1])) == ["tel_id", "offset"]
    with open_file(published.monitoring) as file:
        assert attribute_text(file[paths[1]].attrs["CTAFIELD_1_UNIT"]) == "ns"
    content = json.loads(published.result.read_text())
    assert content["published"][paths[0]] == [{"tel_type": "LST", "scaling_factor": 1.1}]


def test_companions_hold_what_the_result_holds(result, published):
    path = published.monitoring
    companion = f"{monitoring.SERVICE}/energy-inter"
    covariance = read(path, f"{companion}/covariance")
    assert covariance["tel_id"].tolist() == list(result.tel_ids)
    np.testing.assert_array_equal(covariance["covariance"], result.covariance)
    rejected = read(path, f"{companion}/rejected")
    assert rejected["rule"].tolist() == result.rejected["rule"].to_list()
    assert rejected["rows"].tolist() == result.rejected["rows"].to_list()
    blocks = read(path, f"{companion}/blocks")
    assert blocks["status"].tolist() == result.blocks["status"].to_list()
    assert blocks["digest"].tolist() == result.blocks["digest"].to_list()
    assert blocks["cached"].dtype == bool
    lines = read(path, f"{companion}/configuration")["line"]
    assert "\n".join(lines) == result.configuration.rstrip()
    assert len(read(path, f"{companion}/pairs")["pull"]) == len(result.pairs)
    assert len(read(path, f"{companion}/residuals")["rows"]) == len(result.residuals)
    made = read(path, f"{companion}/provenance")
    assert dict(zip(made["key"], made["value"], strict=True))["command"] == "arraycal run ..."


def test_the_file_carries_reference_metadata(published):
    with open_file(published.monitoring) as file:
        root = {key: attribute_text(value) for key, value in file.attrs.items()}
    assert root["CLASS"] == "GROUP"
    assert root["CTA REFERENCE VERSION"] == "1"
    assert root["CTA PRODUCT DATA LEVELS"] == "DL2"
    assert root["CTA PROCESS ID"] == "1"
    assert root["CTA ACTIVITY SOFTWARE NAME"] == "arraycal"
    assert root["CTA ACTIVITY START TIME"] <= root["CTA ACTIVITY STOP TIME"]


def test_result_json_is_strict_json_with_the_same_numbers(result, published):
    def refuse(token):
        raise AssertionError(token)

    read_back = json.loads(published.result.read_text(encoding="utf-8"), parse_constant=refuse)
    assert read_back == json.loads(json.dumps(result.to_json()))
    assert read_back["telescopes"][-1]["value"] is None


@pytest.mark.usefixtures("quick")
def test_a_result_without_any_coefficient_is_published(result, tmp_path):
    nothing = result.telescopes.with_columns(value=float("nan"), error=float("nan"))
    empty = replace(
        result,
        telescopes=nothing,
        tel_ids=(),
        covariance=np.empty((0, 0)),
        pairs=result.pairs.clear(),
        rejected=result.rejected.clear(),
        obs_ids=(),
        configuration="",
    )
    path = publish(empty, ENERGY_INTER, tmp_path, overwrite=False).monitoring
    assert read(path, ENERGY_INTER.monitoring_path)["tel_id"].tolist() == []


def test_names_that_are_no_text_do_not_cost_the_result(result, tmp_path):
    broken = os.fsdecode(b"/data/bl\xffock.h5")
    odd = replace(result, provenance={"command": broken, "versions": {"polars": "2"}})
    published = publish(odd, ENERGY_INTER, tmp_path, overwrite=False)
    assert "ock.h5" in published.report.read_text(encoding="utf-8")
    json.loads(published.result.read_text(encoding="utf-8"))


def test_provenance_names_what_can_change_a_number():
    made = provenance("arraycal run energy-inter night")
    assert made["command"] == "arraycal run energy-inter night"
    assert {"arraycal", "polars", "numpy", "scipy", "h5py"} <= made["versions"].keys()
    assert made["time_utc"].endswith("+00:00")
    json.dumps(made, allow_nan=False)


def test_existing_results_are_named_and_kept(result, tmp_path):
    (tmp_path / "result.json").write_text("old")
    with pytest.raises(WrongUsage, match=r"already holds result\.json.*--overwrite"):
        publish(result, ENERGY_INTER, tmp_path, overwrite=False)
    assert tree(tmp_path) == {"result.json": b"old"}


@pytest.mark.usefixtures("quick")
def test_existing_results_are_replaced_when_asked(result, tmp_path):
    for name in [*FILES, "notes.txt"]:
        (tmp_path / name).write_text("old")
    publish(result, ENERGY_INTER, tmp_path, overwrite=True)
    after = tree(tmp_path)
    assert sorted(after) == sorted([*FILES, "notes.txt"])
    assert after.pop("notes.txt") == b"old"
    assert b"old" not in after.values()


def test_a_file_is_no_output_folder(tmp_path):
    path = tmp_path / "out"
    path.write_text("")
    with pytest.raises(WrongUsage, match="this is a file"):
        refuse_existing(path, overwrite=True)


def test_a_folder_in_the_place_of_a_result_is_refused_even_when_overwriting(tmp_path):
    (tmp_path / "monitoring.h5").mkdir()
    with pytest.raises(WrongUsage, match=r"monitoring\.h5 is a folder"):
        refuse_existing(tmp_path, overwrite=True)


@pytest.mark.usefixtures("quick")
def test_a_failure_before_the_first_rename_leaves_the_old_results(result, tmp_path, monkeypatch):
    def fail(path):
        if path.name == "result.json":  # the last of the three
            raise OSError(28, "No space left on device")

    publish(result, ENERGY_INTER, tmp_path, overwrite=False)
    before = tree(tmp_path)
    monkeypatch.setattr(store, "sync", fail)
    with pytest.raises(OSError, match="No space left on device") as caught:
        publish(result, ENERGY_INTER, tmp_path, overwrite=True)
    assert str(tmp_path) in str(caught.value)
    assert "Nothing there was changed" in str(caught.value)
    assert caught.value.errno == 28
    assert tree(tmp_path) == before


def test_a_read_only_folder_is_named(result, tmp_path, monkeypatch):
    # The superuser may write anywhere, hence no chmod here.
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OSError, match="Read-only file system") as caught:
        publish(result, ENERGY_INTER, tmp_path / "out", overwrite=False)
    assert caught.value.errno == 30
    assert str(tmp_path / "out") in str(caught.value)


#: A limit on the size of files is to the writer what a disk is that fills up.
FILL_UP = """
import pickle, resource, sys
from pathlib import Path
from arraycal.calib.publish import writing as store
from arraycal.calib.observables import ENERGY_INTER

result, limit = pickle.loads(Path(sys.argv[1]).read_bytes()), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    store.publish(result, ENERGY_INTER, Path(sys.argv[2]), overwrite=True)
except OSError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [1, 100_000])
def test_a_disk_that_fills_up_leaves_the_old_results(result, published, tmp_path, limit):
    out = published.result.parent
    assert published.monitoring.stat().st_size < 100_000 < published.report.stat().st_size
    before = tree(out)
    (tmp_path / "result.pickle").write_bytes(pickle.dumps(result))
    command = [sys.executable, "-c", FILL_UP, str(tmp_path / "result.pickle"), str(out), str(limit)]
    root = Path(store.__file__).parents[3]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert f"cannot be written to {out}: File too large" in done.stdout
    assert tree(out) == before
