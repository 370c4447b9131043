"""The index over the nights: newest first, and written only when there is news."""

import re
from dataclasses import replace
from datetime import date, timedelta
from html.parser import HTMLParser

import pytest

from arraycal.calib.nights.index import night_folders, update_index
from arraycal.calib.nights.record import CalibrationRecord, NightRecord, write_night
from arraycal.calib.publish.writing import INDEX
from arraycal.calib.report.nights_page import CalibrationEntry, NightEntry, NightTrends, nights_page

NAMES = ("energy-inter", "energy-cross", "image-inter", "timing-cross")
FIRST = date(2026, 1, 1)


class Page(HTMLParser):
    """Texts and links of a page, in order."""

    def __init__(self, text):
        super().__init__()
        self.texts: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.folded = 0
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in {"meta", "img"}:
            self.open.append(tag)
        if tag == "a":
            self.links.append(dict(attrs)["href"])
        if tag == "details" and "open" not in dict(attrs):
            self.folded += 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in {"style", "script", "title"}:
            self.texts.append(data)

    @property
    def words(self):
        return " ".join(self.texts)


def make_entry(night, status="usable", outliers=(), reasons=()):
    """A night with all calibrations."""
    items = [
        CalibrationEntry(name, status, reasons, f"{night}/{name}/report.html", 6, outliers)
        for name in NAMES
    ]
    return NightEntry(night, status, reasons, tuple(items), n_blocks=6)


def make_nights(n):
    return [make_entry(FIRST + timedelta(days=day)) for day in range(n)]


def test_the_newest_night_comes_first_with_its_verdict_reports_blocks_and_telescopes():
    newest = make_entry(
        date(2026, 3, 1), "degraded", ("MST 7",), ("1 block left out (b.h5)", "too windy")
    )
    page = Page(nights_page([*make_nights(3), newest]))
    places = [
        page.words.index(text)
        for text in (
            *("2026-03-01: degraded", "1 block left out (b.h5)", "too windy"),
            *("energy-inter", "MST 7", "Latest nights", "2026-01-03", "2026-01-02"),
        )
    ]
    assert places == sorted(places)
    assert page.links[:4] == [f"2026-03-01/{name}/report.html" for name in NAMES]


STEP = "step of -8.43 ± 1.04 % on 2026-03-01"


def flagged_night(night, **flagged):
    """A night that has newly flagged telescopes in some calibrations."""
    entry = make_entry(night)
    items = tuple(
        replace(item, trends=tuple(f"{name}: {STEP}" for name in flagged.get(item.name[:6], ())))
        for item in entry.calibrations
    )
    return replace(entry, calibrations=items)


def box(text):
    """Class and words of the verdict."""
    tone, content = re.findall(r'<div class="verdict ([^"]+)">(.*?)</div>', text)[0]
    return tone, re.sub(r"<[^>]+>", " ", content)


def test_a_usable_night_with_flagged_telescopes_does_not_look_all_clear():
    newest = flagged_night(date(2026, 3, 1), energy=["MST 5"], image_=(), timing=["LST 1"])
    now = {"energy-inter": ("MST 5", "MST 9"), "image-inter": ("MST 5",)}
    text = nights_page([*make_nights(3), newest], NightTrends(("<p>trends</p>",), now))
    tone, words = box(text)
    assert tone == "flagged"
    # MST 5 and LST 1 are new, MST 9 was flagged before: three, each once.
    assert "2026-03-01: usable, 3 telescopes flagged by the trends" in words
    new, before = words.split("Flagged before")
    assert "Newly flagged with this night:  MST 5  (energy-inter, energy-cross)" in new
    assert "LST 1  (timing-cross)" in new
    assert "MST 9  (energy-inter)" in before
    assert "#trend-energy-inter-MST-5" in text
    row = re.findall(r"<tr><td[^>]*>2026-03-01</td>.*?</tr>", text)[0]
    assert '<span class="flagged">usable</span>' in row
    assert '<a class="flagged" href="#trends">2 new, 2 now</a>' in row
    assert text.count("now</a>") == 1
    assert text.index("Latest nights") < text.index("<p>trends</p>")


def test_a_usable_night_without_flagged_telescopes_is_an_all_clear():
    tone, words = box(nights_page(make_nights(2), NightTrends((), {"energy-inter": ()})))
    assert (tone, words.strip()) == ("usable", "2026-01-02: usable")


def test_a_worse_verdict_keeps_its_colour():
    newest = replace(flagged_night(FIRST, energy=["MST 5"]), status="unusable")
    assert box(nights_page([newest]))[0] == "unusable"


def test_every_night_is_there_once_and_old_ones_are_folded_away_by_month():
    nights = make_nights(120)
    page = Page(nights_page(nights))
    links = page.links[4:]  # those of the newest night stand on top, too
    assert len(set(links)) == len(links) == 4 * 120
    # 1 January + 119 days is 30 April; 14 nights stay open: four months are folded
    assert page.folded == 4
    assert "2026-02: 28 nights, 0 of them degraded or unusable" in page.words


