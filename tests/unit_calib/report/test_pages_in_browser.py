"""The pages in a real browser, from disk: figures are saved, tables sorted, nothing is loaded."""

import shutil
from datetime import date
from xml.etree import ElementTree as ET

import pytest

from arraycal.calib.report.elements import details, figure, figure_elements, page, table
from arraycal.calib.report.nights_page import CalibrationEntry, NightEntry, NightTrends, nights_page
from arraycal.calib.report.trends_page import (
    FLAGGED_HEADER,
    FLAGGED_NUMBERS,
    NUMBERS,
    TRENDS_HEADER,
)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        # Chromium's sandbox needs rights that containers and root do not have; the pages are ours.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def show(browser, tmp_path):
    """Open a page from disk; what it complains of, and what it asks the network for, is kept."""
    opened = []

    def open_page(text, name="page.html", width=1280):
        (tmp_path / name).write_text(text, "utf-8")
        tab = browser.new_page(viewport={"width": width, "height": 800})
        tab.complaints, tab.requests = [], []
        tab.on("console", lambda message: tab.complaints.append(message.text))
        tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
        tab.on("request", lambda request: tab.requests.append(request.url))
        tab.goto((tmp_path / name).as_uri())
        opened.append(tab)
        return tab

    yield open_page
    for tab in opened:
        tab.close()


def column(tab, number):
    return tab.locator(f"tbody tr td:nth-child({number})").all_inner_texts()


ROWS = [("MST", "10", "1,500"), ("LST", "9", "\N{EN DASH}"), ("SST", "-2", "20")]


def test_a_click_on_a_title_sorts_the_rows_and_what_is_missing_stays_last(show):
    tab = show(page("t", [table(("type", "telescope", "showers"), ROWS, numbers=" nn")]))
    title = tab.get_by_role("button", name="telescope")
    title.click()
    assert column(tab, 2) == ["-2", "9", "10"]
    assert column(tab, 1) == ["SST", "LST", "MST"]
    title.click()
    assert column(tab, 2) == ["10", "9", "-2"]
    tab.get_by_role("button", name="showers").click()
    assert column(tab, 3) == ["20", "1,500", "\N{EN DASH}"]
    tab.get_by_role("button", name="showers").click()
    assert column(tab, 3) == ["1,500", "20", "\N{EN DASH}"]
    tab.get_by_role("button", name="type").click()
    assert column(tab, 1) == ["LST", "MST", "SST"]
    assert tab.complaints == []


def test_a_figure_is_saved_as_the_vector_graphics_it_is(show, tmp_path):
    from arraycal.calib.figures import encode
    from arraycal.calib.figures.style import new_figure

    drawn = new_figure(3, 2)
    drawn.add_subplot().plot([0, 1])
    tab = show(page("energy-inter: usable", [figure(encode(drawn, "svg"), "array map", "So.")]))
    with tab.expect_download() as waiting:
        tab.get_by_role("button", name="SVG").click()
    assert waiting.value.suggested_filename == "energy-inter-array-map.svg"
    waiting.value.save_as(tmp_path / "saved.svg")
    assert ET.parse(tmp_path / "saved.svg").getroot().tag.endswith("svg")  # noqa: S314  our own
    assert tab.complaints == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in tab.requests)


def test_a_script_that_came_in_with_text_is_not_run(show):
    attack = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"
    tab = show(page("t", [attack]))
    assert tab.title() == "t"
    assert any("Content Security Policy" in text for text in tab.complaints)


def test_the_links_of_the_index_lead_to_the_reports(show, tmp_path):
    target = tmp_path / "2026-03-01" / "energy-inter" / "report.html"
    target.parent.mkdir(parents=True)
    target.write_text(page("the report", []))
    item = CalibrationEntry("energy-inter", "usable", (), "2026-03-01/energy-inter/report.html", 3)
    tab = show(nights_page([NightEntry(date(2026, 3, 1), "usable", (), (item,))]))
    tab.get_by_role("link").first.click()
    assert tab.title() == "the report"


