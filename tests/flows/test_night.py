"""A night without Prefect: found, calibrated, judged; again, late, overlapping, killed."""

import json
import os
import shutil
import threading
from datetime import UTC, date, datetime, timedelta

import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from arraycal.calib.history.database import open_history, read_history
from arraycal.calib.history.reading import Selection, runs
from arraycal.calib.history.recording import RecordedResult, record
from arraycal.calib.history.tables import Coefficient, Run
from arraycal.calib.nights.record import read_night
from arraycal.calib.publish.writing import FILES
from arraycal.config.errors import ConfigurationError
from arraycal.config.settings import Settings
from arraycal.flows.cli.main import main
from arraycal.flows.jobs.direct import make_pairs, solve_and_publish
from arraycal.flows.jobs.parameters import NightlyParameters, NightOptions
from arraycal.flows.jobs.progress import Listener
from arraycal.flows.night import run as night_module
from arraycal.flows.night.find_blocks import find_night, nights_to_do, unfinished_nights
from arraycal.flows.night.page import night_page
from arraycal.flows.night.run import Stages, calibrate_night

#: Night of the simulated blocks.
NIGHT = date(2020, 6, 14)


class Counting(Listener):
    """Counts what is really done."""

    def __init__(self):
        self.blocks, self.solved = [], 0

    def block_done(self, block):
        self.blocks.append(block)

    def solving(self):
        self.solved += 1


class Site:
    """A data folder, an output folder, and a way to run the night."""

    def __init__(self, folder, settings, overrides):
        self.data, self.output = folder / "data", folder / "output"
        self.settings, self.overrides = settings, overrides
        self.heard = Counting()

    def options(self, **changes):
        calibrations = [{"calibration": "energy-inter", "overrides": self.overrides}]
        return NightOptions.model_validate({"calibrations": calibrations, "settle_s": 0} | changes)

    def stages(self):
        return Stages(
            lambda job, settings: make_pairs(job, settings, self.heard),
            lambda blocks, job, settings: solve_and_publish(blocks, job, settings, self.heard),
            "test",
        )

    def run(self, night=NIGHT, **changes):
        self.heard = Counting()
        return calibrate_night(night, self.options(**changes), self.settings, self.stages())

    @property
    def folder(self):
        return self.output / NIGHT.isoformat()

    def published(self):
        folder = self.folder / "energy-inter"
        return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture
def site(tmp_path, blocks, lenient):
    (tmp_path / "data").mkdir()
    settings = Settings(
        data_root=tmp_path / "data",
        output_root=tmp_path / "output",
        cache_root=tmp_path / "cache",
    )
    site = Site(tmp_path, settings, [text for text in lenient if text != "--set"])
    for path in blocks:
        shutil.copy(path, site.data)
    return site


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_night_is_found_calibrated_and_judged(site):
    record = site.run()
    assert record.status == "usable"
    assert [item.calibration for item in record.calibrations] == ["energy-inter"]
    assert files_in(site.folder) == [
        ".lock",
        "arraycal.log",
        "energy-inter",
        "energy-inter/arraycal.log",
        *(f"energy-inter/{name}" for name in sorted(FILES)),
        "night.json",
    ]
    assert read_night(site.folder) == record


def test_image_sizes_are_compared_with_the_energies_of_the_same_night(site):
    names = ("energy-inter", "image-inter")
    calibrations = [{"calibration": name, "overrides": site.overrides} for name in names]
    record = site.run(calibrations=calibrations)
    energies, sizes = record.calibrations
    result = json.loads((site.folder / "image-inter" / "result.json").read_text())
    compared = result["fit"]["compared_with"]
    assert compared == str(site.folder / "energy-inter" / "result.json")
    compared_telescopes = {row["tel_id"] for row in result["extras"]["comparison"]}
    assert compared_telescopes == {row["tel_id"] for row in result["telescopes"] if row["value"]}
    # The file it is compared with is part of what the result depends on, and has not changed.
    again = site.run(calibrations=calibrations)
    assert [item.is_reused for item in again.calibrations] == [True, True]
    assert energies.status != "unusable" != sizes.status


