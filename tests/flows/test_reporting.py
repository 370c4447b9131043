"""`arraycal report`: the same pages again, from the results alone."""

import json
import re
import shutil
from datetime import date
from importlib.metadata import version

import pytest

from arraycal.calib.history.database import read_history
from arraycal.calib.history.reading import Selection, runs
from arraycal.calib.nights.index import night_folders
from arraycal.calib.nights.record import file_digests, read_night
from arraycal.calib.publish.reading import read_result
from arraycal.calib.publish.writing import INDEX
from arraycal.calib.report import html, markdown
from arraycal.flows.cli.main import main

NIGHT = date(2020, 6, 14)
#: Few showers give every telescope a coefficient only with low limits.
LENIENT = (
    "RelativeThroughputFitter.min_events=5",
    "RelativeThroughputFitter.min_common_events=2",
    "ShowerSelection.threshold=null",
)
OPTIONS = [item for text in LENIENT for item in ("--set", text)]
CALIBRATIONS = {
    "energy-inter": OPTIONS,
    "energy-cross": OPTIONS,
    "image-inter": OPTIONS,
    "timing-cross": [],
}


@pytest.fixture(scope="module")
def results(night, cache_root, tmp_path_factory):
    """Folder of a result of every calibration."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARRAYCAL_CACHE_ROOT", str(cache_root))
        for name, options in CALIBRATIONS.items():
            output = ["--output", str(folder / name), "--direct"]
            more = ["--compare", str(folder / "energy-inter")] if name == "image-inter" else []
            assert main(["run", name, str(night), *output, *options, *more]) in {0, 3}
    return folder


@pytest.fixture
def copied(results, tmp_path):
    shutil.copytree(results, tmp_path / "results")
    return tmp_path / "results"


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_the_report_comes_out_as_it_was_published(copied, name):
    page = copied / name / "report.html"
    before = page.read_bytes()
    page.unlink()
    assert main(["report", str(copied / name)]) == 0
    assert page.read_bytes() == before
    assert not list((copied / name).glob(".arraycal-*"))


#: Figures of a calibration alone.
OWN = {
    "energy-inter": (),
    "energy-cross": ("contrast by energy", "contrast by impact distance"),
    "image-inter": ("distance curve", "residual by impact distance", "contrast with energies"),
    "timing-cross": ("distance residuals",),
}
COMMON = (
    *("coefficients", "array map", "pulls", "residuals", "residual matrix", "correlation"),
    "rejected rows",
)


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_the_page_in_the_ui_has_the_figures_of_the_report_and_stays_small(results, name):
    result = read_result(results / name)
    page = markdown(result)
    assert len(page.encode()) < 1 << 20
    shown = re.findall(r"^!\[(.+)\]\(data:image/png;base64,", page, re.MULTILINE)
    assert set(shown) == set(re.findall(r'<img [^>]*alt="([^"]+)"', html(result)))
    assert {*COMMON, *OWN[name]} <= set(shown)


def test_every_result_of_a_folder_gets_its_report(copied, capsys):
    pages = [copied / name / "report.html" for name in sorted(CALIBRATIONS)]
    for page in pages:
        page.unlink()
    assert main(["report", str(copied)]) == 0
    assert all(page.exists() for page in pages)
    assert capsys.readouterr().out.split() == [str(page) for page in pages]


def test_a_damaged_result_is_named_and_the_others_are_done(copied, capsys):
    (copied / "energy-cross" / "result.json").write_text('{"calibration": "energy-cross"')
    replace_facts(fit=[])(copied / "image-inter")
    for path in copied.glob("*/report.html"):
        path.unlink()
    assert main(["report", str(copied)]) == 3
    said = capsys.readouterr().out
    assert "energy-cross/result.json: the file is damaged" in said
    assert "image-inter/result.json: expected an object as fit" in said
    assert len(list(copied.glob("*/report.html"))) == 2


def damage_json(folder):
    (folder / "result.json").write_text("{")


def damage_facts(folder):
    (folder / "result.json").write_text('{"calibration": "energy-inter"}')


def damage_tables(folder):
    (folder / "monitoring.h5").write_bytes(b"no HDF5")


def lose_tables(folder):
    (folder / "monitoring.h5").unlink()


def mix_runs(folder):
    content = json.loads((folder / "result.json").read_text())
    content["provenance"]["time_utc"] = "2020-01-01T00:00:00.000+00:00"
    (folder / "result.json").write_text(json.dumps(content))


def replace_facts(**facts):
    def damage(folder):
        content = json.loads((folder / "result.json").read_text())
        (folder / "result.json").write_text(json.dumps(content | facts))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (replace_facts(fit=[]), "expected an object as fit, found a list"),
        (replace_facts(provenance=[]), "expected an object as provenance, found a list"),
        (replace_facts(verdict=None), "expected an object as verdict, found null"),
        (replace_facts(extras=7), "expected an object as extras, found a number"),
        (replace_facts(covariance={"tel_ids": 3}), "the file is damaged (TypeError"),
        (replace_facts(provenance={"packages": 3}), "expected files of one run"),
        (damage_json, "the file is damaged"),
        (damage_facts, "it has no verdict"),
        (damage_tables, "not a readable HDF5 file"),
        (lose_tables, "found nothing"),
        (mix_runs, "expected files of one run"),
    ],
)
def test_a_result_that_is_not_whole_is_refused_in_words_and_its_report_stays(
    copied, capsys, damage, message
):
    folder = copied / "energy-inter"
    before = (folder / "report.html").read_bytes()
    damage(folder)
    assert main(["report", str(folder)]) == 4
    assert message in capsys.readouterr().err
    assert (folder / "report.html").read_bytes() == before


def test_a_page_that_cannot_be_made_costs_that_result_alone(copied, capsys, monkeypatch):
    def fail(result, _):
        if result.calibration == "energy-inter":
            raise AttributeError("no such column")
        return "<!doctype html>"

    monkeypatch.setattr("arraycal.calib.report.html", fail)
    assert main(["report", str(copied)]) == 3
    assert "energy-inter: no report can be made of the result" in capsys.readouterr().out
    assert (copied / "timing-cross" / "report.html").read_text() == "<!doctype html>"


def test_a_folder_without_results_is_wrong_usage(tmp_path, capsys):
    assert main(["report", str(tmp_path / "absent")]) == 2
    assert "expected a folder with results, found nothing" in capsys.readouterr().err
    (tmp_path / "notes.txt").write_text("")
    assert main(["report", str(tmp_path)]) == 2
    assert "found notes.txt" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "notes.txt")]) == 2
    assert "found a file" in capsys.readouterr().err


@pytest.fixture
def site(night, tmp_path, monkeypatch):
    """Output folder of two nights, the second without data; a way to run a night again."""
    (tmp_path / "options.yaml").write_text(
        json.dumps(
            {
                "calibrations": [{"calibration": "energy-inter", "overrides": LENIENT}],
                "settle_s": 0,
            }
        )
    )
    monkeypatch.setenv("ARRAYCAL_DATA_ROOT", str(night))
    monkeypatch.setenv("ARRAYCAL_OUTPUT_ROOT", str(tmp_path / "output"))
    monkeypatch.setenv("ARRAYCAL_NIGHTLY_OPTIONS", str(tmp_path / "options.yaml"))

    def run(date):
        return main(["nightly", "--night", str(date), "--direct"])

    assert run(NIGHT) == 0
    assert run("2020-06-20") == 5
    return tmp_path / "output", run


def energy_of(output):
    """What the night says of its energy-inter."""
    record = read_night(output / NIGHT.isoformat())
    assert record is not None
    return record.calibrations[0]


def test_the_index_appears_with_the_nights_and_stays_without_news(site):
    output, run = site
    text = (output / INDEX).read_text()
    assert 'href="2020-06-14/energy-inter/report.html"' in text
    assert "2020-06-20: nothing to do" in text
    assert (output / "2020-06-14" / "energy-inter" / "report.html").exists()
    before = (output / INDEX).stat().st_ino
    assert run(NIGHT) == 0
    assert (output / INDEX).stat().st_ino == before


def test_the_report_of_a_night_says_which_and_leads_back_to_the_index(site):
    output, _ = site
    page = output / "2020-06-14" / "energy-inter" / "report.html"
    text = page.read_text()
    with read_history(f"sqlite:///{output}/history.sqlite") as history:
        digest = runs(history, Selection())["configuration_digest"][0]
    assert "<h1>Array calibration: energy-inter, night 2020-06-14</h1>" in text
    assert f", configuration {digest}, calibrated " in text
    assert "<title>energy-inter 2020-06-14: usable</title>" in text
    (link,) = set(re.findall('href="([^"#]+)', text))
    assert (page.parent / link).resolve() == (output / INDEX).resolve()
    for name in ("matplotlib", "SQLAlchemy", "alembic"):
        assert f"<td>{name}</td><td>{version(name)}</td>" in text


def test_the_report_of_a_run_says_the_night_of_its_blocks_and_has_no_index(results):
    text = (results / "energy-inter" / "report.html").read_text()
    assert "<h1>Array calibration: energy-inter, night 2020-06-14</h1>" in text
    assert "<a " not in text


def test_an_index_that_cannot_be_written_costs_no_night(site, caplog):
    output, run = site
    (output / INDEX).unlink()
    (output / INDEX).mkdir()
    assert run(NIGHT) == 0
    assert "could not be written" in caplog.text


def test_all_nights_are_rebuilt_with_the_index(site):
    output, run = site
    page, index = output / "2020-06-14" / "energy-inter" / "report.html", output / INDEX
    before = page.read_bytes(), index.read_bytes()
    page.unlink()
    index.unlink()
    assert main(["report", str(output)]) == 0
    assert (page.read_bytes(), index.read_bytes()) == before
    assert run(NIGHT) == 0
    assert energy_of(output).is_reused


def test_the_index_alone_leaves_the_reports(site):
    output, _ = site
    page = output / "2020-06-14" / "energy-inter" / "report.html"
    page.write_text("kept")
    (output / INDEX).unlink()
    assert main(["report", "--index", str(output)]) == 0
    assert page.read_text() == "kept"
    assert (output / INDEX).exists()


def test_a_new_report_belongs_to_the_published_results_of_its_night(site, monkeypatch):
    output, run = site
    monkeypatch.setattr(
        "arraycal.calib.report.html", lambda *_: "<!doctype html><p>another look</p>"
    )
    assert main(["report", str(output / "2020-06-14")]) == 0
    folder = output / "2020-06-14" / "energy-inter"
    assert (folder / "report.html").read_text() == "<!doctype html><p>another look</p>"
    assert energy_of(output).digests == file_digests(folder)
    assert run(NIGHT) == 0
    assert energy_of(output).is_reused


def test_a_night_without_results_is_nothing_to_do(site):
    output, _ = site
    assert main(["report", str(output / "2020-06-20")]) == 5


def test_results_beside_the_nights_are_rebuilt_too_and_do_not_cost_the_index(site):
    output, _ = site
    shutil.copytree(output / "2020-06-14" / "energy-inter", output / "merged" / "energy-inter")
    shutil.copytree(output / "2020-06-14" / "energy-inter", output / "window")
    for path in (output / INDEX, output / "window" / "report.html"):
        path.unlink()
    assert main(["report", str(output)]) == 0
    assert (output / INDEX).exists()
    assert (output / "window" / "report.html").exists()
    (output / INDEX).unlink()
    (output / "window" / "report.html").unlink()
    assert main(["report", "--index", str(output)]) == 0
    assert (output / INDEX).exists()
    assert not (output / "window" / "report.html").exists()


def test_an_index_of_anything_but_the_folder_of_the_nights_is_wrong_usage(site, capsys):
    output, _ = site
    night = output / "2020-06-14"
    for folder in (night, night / "energy-inter"):
        page = (night / "energy-inter" / "report.html").stat().st_ino
        assert main(["report", "--index", str(folder)]) == 2
        assert "--index needs the folder of the nights" in capsys.readouterr().err
        assert (night / "energy-inter" / "report.html").stat().st_ino == page


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "it is damaged (JSONDecodeError"),
        ('{"schema": 99}', "it has layout 99, expected 1"),
        ("[]", "it is damaged (TypeError"),
    ],
)
def test_a_record_that_cannot_be_read_stays_on_the_index_with_the_reason(
    site, capsys, content, reason
):
    output, _ = site
    (output / "2020-06-20" / "night.json").write_text(content)
    assert main(["report", "--index", str(output)]) == 3
    assert f"not read: night.json of 2020-06-20: {reason}" in capsys.readouterr().out
    page = (output / INDEX).read_text()
    assert "2020-06-20: record cannot be read" in page
    assert reason in page
    assert 'href="2020-06-14/energy-inter/report.html"' in page


def test_a_record_of_another_night_is_no_record_of_this_one(site, capsys):
    output, _ = site
    shutil.copytree(output / "2020-06-14", output / "2020-06-15")
    assert main(["report", "--index", str(output)]) == 3
    assert "night.json of 2020-06-15 is that of 2020-06-14" in capsys.readouterr().out
    assert 'href="2020-06-14/energy-inter/report.html"' in (output / INDEX).read_text()


def test_only_folders_named_as_runs_name_them_are_nights(site):
    output, _ = site
    before = (output / INDEX).read_bytes()
    for name in ("20200614", "2020-W24-7"):
        shutil.copytree(output / "2020-06-14", output / name)
    assert list(night_folders(output)) == [NIGHT, date(2020, 6, 20)]
    assert main(["report", "--index", str(output)]) == 0
    assert (output / INDEX).read_bytes() == before