def test_a_night_without_data_has_its_line_and_no_link():
    empty = NightEntry(date(2026, 2, 1), "nothing to do", ("no block was found",))
    text = nights_page([*make_nights(2), empty])
    page = Page(text)
    assert page.words.count("no block was found") == 2  # on top, and in its row
    assert "2026-02-01: nothing to do" in page.words
    assert not any("2026-02-01" in link for link in page.links)
    assert "The last night with blocks was 2026-01-02" in page.words
    assert page.links[:4] == [f"2026-01-02/{name}/report.html" for name in NAMES]


def test_without_a_night_there_is_a_page_that_says_so():
    assert "No night has been calibrated yet" in Page(nights_page([])).words


def test_a_night_that_is_not_complete_says_so():
    night = replace(make_entry(FIRST), is_complete=False)
    assert "files are still being written" in Page(nights_page([night])).words


HOSTILE = '"><script>alert(1)</script>$`|'


def test_text_of_nights_stays_text():
    item = CalibrationEntry(HOSTILE, HOSTILE, (HOSTILE,), f"{HOSTILE}/report.html", 1, (HOSTILE,))
    page = Page(nights_page([NightEntry(FIRST, HOSTILE, (HOSTILE,), (item,))]))
    assert HOSTILE in page.words
    assert page.open == []
    assert all(re.fullmatch(r"[\w%./~-]+", link) for link in page.links)


def test_a_year_of_nights_is_a_page_of_half_a_megabyte():
    nights = make_nights(365)
    for place in range(0, 365, 3):
        reasons = (f"energy-inter: 1 block left out (block_{place}.h5)", "x" * 400)
        nights[place] = make_entry(nights[place].night, "degraded", ("MST 7", "SST 31"), reasons)
    assert len(nights_page(nights).encode()) < 500_000


def write(root, night, **changes):
    record = NightRecord(
        night=night,
        time_zone="UTC",
        status="usable",
        calibrations=(
            CalibrationRecord(
                "energy-inter", "usable", folder="energy-inter", n_blocks=2, outliers=("MST 7",)
            ),
        ),
        blocks=(("/data/a.h5", "1 2"), ("/data/b.h5", "3 4")),
    )
    write_night(root / night.isoformat(), replace(record, **changes))


def test_the_index_is_made_from_the_records_of_the_nights(tmp_path):
    write(tmp_path, FIRST)
    (tmp_path / "other").mkdir()
    assert update_index(tmp_path)
    page = Page((tmp_path / INDEX).read_text())
    assert page.links[0] == "2026-01-01/energy-inter/report.html"
    assert "MST 7" in page.words
    assert list(night_folders(tmp_path)) == [FIRST]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [".index.lock", "2026-01-01", INDEX, "other"]
    )


def test_without_news_the_index_is_left_alone_and_no_trend_is_computed(tmp_path):
    def never():
        raise AssertionError

    write(tmp_path, FIRST)
    assert update_index(tmp_path, lambda: NightTrends(("<p>trend</p>",)), state="1")
    before = (tmp_path / INDEX).stat().st_ino
    # What a run without news changes: times, and that all came from the cache.
    item = CalibrationRecord(
        "energy-inter", "usable", folder="energy-inter", n_blocks=2, n_cached=2, is_reused=True,
        outliers=("MST 7",),
    )  # fmt: skip
    write(tmp_path, FIRST, calibrations=(item,), provenance={"time_utc": "later"})
    assert not update_index(tmp_path, never, state="1")
    assert (tmp_path / INDEX).stat().st_ino == before


@pytest.mark.parametrize(
    "news",
    [
        lambda root: write(root, FIRST, status="degraded"),
        lambda root: write(root, FIRST + timedelta(days=1)),
        lambda root: write(root, FIRST, is_complete=False),
        lambda root: (root / INDEX).unlink(),
        lambda root: (root / INDEX).write_text("something else"),
    ],
    ids=["another verdict", "another night", "files waiting", "index lost", "index damaged"],
)
def test_news_writes_the_index_again(tmp_path, news):
    write(tmp_path, FIRST)
    update_index(tmp_path)
    news(tmp_path)
    assert update_index(tmp_path)
    assert not update_index(tmp_path)


def test_other_trends_write_the_index_again(tmp_path):
    write(tmp_path, FIRST)
    update_index(tmp_path, lambda: NightTrends(("<p>flat</p>",)), state="1")
    assert update_index(tmp_path, lambda: NightTrends(("<p>steep</p>",)), state="2")
    assert "<p>steep</p>" in (tmp_path / INDEX).read_text()


def test_a_damaged_record_costs_its_night_alone(tmp_path):
    write(tmp_path, FIRST)
    write(tmp_path, FIRST + timedelta(days=1))
    (tmp_path / "2026-01-02" / "night.json").write_text("{")
    assert update_index(tmp_path)
    page = (tmp_path / INDEX).read_text()
    assert "2 nights, 2026-01-01 to 2026-01-02: 1 record cannot be read, 1 usable" in page
    assert "night.json of 2026-01-02: it is damaged" in page


def test_a_page_that_cannot_be_made_leaves_the_old_one(tmp_path):
    write(tmp_path, FIRST)
    update_index(tmp_path)
    before = (tmp_path / INDEX).read_text()

    def broken():
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        update_index(tmp_path, broken, state="2")
    assert (tmp_path / INDEX).read_text() == before