def test_a_machine_can_read_the_verdict(site):
    site.run()
    content = json.loads((site.folder / "night.json").read_text())
    assert content["night"] == "2020-06-14"
    assert content["status"] == "usable"
    assert content["calibrations"][0]["status"] == "usable"
    assert (site.folder / content["calibrations"][0]["folder"] / "monitoring.h5").exists()
    assert len(content["blocks"]) == 2


def test_the_same_night_again_reads_and_solves_nothing(site):
    first = site.run()
    before = site.published()
    again = site.run()
    assert all(block.cached for block in site.heard.blocks)
    assert site.heard.solved == 0
    assert again.calibrations[0].is_reused
    assert again.calibrations[0].fingerprint == first.calibrations[0].fingerprint
    assert again.status == "usable"
    assert site.published() == before


def test_always_publishes_the_same_numbers_again(site):
    site.run()
    before = json.loads(site.published()["result.json"])
    record = site.run(again="always")
    assert site.heard.solved == 1
    assert not record.calibrations[0].is_reused
    after = json.loads(site.published()["result.json"])
    for name in ("telescopes", "pairs", "covariance", "fit", "configuration"):
        assert after[name] == before[name], name


def test_a_late_block_is_the_only_one_that_is_read(site):
    late = sorted(site.data.iterdir())[1]
    late.rename(site.data.parent / "later")
    assert site.run().calibrations[0].n_blocks == 1
    (site.data.parent / "later").rename(late)
    record = site.run()
    assert {block.path.name: block.cached for block in site.heard.blocks} == {
        "block_1001.dl2.h5": True,
        "block_1002.dl2.h5": False,
    }
    assert record.calibrations[0].n_blocks == 2
    assert len(json.loads(site.published()["result.json"])["blocks"]) == 2


def test_a_changed_setting_replaces_the_results_from_cached_blocks(site):
    site.run()
    before = site.published()
    site.overrides = [*site.overrides, "RelativeThroughputFitter.min_events=6"]
    record = site.run()
    assert not record.calibrations[0].is_reused
    assert all(block.cached for block in site.heard.blocks)
    assert site.published() != before


@pytest.mark.parametrize("name", FILES)
def test_a_result_that_was_damaged_is_published_again(site, name):
    site.run()
    (site.folder / "energy-inter" / name).write_text("damaged")
    assert not site.run().calibrations[0].is_reused
    assert site.published()[name] != b"damaged"


def test_a_night_without_data_is_nothing_to_do_and_says_so(site):
    record = site.run(date(2020, 6, 20))
    assert record.status == "nothing to do"
    assert read_night(site.output / "2020-06-20") == record
    assert "no block was found" in str(record)


def test_a_data_folder_that_is_not_there_is_no_empty_night(site):
    shutil.rmtree(site.data)
    with pytest.raises(ConfigurationError, match="disk not mounted"):
        site.run()


def test_a_file_that_is_being_written_is_left_for_the_next_run(site):
    record = site.run(settle_s=3600)
    assert record.status == "nothing to do"
    assert not record.is_complete
    assert [path for path, _ in record.waiting] == [
        str(path) for path in sorted(site.data.iterdir())
    ]
    assert unfinished_nights([NIGHT], site.options(), site.settings) == [NIGHT]
    record = site.run()
    assert record.status == "usable"
    assert record.is_complete


def test_a_damaged_block_degrades_the_night_and_is_named(site):
    damaged = site.data / "damaged.dl2.h5"
    damaged.write_bytes(b"no HDF5")
    written = datetime(2020, 6, 15, 4, tzinfo=UTC).timestamp()
    os.utime(damaged, (written, written))
    record = site.run()
    assert record.status == "degraded"
    assert "damaged.dl2.h5" in str(record)


def test_a_night_with_damaged_blocks_only_is_unusable(site):
    for path in site.data.iterdir():
        path.write_bytes(b"no HDF5")
        written = datetime(2020, 6, 15, 4, tzinfo=UTC).timestamp()
        os.utime(path, (written, written))
    record = site.run()
    assert record.status == "unusable"
    assert "none of the 2 blocks can be used" in str(record)
    assert not (site.folder / "energy-inter" / "result.json").exists()


