"""The Prefect UI in a real browser: a calibration from the form to its artifacts.

Screenshots for the documentation are taken on the way if ARRAYCAL_SCREENSHOTS names a folder.
"""

import os
import re
import shutil
from datetime import date
from pathlib import Path

import pytest

NIGHT = date(2026, 1, 15)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SCREENSHOTS = os.environ.get("ARRAYCAL_SCREENSHOTS")
#: What the browser waits for at most; a page takes a second or two.
PATIENCE_MS = 30_000
RUN_MS = 120_000

pytestmark = [
    pytest.mark.timeout(600),
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
def page(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    yield page
    page.close()


@pytest.fixture(scope="module")
def blocks(site):
    site.simulate(NIGHT, n_blocks=2, n_showers=3000)
    return NIGHT.isoformat()


def shoot(page, name):
    if SCREENSHOTS:
        page.wait_for_timeout(1000)  # fonts and charts
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=True)


def open_form(page, site, flow, name):
    """Click the way to the form of a deployment, as one does."""
    deployment = site.api("GET", f"deployments/name/{flow}/{name}")
    page.goto(f"http://127.0.0.1:{site.port}/v2/deployments/deployment/{deployment['id']}")
    page.get_by_role("button", name="Run").first.click()
    page.get_by_text("Custom run").click()
    page.get_by_role("button", name="Submit").wait_for()


def submit(page):
    page.get_by_role("button", name="Submit").click()


def test_a_calibration_goes_from_the_form_to_its_artifacts(site, blocks, page, wait_until):
    open_form(page, site, "calibrate", "energy-inter")
    add, boxes = page.get_by_role("button", name="Add item"), page.locator("textarea")
    add.nth(0).click()
    boxes.nth(0).fill(blocks)
    boxes.nth(1).fill("by-hand")
    before = len(site.runs())

    # A bad value is refused in the browser, and no run starts.
    add.nth(2).click()
    boxes.nth(2).fill("margin")
    submit(page)
    page.get_by_text("'margin' does not match").first.wait_for()
    shoot(page, "ui-refused")
    assert len(site.runs()) == before

    boxes.nth(2).fill("ShowerSelection.threshold=null")
    shoot(page, "ui-form")
    # After a refusal the first click only checks the form again.
    wait_until(lambda: submit(page) or _has_left_form(page), 30)
    run = next(run for run in site.runs() if run["parameters"].get("parameters", {}).get("output"))
    page.goto(f"http://127.0.0.1:{site.port}/v2/runs/flow-run/{run['id']}")
    page.get_by_text("Completed", exact=True).first.wait_for(timeout=RUN_MS)
    shoot(page, "ui-run")

    page.get_by_role("tab", name="Artifacts").click()
    for name in ("arraycal-energy-inter", "arraycal-energy-inter-report"):
        page.get_by_text(name, exact=True).wait_for()
    shoot(page, "ui-artifacts")

    open_artifact(page, site, "arraycal-energy-inter")
    page.get_by_role("cell", name=re.compile("LST")).first.wait_for()
    shoot(page, "ui-table")
    open_artifact(page, site, "arraycal-energy-inter-report")
    wait_until(lambda: _shown_images(page) >= 4, 30)
    shoot(page, "ui-report")


def test_the_form_of_a_night_needs_nothing(site, page, wait_until):
    open_form(page, site, "nightly", "nightly")
    for label in ("Night (Optional)", "Look Back (Optional)", "Settling time [s] (Optional)"):
        page.get_by_text(label, exact=True).wait_for()
    page.get_by_text("Options of a night").first.wait_for()
    heights = [
        page.get_by_text(label, exact=True).first.bounding_box()["y"]
        for label in ("Blocks (Optional)", "Again (Optional)", "Calibrations (Optional)")
    ]
    assert heights == sorted(heights)
    assert page.get_by_text("NightOptions").count() == 0
    shoot(page, "ui-nightly")
    before = {run["id"] for run in site.runs()}
    submit(page)
    wait_until(lambda: _has_left_form(page), 30)
    (run,) = [run for run in site.runs() if run["id"] not in before and not run["auto_scheduled"]]
    assert site.finish(run["id"])["name"] in {"Completed", "NothingToDo"}


def open_artifact(page, site, key):
    latest = site.api("POST", "artifacts/latest/filter")
    (found,) = [item["latest_id"] for item in latest if item["key"] == key]
    page.goto(f"http://127.0.0.1:{site.port}/v2/artifacts/artifact/{found}")


def _shown_images(page):
    """Number of figures; an image that the browser cannot show has no width."""
    widths = page.eval_on_selector_all("img", "images => images.map(image => image.naturalWidth)")
    return sum(width > 100 for width in widths)


def _has_left_form(page):
    """Whether the browser is no longer on the form; it may take a moment to leave."""
    page.wait_for_timeout(1500)
    return not page.url.partition("?")[0].endswith("/run")
