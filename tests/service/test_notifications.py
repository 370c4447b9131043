"""Who is told of trouble: automations that fire, on a block made by the site."""

import json
import threading
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.settings import PREFECT_API_URL, temporary_settings

BLOCK = "custom-webhook/array"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def messages():
    """What a web hook on this machine is told, and its address."""
    heard = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield heard, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_block_that_is_not_there_is_named(site, monkeypatch):
    monkeypatch.setitem(site.environment, "ARRAYCAL_NOTIFICATION_BLOCK", "custom-webhook/nowhere")
    done = site.arraycal("up")
    assert done.returncode == 2
    assert "ARRAYCAL_NOTIFICATION_BLOCK is 'custom-webhook/nowhere'" in done.stderr


def test_a_run_that_fails_and_one_that_is_degraded_are_told_of(
    site, messages, wait_until, monkeypatch
):
    heard, address = messages
    server = f"http://127.0.0.1:{site.port}/api"
    with temporary_settings({PREFECT_API_URL: server}):
        block = CustomWebhookNotificationBlock(
            name="array", url=address, json_data={"subject": "{{subject}}", "body": "{{body}}"}
        )
        block.save("array")
    monkeypatch.setitem(site.environment, "PREFECT_API_URL", server)
    monkeypatch.setitem(site.environment, "ARRAYCAL_NOTIFICATION_BLOCK", BLOCK)
    before = len(site.api("POST", "automations/filter"))
    done = site.arraycal("register")
    assert done.returncode == 0, done.stderr
    assert "arraycal: failed" in done.stdout
    assert "nightly/nightly" in done.stdout
    assert len(site.api("POST", "automations/filter")) == before

    failed, degraded = date(2026, 1, 20), date(2026, 1, 21)
    site.simulate(degraded)
    for night in (failed, degraded):
        folder = site.data / night.isoformat()
        folder.mkdir(exist_ok=True)
        (folder / "damaged.dl2.h5").write_bytes(b"no HDF5")
    options = {"blocks": "{night:%Y-%m-%d}/*.dl2.h5"}
    assert site.finish(site.start(failed, **options))["name"] == "Unusable"
    assert site.finish(site.start(degraded, **options))["name"] == "Degraded"
    for file in site.data.rglob("damaged.dl2.h5"):
        file.unlink()  # other tests would find it in the night in which it was written
    # The server may tell of an event twice; what counts is that each is told of.
    wait_until(lambda: len({item["subject"] for item in heard}) >= 2, 60)
    told = {item["subject"]: item["body"] for item in heard}
    assert set(told) == {"arraycal: failed", "arraycal: degraded"}
    assert "night 2026-01-20 (nightly): Unusable" in told["arraycal: failed"]
    assert "damaged.dl2.h5" in told["arraycal: degraded"]