def test_folders_by_date_narrow_the_search_and_the_time_decides(site):
    first, second = sorted(site.data.iterdir())
    # One site begins the folder of the next date at midnight; elsewhere is not searched.
    for path, day in ((first, "2020/06/14"), (second, "2020/06/15")):
        (site.data / day).mkdir(parents=True)
        path.rename(site.data / day / path.name)
    (site.data / "2019" / "06" / "14").mkdir(parents=True)
    (site.data / "2019" / "06" / "14" / "old.dl2.h5").write_bytes(b"no HDF5")
    files = find_night(NIGHT, site.options(blocks="{night:%Y/%m/%d}/*.dl2.h5"), site.settings)
    assert [path.name for path in files.blocks] == [first.name, second.name]
    assert files.n_others == 0


def test_two_runs_of_one_night_at_a_time_give_one_result(site):
    records = []

    def run():
        heard = Counting()
        stages = Stages(
            lambda job, settings: make_pairs(job, settings, heard),
            lambda blocks, job, settings: solve_and_publish(blocks, job, settings, heard),
            "test",
        )
        records.append((calibrate_night(NIGHT, site.options(), site.settings, stages), heard))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [record.status for record, _ in records] == ["usable", "usable"]
    assert sorted(heard.solved for _, heard in records) == [0, 1]
    assert records[0][0].calibrations[0].digests == records[1][0].calibrations[0].digests


def test_what_a_killed_run_left_is_removed(site):
    scratch = site.folder / "energy-inter" / ".arraycal-killed"
    scratch.mkdir(parents=True)
    (scratch / "monitoring.h5").write_text("half")
    site.run()
    assert not scratch.exists()


def test_a_run_that_stops_between_publishing_and_verdict_is_completed_by_the_next(
    site, monkeypatch
):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(night_module, "write_night", killed)
        with pytest.raises(KeyboardInterrupt):
            site.run()
    assert read_night(site.folder) is None
    assert unfinished_nights([NIGHT], site.options(), site.settings) == [NIGHT]
    assert site.run().status == "usable"
    assert unfinished_nights([NIGHT], site.options(), site.settings) == []


def test_late_and_new_files_make_a_night_unfinished(site):
    def unfinished():
        return bool(unfinished_nights([NIGHT], site.options(), site.settings))

    site.run()
    assert not unfinished()
    path = sorted(site.data.iterdir())[1]
    path.rename(site.data.parent / "later")
    assert not unfinished()  # what has been archived needs no run
    (site.data.parent / "later").rename(path)
    assert not unfinished()
    path.write_bytes(path.read_bytes())  # copied once more
    assert unfinished()
    site.run()
    assert not unfinished()
    shutil.copy(path, site.data / "late.dl2.h5")
    assert unfinished()


def test_without_a_date_the_last_night_is_done_and_unfinished_ones_before_it(site):
    moment = datetime(2020, 6, 17, 8, 30, tzinfo=UTC)
    parameters = NightlyParameters(options=site.options())
    assert nights_to_do(parameters, site.settings, moment) == [NIGHT, date(2020, 6, 16)]
    site.run()
    assert nights_to_do(parameters, site.settings, moment) == [date(2020, 6, 16)]
    none = parameters.model_copy(update={"look_back": 1})
    assert nights_to_do(none, site.settings, moment) == [date(2020, 6, 16)]


def test_with_a_date_that_night_is_done(site):
    parameters = NightlyParameters(night=NIGHT)
    assert nights_to_do(parameters, site.settings, datetime.now(UTC)) == [NIGHT]


