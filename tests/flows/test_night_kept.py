"""A night whose blocks have gone, of which a part is run, or that the history has lost."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from arraycal.calib.errors import WrongUsage
from arraycal.calib.history.database import read_history
from arraycal.calib.history.reading import Selection, runs
from arraycal.calib.nights.record import NightRecord, read_night, write_night
from arraycal.calib.publish.writing import INDEX
from arraycal.flows.jobs.parameters import NightlyParameters
from arraycal.flows.night.find_blocks import find_night, nights_to_do, overdue, unfinished_nights
from arraycal.flows.night.page import night_page
from arraycal.flows.night.run import calibrate_nights, run_nightly
from tests.flows.test_night import NIGHT, site

__all__ = ["site"]

BOTH = ("energy-inter", "image-inter")


@pytest.fixture
def archive(tmp_path):
    """Take blocks out of the data folder, or put them back."""
    folder = tmp_path / "archive"
    folder.mkdir()

    def move(*paths):
        return [path.rename(folder / path.name) for path in paths]

    return move


def blocks_of(site):
    return sorted(site.data.rglob("*.dl2.h5"))


def unfinished(site):
    return unfinished_nights([NIGHT], site.options(), site.settings) == [NIGHT]


def through_the_index(site, **changes):
    """Run the night and the index; return the record."""
    options = site.options(**changes)
    (record,) = calibrate_nights([NIGHT], options, site.settings, site.stages())
    return record


def test_a_damaged_block_that_was_taken_away_leaves_its_night_free(site):
    damaged = site.data / "damaged_20200614.dl2.h5"
    damaged.write_bytes(b"no HDF5")
    first = site.run(settle_s=0)
    assert first.status == "degraded"
    assert first.calibrations[0].failed == (str(damaged),)
    # No result stands on it: what is left is the whole night.
    damaged.unlink()
    assert unfinished(site)
    record = site.run()
    assert (record.status, record.reasons, record.remarks) == ("usable", (), ())
    assert not unfinished(site)


def test_a_calibration_that_was_never_made_is_missed_when_blocks_are_gone(site, archive):
    site.run(**two(site, "energy-inter"))
    archive(blocks_of(site)[0])
    record = site.run(**two(site, *BOTH))
    assert [item.calibration for item in record.calibrations] == ["energy-inter"]
    assert record.status == "degraded"
    assert "image-inter was not made, and blocks are no longer there" in record.reasons


def test_blocks_that_moved_below_the_data_folder_are_the_same_for_other_calibrations(site):
    site.run(**two(site, *BOTH))
    (site.data / "old").mkdir()
    for path in blocks_of(site):
        path.rename(site.data / "old" / path.name)
    record = site.run(**two(site, "energy-inter"))
    assert record.status == "usable"
    assert not any(item.is_outdated for item in record.calibrations)


def test_sizes_stay_as_they_are_when_their_energies_are_recorded_again(site):
    site.run(**two(site, *BOTH))
    for file in site.output.glob("history.sqlite*"):
        file.unlink()
    record = site.run(**two(site, *BOTH))
    assert [item.is_reused for item in record.calibrations] == [True, True]
    assert sorted(nights_in_history(site.settings)) == [NIGHT, NIGHT]


def test_a_night_whose_blocks_were_archived_keeps_its_verdict_and_says_so(site, archive):
    first, before = through_the_index(site), site.published()
    archive(*blocks_of(site))
    assert not unfinished(site)
    record = through_the_index(site)
    day = first.calibrations[0].made[:10]
    assert record.status == "usable"
    (remark,) = record.remarks
    assert remark == (
        "2 of 2 blocks are no longer there (block_1001.dl2.h5, block_1002.dl2.h5); "
        f"the results of {day} are kept"
    )
    assert record.calibrations == (replace(first.calibrations[0], is_reused=True),)
    assert record.blocks == first.blocks
    assert record.provenance == first.provenance
    assert read_night(site.folder) == record
    assert site.published() == before
    page = (site.output / INDEX).read_text()
    assert f"{NIGHT}/energy-inter/report.html" in page
    assert "2 of 2 blocks are no longer there" in page
    shown = night_page([record], {NIGHT: site.folder})
    assert remark in shown.replace("\\_", "_")  # names are text in Markdown
    assert remark in str(record)


def test_blocks_that_come_back_are_as_if_they_had_never_gone(site, archive):
    first = site.run()
    paths = blocks_of(site)
    for there, path in zip(archive(*paths), paths, strict=True):
        site.run()
        there.rename(path)
    record = site.run()
    assert record.remarks == ()
    assert record.calibrations[0].is_reused
    assert record.calibrations[0].digests == first.calibrations[0].digests


def test_a_degraded_night_does_not_get_better_when_its_files_are_archived(site, archive):
    damaged = site.data / "damaged_20200614.dl2.h5"
    damaged.write_bytes(b"no HDF5")
    waits = site.run(settle_s=0)
    assert waits.status == "degraded"
    archive(*blocks_of(site))
    record = site.run()
    assert (record.status, record.reasons) == (waits.status, waits.reasons)


def test_a_file_that_waited_and_is_archived_stays_missing(site, archive):
    found = site.run()
    late = site.data / "late.dl2.h5"
    before = replace(found, waiting=((str(late), "it was open"),), is_complete=False)
    write_night(site.folder, before)
    archive(*blocks_of(site))
    record = site.run()
    assert record.status == "degraded"
    assert record.left_out == ((str(late), "no longer there; when it was: it was open"),)
    assert not unfinished(site)


def test_fewer_blocks_replace_the_results_of_more_only_on_request(site, archive):
    site.run()
    before = site.published()
    archive(blocks_of(site)[0])
    record = site.run()
    assert record.status == "usable"
    assert "1 of 2 blocks is no longer there (block_1001.dl2.h5)" in record.remarks[0]
    assert f"arraycal nightly --night {NIGHT} --again" in record.remarks[0]
    assert site.published() == before
    record = site.run(again="always")
    assert record.calibrations[0].n_blocks == 1
    assert "1 of 2 blocks is no longer there" in record.remarks[0]
    assert "the results are without them" in record.remarks[0]
    assert len(json.loads(site.published()["result.json"])["blocks"]) == 1
    assert not unfinished(site)


def test_a_new_block_beside_missing_ones_is_named_and_the_results_stay(site, archive):
    site.run()
    before = site.published()
    (first, second) = blocks_of(site)
    new = site.data / "new.dl2.h5"
    shutil.copy(second, new)
    archive(first)
    assert unfinished(site)
    record = site.run()
    assert record.status == "degraded"
    assert site.published() == before
    ((path, reason),) = record.left_out
    assert path == str(new)
    assert reason.startswith("not in the results of ")
    assert "1 of 2 blocks" in record.remarks[0]
    assert not unfinished(site)  # everything has been said


def test_blocks_that_moved_into_another_folder_are_the_same_blocks(site):
    first = site.run()
    (site.data / "2020-06-14").mkdir()
    for path in blocks_of(site):
        path.rename(site.data / "2020-06-14" / path.name)
    record = site.run()
    assert record.remarks == ()
    assert record.status == first.status
    assert record.calibrations[0].n_cached == 2
    assert {path.split("/")[-2] for path, _ in record.blocks} == {"2020-06-14"}


def test_a_night_without_results_whose_blocks_have_gone_is_nothing_to_do(site, archive):
    site.run()
    shutil.rmtree(site.folder / "energy-inter")
    archive(*blocks_of(site))
    assert site.run().status == "nothing to do"


def two(site, *names):
    return {"calibrations": [{"calibration": n, "overrides": site.overrides} for n in names]}


def test_a_run_of_one_calibration_leaves_the_others_in_the_record(site):
    first = site.run(**two(site, *BOTH))
    part = site.run(**two(site, "energy-inter"))
    assert [item.calibration for item in part.calibrations] == list(BOTH)
    assert part.calibrations[1] == replace(first.calibrations[1], is_reused=True)
    assert part.calibrations[1].made == first.calibrations[1].made != ""
    assert (part.status, part.reasons) == (first.status, first.reasons)
    again = site.run(**two(site, *BOTH))
    assert [item.is_reused for item in again.calibrations] == [True, True]


def test_a_run_of_image_sizes_alone_finds_the_energies_of_the_night(site):
    first = site.run(**two(site, *BOTH))
    part = site.run(**two(site, "image-inter"))
    assert [item.is_reused for item in part.calibrations] == [True, True]
    assert part.calibrations[1].fingerprint == first.calibrations[1].fingerprint


def test_calibrations_whose_results_are_gone_are_not_in_the_record(site):
    site.run(**two(site, *BOTH))
    shutil.rmtree(site.folder / "image-inter")
    part = site.run(**two(site, "energy-inter"))
    assert [item.calibration for item in part.calibrations] == ["energy-inter"]


def test_a_calibration_that_lacks_a_late_block_is_named_until_it_is_run(site, archive):
    late = blocks_of(site)[1]
    (there,) = archive(late)
    site.run(**two(site, *BOTH))
    there.rename(late)
    part = site.run(**two(site, "energy-inter"))
    made = part.calibrations[1].made[:10]
    assert part.status == "degraded"
    assert f"image-inter was made from other blocks, on {made}" in part.reasons
    options = site.options(**two(site, *BOTH))
    assert unfinished_nights([NIGHT], options, site.settings) == [NIGHT]
    full = site.run(**two(site, *BOTH))
    assert not any("other blocks" in reason for reason in full.reasons)
    assert full.calibrations[1].n_blocks == 2
    assert unfinished_nights([NIGHT], options, site.settings) == []


def nights_in_history(settings):
    with read_history(settings.history_url) as history:
        return runs(history, Selection())["night"].to_list()


@pytest.mark.parametrize("how", ["deleted", "emptied", "elsewhere"])
def test_a_history_that_lacks_an_unchanged_result_gets_it(site, how):
    first = site.run()
    file = site.output / "history.sqlite"
    if how == "elsewhere":
        url = f"sqlite:///{site.output / 'other.sqlite'}"
        site.settings = site.settings.model_copy(update={"database_url": url})
    else:
        for path in site.output.glob("history.sqlite*"):
            path.unlink()
        if how == "emptied":
            file.touch()
    record = site.run()
    assert nights_in_history(site.settings) == [NIGHT]
    assert record.status == "usable"
    assert record.calibrations[0].is_reused  # nobody is told of anything new
    assert record.calibrations[0].fingerprint == first.calibrations[0].fingerprint
    assert site.heard.solved == 1
    site.run()
    assert site.heard.solved == 0


def test_an_older_copy_of_the_history_gets_the_newer_result(site):
    site.run()
    file = site.output / "history.sqlite"
    copy = file.read_bytes()
    second = site.run(again="always")
    file.write_bytes(copy)
    for path in site.output.glob("history.sqlite-*"):
        path.unlink()
    record = site.run()
    assert record.calibrations[0].made > second.calibrations[0].made
    site.run()
    assert site.heard.solved == 0


def test_a_history_on_a_server_that_does_not_answer_leaves_the_results_alone(site):
    site.run()
    url = "postgresql://nobody@127.0.0.1:9/none"
    site.settings = site.settings.model_copy(update={"database_url": url})
    record = site.run()
    assert record.calibrations[0].is_reused
    assert record.status == "usable"
    assert site.heard.solved == 0


def test_links_that_cannot_be_followed_are_named_and_the_rest_is_calibrated(site, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("a", "b"):
        shutil.copy(blocks_of(site)[0], outside / f"{name}.dl2.h5")
    (site.data / "out.dl2.h5").symlink_to(outside / "a.dl2.h5")
    (site.data / "folder").symlink_to(outside)
    (site.data / "dangling.dl2.h5").symlink_to(site.data / "nothing.dl2.h5")
    (site.data / "astray.dl2.h5").symlink_to(tmp_path / "nothing.dl2.h5")
    (site.data / "other_20200613.dl2.h5").symlink_to(outside / "a.dl2.h5")
    record = site.run()
    assert record.status == "degraded"
    assert record.calibrations[0].n_blocks == 2
    named = {path.rsplit("/", 1)[-1]: reason for path, reason in record.left_out}
    assert set(named) == {"out.dl2.h5", "folder", "dangling.dl2.h5", "astray.dl2.h5"}
    assert "ARRAYCAL_DATA_ROOT" in named["folder"]
    assert "nothing.dl2.h5, which is not there" in named["dangling.dl2.h5"]
    assert not unfinished(site)


@pytest.mark.parametrize(("day", "n_named"), [("2020/06/14", 1), ("2020/06/15", 0)])
def test_a_folder_of_a_night_that_leads_out_is_named_in_that_night(site, tmp_path, day, n_named):
    (site.data / day).parent.mkdir(parents=True)
    (site.data / day).symlink_to(tmp_path)
    files = find_night(NIGHT, site.options(blocks="{night:%Y/%m/%d}/*.dl2.h5"), site.settings)
    assert [item.path for item in files.left_out] == [site.data / day] * n_named


@pytest.mark.parametrize("day", [1, 20, 30])
def test_of_a_folder_by_the_month_no_block_is_called_misplaced(site, day):
    (site.data / "2020-06").mkdir()
    for path in blocks_of(site):
        path.rename(site.data / "2020-06" / path.name)
    options = site.options(blocks="{night:%Y-%m}/*.dl2.h5")
    files = find_night(date(2020, 6, day), options, site.settings)
    assert (files.n_others, files.left_out) == (2, ())


def nightly(site, moment, **changes):
    parameters = NightlyParameters(options=site.options(), **changes)
    return run_nightly(parameters, site.settings, moment, site.stages())


@pytest.mark.parametrize(("look_back", "is_named"), [(5, True), (6, False)])
def test_a_block_of_the_first_night_that_is_looked_back_to_is_taken(site, look_back, is_named):
    # In the morning of the 21st the last night is that of the 20th, and 6 nights before it that of
    # the 14th, of which the blocks are.
    moment = datetime(2020, 6, 21, 8, 30, tzinfo=UTC)
    parameters = NightlyParameters(options=site.options(), look_back=look_back)
    assert bool(overdue(parameters, site.settings, moment)) is is_named
    assert (NIGHT in nights_to_do(parameters, site.settings, moment)) is not is_named


def test_blocks_of_nights_that_no_run_will_take_are_named_until_they_are_taken(site, archive):
    moment = datetime(2020, 6, 20, 8, 30, tzinfo=UTC)
    text = (
        "2 blocks belong to nights before 2020-06-16, and no run of the schedule takes them: "
        "run arraycal nightly --night 2020-06-14"
    )
    assert nightly(site, moment)[-1].remarks == (text,)
    assert not (site.folder / "night.json").exists()
    late = blocks_of(site)[1]
    (there,) = archive(late)
    site.run()
    assert nightly(site, moment)[-1].remarks == ()
    there.rename(late)
    late.touch()
    remark = nightly(site, moment)[-1].remarks[0]
    assert remark == text.replace("2 blocks belong", "1 block belongs")
    assert remark in (site.output / INDEX).read_text()
    site.run()
    assert nightly(site, moment)[-1].remarks == ()
    assert nightly(site, moment, look_back=5)[-1].remarks == ()


def test_a_damaged_block_that_is_found_late_is_named_in_the_nights_it_may_be_of(site):
    site.run()
    damaged = site.data / "damaged.dl2.h5"
    damaged.write_bytes(b"no HDF5")
    assert unfinished(site)
    record = site.run()
    assert record.status == "degraded"
    assert "damaged.dl2.h5 left out: it may be of this night" in record.reasons[0]
    assert record.calibrations[0].is_reused
    assert not unfinished(site)
    damaged.unlink()
    assert unfinished(site)
    assert site.run().status == "usable"


@pytest.mark.parametrize("impossible", [date(1, 1, 1), date(9999, 12, 31)])
def test_nights_that_cannot_be_are_refused_before_any_is_run(site, impossible):
    message = f"the night of {impossible.isoformat()} is .*Correct the date"
    with pytest.raises(WrongUsage, match=message):
        calibrate_nights([NIGHT, impossible], site.options(), site.settings, site.stages())
    assert not site.output.exists()


def test_names_with_backticks_stay_inside_their_span_of_code():
    left_out = (("/data/a`b``<script>.h5", "odd"), ("/data/a|b", "odd"))
    record = NightRecord(NIGHT, "UTC", "degraded", left_out=left_out)
    page = night_page([record], {NIGHT: Path("/out/`x` |/2020-06-14")})
    assert "* ``` /data/a`b``<script>.h5 ```: odd" in page
    assert "* `/data/a|b`: odd" in page
    assert "`` /out/`x` |/2020-06-14 ``" in page
