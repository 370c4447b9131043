"""The verdict on a night: what it says, and that it survives its file."""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from arraycal.calib.blocks.stage import BlockPairs
from arraycal.calib.nights.night_blocks import LeftOut, NightFiles
from arraycal.calib.nights.record import (
    NIGHT_FILE,
    CalibrationRecord,
    NightRecord,
    file_digests,
    file_stamp,
    fingerprint,
    judge_night,
    read_night,
    write_night,
)
from arraycal.calib.publish.writing import FILES

NIGHT = date(2026, 3, 1)
BLOCKS = (Path("a.dl2.h5"), Path("b.dl2.h5"))
LATE = LeftOut(Path("late.dl2.h5"), "it changed 3 s ago, and may be growing")


def made(name="energy-inter", status="usable", *reasons):
    return CalibrationRecord(name, status, reasons)


def night(**changes):
    return NightFiles(NIGHT, **{"blocks": BLOCKS} | changes)


def test_a_night_is_usable_when_all_its_calibrations_are():
    assert judge_night(night(), [made(), made("image-inter")]) == ("usable", ())


def test_one_calibration_that_is_not_usable_degrades_the_night_and_is_named():
    bad = made("image-inter", "unusable", "no images")
    assert judge_night(night(), [made(), bad]) == (
        "degraded",
        ("image-inter unusable (no images)",),
    )


def test_a_reason_that_calibrations_share_is_said_once():
    newer = "not in the history: it has schema version 9999, of a newer arraycal"
    several = [
        made("energy-inter", "degraded", "1 block left out (b.h5)", newer),
        made("energy-cross", "degraded", "1 block left out (b.h5)", "2 islands", newer),
        made("image-inter", "degraded", newer),
        made("timing-cross", "unusable", newer),
    ]
    assert judge_night(night(), several)[1] == (
        "energy-inter, energy-cross degraded (1 block left out (b.h5))",
        f"energy-inter, energy-cross, image-inter degraded ({newer})",
        "energy-cross degraded (2 islands)",
        f"timing-cross unusable ({newer})",
    )


def test_a_night_without_usable_calibration_is_unusable():
    status, reasons = judge_night(night(), [made(status="unusable"), made("x", "unusable")])
    assert status == "unusable"
    assert len(reasons) == 2


@pytest.mark.parametrize("kind", ["waiting", "left_out"])
def test_a_file_that_is_missing_from_the_result_degrades_the_night(kind):
    status, reasons = judge_night(night(**{kind: (LATE,)}), [made()])
    assert status == "degraded"
    assert "late.dl2.h5" in reasons[0]
    assert "3 s ago" in reasons[0]


def test_a_night_without_blocks_is_nothing_to_do():
    assert judge_night(night(blocks=()), []) == ("nothing to do", ("no block was found",))
    status, reasons = judge_night(night(blocks=(), waiting=(LATE,)), [])
    assert status == "nothing to do"
    assert reasons == ("late.dl2.h5 waits: it changed 3 s ago, and may be growing",)


def test_a_calibration_with_nothing_to_do_does_not_spoil_the_others():
    idle = made("energy-cross", "nothing to do", "one type of telescope only")
    assert judge_night(night(), [made(), idle])[0] == "usable"
    assert judge_night(night(), [idle])[0] == "nothing to do"


def test_a_record_comes_back_from_its_file(tmp_path):
    record = NightRecord(
        night=NIGHT,
        time_zone="Atlantic/Canary",
        status="degraded",
        reasons=("late.dl2.h5 waits",),
        is_complete=False,
        calibrations=(
            CalibrationRecord("energy-inter", "usable", (), "f", "energy-inter", {"a": "b"}, 2, 1),
        ),
        blocks=(("a.dl2.h5", "10 20"),),
        waiting=(("late.dl2.h5", "growing"),),
        provenance={"command": "x"},
    )
    path = write_night(tmp_path / "2026-03-01", record)
    assert path.name == NIGHT_FILE
    assert read_night(path.parent) == record
    assert [item.name for item in path.parent.iterdir()] == [NIGHT_FILE]


def test_what_a_killed_run_left_does_not_stay(tmp_path):
    (tmp_path / f".{NIGHT_FILE}.tmp").write_text('{"schema": 1, "nig')
    write_night(tmp_path, NightRecord(NIGHT, "UTC", "nothing to do"))
    assert [item.name for item in tmp_path.iterdir()] == [NIGHT_FILE]


@pytest.mark.parametrize(
    "content", [None, "", "[]", "{}", '{"schema": 99}', '{"schema": 1, "night": "today"}']
)
def test_a_record_that_makes_no_sense_is_no_record(tmp_path, content):
    if content is not None:
        (tmp_path / NIGHT_FILE).write_text(content)
    assert read_night(tmp_path) is None


def test_a_record_of_another_layout_is_no_record(tmp_path):
    path = write_night(tmp_path, NightRecord(NIGHT, "UTC", "nothing to do"))
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"schema": content["schema"] + 1}))
    assert read_night(tmp_path) is None


def test_results_are_intact_as_long_as_no_file_changes(tmp_path):
    folder = tmp_path / "energy-inter"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text(name)
    record = CalibrationRecord("energy-inter", "usable", (), "f", folder.name, file_digests(folder))
    assert record.is_intact(tmp_path)
    (folder / FILES[0]).write_text("other")
    assert not record.is_intact(tmp_path)
    (folder / FILES[0]).unlink()
    assert not record.is_intact(tmp_path)
    assert not CalibrationRecord("energy-inter", "unusable").is_intact(tmp_path)


def blocks_of(**changes):
    one, two = (BlockPairs(Path(name), "ok", digest=name) for name in "ab")
    return [one, replace(two, **changes)]


def test_a_fingerprint_knows_no_order_and_no_cache():
    one = fingerprint("energy-inter", "x: 1", blocks_of(), "0.1")
    assert fingerprint("energy-inter", "x: 1", blocks_of()[::-1], "0.1") == one
    assert fingerprint("energy-inter", "x: 1", blocks_of(cached=True), "0.1") == one


@pytest.mark.parametrize(
    "other",
    [
        ("image-inter", "x: 1", blocks_of(), "0.1"),
        ("energy-inter", "x: 2", blocks_of(), "0.1"),
        ("energy-inter", "x: 1", blocks_of()[:1], "0.1"),
        ("energy-inter", "x: 1", blocks_of(digest="3"), "0.1"),
        ("energy-inter", "x: 1", blocks_of(status="failed", reason="torn"), "0.1"),
        ("energy-inter", "x: 1", blocks_of(), "0.2"),
        ("energy-inter", "x: 1", blocks_of(), "0.1", {"energy-inter": "f"}),
    ],
)
def test_a_fingerprint_changes_with_everything_the_result_depends_on(other):
    assert fingerprint(*other) != fingerprint("energy-inter", "x: 1", blocks_of(), "0.1")


def test_the_stamp_of_a_file_changes_with_it(tmp_path):
    path = tmp_path / "a"
    assert not file_stamp(path)
    path.write_text("one")
    one = file_stamp(path)
    path.write_text("longer")
    assert file_stamp(path) != one
