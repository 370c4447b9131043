"""Names that are more than names where they are shown: on the terminal, in the log, in Markdown."""

import re
from datetime import date
from pathlib import Path

import pytest

from arraycal.calib.nights.record import NightRecord
from arraycal.calib.wording import continued, printable
from arraycal.flows.cli.main import main
from arraycal.flows.night.page import night_page

LINK = "a](javascript:alert(1)) [x](javascript:alert(2)) <img src=x> `|* .dl2.h5"
ESCAPE = "b\x1b[2J\x1b]0;owned\x07\u202e\x9b31m.dl2.h5"
LINES = "c\nusable\n2026-01-01 00:00:00 INFO arraycal.flows: usable\rx.dl2.h5"
NAMES = (LINK, ESCAPE, LINES)
#: What tells a terminal to do something, or hides what is there.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.fixture
def named(night):
    for name in NAMES:
        (night / name.replace("/", "_")).write_text("no HDF5 file")
    return night


def test_the_terminal_and_the_log_show_names_as_text(named, tmp_path, lenient, capsys):
    out = tmp_path / "out"
    assert (
        main(["run", "energy-inter", str(named), "--output", str(out), "--direct", *lenient]) == 3
    )
    shown = capsys.readouterr()
    log = (out / "arraycal.log").read_text()
    for text in (shown.out, shown.err, log):
        assert "javascript" in text
        assert not CONTROL.search(text)
    assert not re.search(r"^(usable|2026-01-01)", shown.err + log, re.MULTILINE)
    assert all(re.match(r"20\d\d-|\s", line) for line in log.splitlines())


def test_check_shows_names_as_text(named, capsys):
    assert main(["check", str(named)]) == 3
    shown = capsys.readouterr().out
    assert not CONTROL.search(shown)
    assert not re.search("^usable", shown, re.MULTILINE)


def test_a_message_without_any_log_shows_names_as_text(tmp_path, capfd):
    assert (
        main(["run", "energy-inter", str(tmp_path / LINES), "--output", str(tmp_path / "o")]) == 2
    )
    assert (
        main(["run", "energy-inter", str(tmp_path / ESCAPE), "--output", str(tmp_path / "o")]) == 2
    )
    shown = capfd.readouterr().err
    assert not CONTROL.search(shown)
    assert not re.search("^(usable|2026)", shown, re.MULTILINE)


def test_the_page_of_a_night_has_no_link_and_no_line_of_a_file_name():
    record = NightRecord(
        night=date(2026, 3, 1),
        time_zone="UTC",
        status="degraded",
        reasons=tuple(f"{name}: damaged" for name in NAMES),
        remarks=NAMES,
        is_complete=False,
        calibrations=(),
        blocks=(),
        waiting=tuple((name, f"{name} waits") for name in NAMES),
        left_out=tuple((name, name) for name in NAMES),
        provenance={},
    )
    page = night_page([record], {record.night: Path("/out")})
    assert not CONTROL.search(page)
    outside = re.sub(r"(`+).+?(?<!`)\1(?!`)", "", page)  # spans of code are text
    assert not re.search(r"(?<!\\)[\[\]<*](?! )", outside.replace("**", ""))
    assert not re.search("^(usable|2026)", page, re.MULTILINE)


def test_ordinary_names_and_lines_stay():
    text = "none of the 2 blocks can be used:\n  näme-1.h5: x\n    ^"
    assert printable(text) == continued(text) == text
    assert continued("\nusable") == "\nusable"