def test_a_wrong_setting_stops_the_night_before_any_work(site):
    site.overrides = ["ShowerSelection.margn=3"]
    with pytest.raises(ConfigurationError, match="did you mean 'margin'"):
        site.run()
    assert not site.heard.blocks
    assert not (site.folder / "night.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"calibrations": []}, "at least 1"),
        ({"calibrations": [{"calibration": "energy-inter"}] * 2}, "is there twice"),
        ({"blocks": "{nights:%Y}/*.h5"}, "pattern"),
        ({"blocks": "{night.__class__}/*.h5"}, "pattern"),
        ({"settle_s": -1}, "greater than or equal to 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        NightOptions.model_validate(changes)


@pytest.mark.parametrize("name", ["data_root", "output_root"])
def test_it_must_be_known_where_data_and_results_are(site, name):
    site.settings = site.settings.model_copy(update={name: None})
    with pytest.raises(ConfigurationError, match=f"ARRAYCAL_{name.upper()}"):
        site.run()


def nights_in_history(site):
    with read_history(site.settings.history_url) as history:
        return runs(history, Selection())


def test_a_night_is_in_the_history_once_however_often_it_runs(site):
    site.run()
    site.run()
    site.run(again="always")
    found = nights_in_history(site)
    assert found["night"].to_list() == [NIGHT]
    assert found["calibration"].to_list() == ["energy-inter"]
    assert found["status"].to_list() == ["usable"]


def test_a_history_that_fails_costs_no_result_and_is_told_by_the_next_run(site):
    file = site.output / "history.sqlite"
    file.parent.mkdir()
    file.write_bytes(b"no database " * 200)
    record = site.run()
    assert record.status == "degraded"
    assert "not in the history" in str(record)
    assert site.published()["result.json"]
    file.unlink()
    assert site.run().status == "usable"
    assert nights_in_history(site)["night"].to_list() == [NIGHT]


def put_earlier_nights(site, n_nights, tel_id, factor):
    """Copies of the night in the history before it, with one telescope another one then."""
    with open_history(site.settings.history_url) as history:
        with history.reading() as connection:
            run = dict(connection.execute(sa.select(Run.__table__)).mappings().one())
            found = connection.execute(sa.select(Coefficient.__table__)).mappings().all()
        del run["id"]
        rows = [{name: value for name, value in row.items() if name != "run_id"} for row in found]
        for row in rows:
            row["value"] *= factor if row["tel_id"] == tel_id else 1.0
        for number in range(1, n_nights + 1):
            record(history, RecordedResult(run | {"night": NIGHT - timedelta(days=number)}, rows))


def test_a_night_tells_which_telescopes_it_has_flagged_and_later_ones_do_not(site):
    first = site.run()
    assert first.calibrations[0].trends == ()
    put_earlier_nights(site, 3, tel_id=7, factor=2.0)
    found = site.run(again="always")
    (text,) = found.calibrations[0].trends
    assert text.startswith("MST 7: step of -50.00 ")
    assert f"on {NIGHT}" in text
    assert found.status == first.status
    assert read_night(site.folder) == found
    page = night_page([found], {NIGHT: site.folder})
    assert "New in the trends" in page
    assert "energy-inter: MST 7: step" in page
    assert site.run().calibrations[0].trends == (text,)
    site.overrides = [*site.overrides, "TrendMonitor.min_nights=5"]
    assert site.run(again="always").calibrations[0].trends == ()


@pytest.fixture
def command(site, tmp_path):
    options = tmp_path / "options.yaml"
    options.write_text(json.dumps(site.options().model_dump(mode="json")))

    def run(*arguments):
        where = ["--blocks", f"{site.data}/*.dl2.h5", "--output", str(site.output)]
        return main(["nightly", *where, "--options", str(options), *arguments, "--direct"])

    return run


def test_the_command_calibrates_a_night_and_prints_its_verdict(command, site, capsys):
    assert command("--night", "2020-06-14") == 0
    shown = capsys.readouterr().out
    assert "2020-06-14 usable" in shown
    assert str(site.folder / "energy-inter" / "report.html") in shown
    assert command("--night", "2020-06-14") == 0
    assert "usable, unchanged" in capsys.readouterr().out


def test_the_command_says_by_its_status_that_there_is_nothing_to_do(command, capsys):
    assert command("--night", "2020-06-20") == 5
    assert "nothing to do: no block was found" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--night", "yesterday"], "expected a date such as"),
        (["--night", "9999-12-31"], "the night of 9999-12-31 is after today"),
        (["--night", "0001-01-01"], "0001-01-01 is before there was anything to calibrate"),
        (["--look-back", "-1"], "look_back: Input should be greater than or equal to 0"),
        (["--calibration", "energy"], "there is no calibration 'energy'"),
        (["--options", "no-such-file.yaml"], "--options no-such-file.yaml: No such file"),
        (["--blocks", "{day}"], "blocks: String should match pattern"),
    ],
)
def test_wrong_usage_of_the_command_is_explained(command, capsys, arguments, message):
    assert command(*arguments) == 2
    assert message in capsys.readouterr().err