def test_a_page_is_no_wider_than_a_telephone(show):
    from arraycal.calib.figures import encode
    from arraycal.calib.figures.style import new_figure

    drawn = figure(encode(new_figure(11, 3), "svg"), "wide", "So.")
    rows = [(f"telescope {n}", *(f"{n / 7:.4f}" for _ in range(12))) for n in range(5)]
    wide = table(["name", *(f"column {n}" for n in range(12))], rows)

    tab = show(page("t", [wide, details("more", wide, is_open=True), drawn]), width=390)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("width", [1100, 1300])
def test_the_tables_of_the_index_fit_a_window_with_their_last_column(show, width):
    words = "step of +8.00 ± 0.20 % on 2026-03-05 (or from 2026-03-03 to 2026-03-06), one night "
    change = ("+8.00 ± 0.20 %", "2026-03-05", "-1.00 ± 0.10 %")
    row = ("energy-inter", "MST 12", "ageing or step", *change, "2", "90", "2026-03-05", words)
    trends = table(TRENDS_HEADER[1:], [row[1:], row[1:]], numbers=NUMBERS[1:])
    short = (*row[:3], change[2] + " per night", *row[8:6:-1], words)
    flagged = table(FLAGGED_HEADER, [short, short], numbers=FLAGGED_NUMBERS)
    names = ("energy-inter", "energy-cross", "image-inter", "timing-cross")
    remark = ("block_1001.dl2.h5 left out: " + "the file is damaged " * 6,)
    items = tuple(
        CalibrationEntry(
            name, "nothing to do", remark, "r.html", 24, ("MST 12", "LST 1"), ("MST 12: step",)
        )
        for name in names
    )
    nights = [NightEntry(date(2026, 3, day), "nothing to do", remark, items) for day in (1, 2)]
    tab = show(nights_page(nights, NightTrends((flagged, trends))), width=width)
    boxes = tab.locator(".wide").evaluate_all("all => all.map(x => [x.scrollWidth, x.clientWidth])")
    assert len(boxes) == 4
    assert [content - room for content, room in boxes] == [0] * 4
    # Two lines or three for a sentence of 150 letters: what is squeezed cannot be read.
    cell = tab.locator(".wide").nth(2).locator("td").last
    assert cell.evaluate("x => x.clientWidth") > 0.3 * width


@pytest.mark.parametrize(("width", "columns"), [(1300, 2), (900, 1), (390, 1)])
def test_small_figures_stand_side_by_side_and_wide_ones_fill_the_page(show, width, columns):
    from arraycal.calib.figures import Picture
    from arraycal.calib.figures.style import new_figure

    drawn = [Picture(f"{w} in", "So.", new_figure(w, 3)) for w in (6, 8.6, 4.9)]
    tab = show(page("t", [figure_elements(drawn)]), width=width)
    boxes = [item.bounding_box() for item in tab.locator("figure").all()]
    tops, widths = [box["y"] for box in boxes], [box["width"] for box in boxes]
    # The wide one is second, and the third goes up beside the first.
    assert len({tops[0], tops[2]}) == 3 - columns
    assert abs(columns * widths[0] - widths[1]) < 0.05 * widths[1]
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_on_paper_titles_and_reasons_give_way_and_the_buttons_are_gone(show):
    from arraycal.calib.figures import encode
    from arraycal.calib.figures.style import new_figure

    header = ["telescope", *(f"a long title {n}" for n in range(12)), "reason"]
    rows = [("1", *(f"{n / 7:.4f}" for n in range(12)), "because of many words")]
    drawn = figure(encode(new_figure(4, 3), "svg"), "small", "So.")
    tab = show(page("t", [table(header, rows, numbers="n" * 13 + "w"), drawn]), width=720)
    tab.emulate_media(media="print")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 720
    assert not tab.get_by_text("SVG", exact=True).is_visible()
