"""The cache of pairs: reused when provably right, recomputed otherwise, never half-written."""

import errno
import fcntl
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from arraycal.calib.blocks import cache as cache_module
from arraycal.calib.blocks.cache import PairCache
from arraycal.calib.disk.files import file_digest
from arraycal.calib.schema import PAIRS

SUMMARY = {"n_events": 12, "rejected": [("pair", "rule", 3)], 5: float("inf")}


def pairs(n_rows, seed=1):
    rng = np.random.default_rng(seed)
    values = {
        name: pl.lit("MST")
        if kind == pl.String
        else pl.Series(rng.integers(1, 99, n_rows)).cast(kind)
        for name, kind in PAIRS.items()
    }
    return pl.select(n=pl.int_range(n_rows)).select(**values)


@pytest.fixture
def cache(tmp_path):
    return PairCache(tmp_path / "cache")


@pytest.fixture
def windows():
    return [pairs(50, seed) for seed in (1, 2)]


@pytest.fixture
def key(cache):
    return cache.key("digest", {"min_energy": 0.5})


@pytest.fixture
def entry(cache, key, windows):
    return cache.store(key, windows, SUMMARY)


@pytest.fixture
def files_are_settled(monkeypatch):
    """Make time stamps of this very moment count as old."""
    monkeypatch.setattr(cache_module, "SETTLED_NS", -1)


def leftovers(cache):
    """Everything in the cache that is not part of an entry; locks stay."""
    found = [path for path in cache.root.rglob("*") if path.is_file() or ".tmp" in path.name]
    return [path for path in found if path.name != cache_module.LOCK]


# --- entries -----------------------------------------------------------------------------


def test_what_was_stored_is_found(cache, key, entry, windows):
    found = cache.load(key)
    assert found == entry
    assert_frame_equal(pl.concat(found.windows()), pl.concat(windows))
    assert [len(window) for window in found.windows()] == [50, 50]
    assert_frame_equal(found.scan().collect(engine="in-memory"), pl.concat(windows))
    assert found.summary == {"n_events": 12, "rejected": [["pair", "rule", 3]], "5": float("inf")}


def test_an_entry_without_pairs_is_an_entry(cache, key):
    entry = cache.store(key, [], {})
    assert list(entry.windows()) == []
    assert entry.scan().collect().schema == PAIRS


def test_the_summary_is_read_after_the_last_window(cache, key, windows):
    summary = {}

    def generate():
        yield from windows
        summary["n_events"] = 100

    assert cache.store(key, generate(), summary).summary == {"n_events": 100}


def test_an_absent_entry_is_absent(cache, key):
    assert cache.load(key) is None


def test_the_key_depends_on_content_options_and_schema(cache, key, monkeypatch):
    assert cache.key("digest", {"min_energy": 0.5}) == key
    assert cache.key("other", {"min_energy": 0.5}) != key
    assert cache.key("digest", {"min_energy": 0.6}) != key
    monkeypatch.setattr(cache_module, "SCHEMA_ID", "another")
    assert cache.key("digest", {"min_energy": 0.5}) != key


def test_the_order_of_options_does_not_matter(cache):
    assert cache.key("d", {"a": 1, "b": [2]}) == cache.key("d", {"b": [2], "a": 1})


# --- damage ------------------------------------------------------------------------------


def test_a_deleted_part_makes_the_entry_absent(cache, key, entry):
    (entry.folder / entry.parts[1]).unlink()
    assert cache.load(key) is None


def test_a_flipped_bit_anywhere_in_a_part_makes_the_entry_absent(cache, key, entry):
    part = entry.folder / entry.parts[0]
    sound = part.read_bytes()
    for place in range(0, len(sound), len(sound) // 50):
        damaged = bytearray(sound)
        damaged[place] ^= 1
        part.write_bytes(damaged)
        assert cache.load(key) is None
    part.write_bytes(sound)
    assert cache.load(key) == entry


def test_a_changed_byte_anywhere_in_the_manifest_is_noticed_or_changes_nothing(cache, key, entry):
    manifest = entry.folder / "manifest.json"
    sound = manifest.read_bytes()
    absent = 0
    for place in range(len(sound)):
        for byte in (sound[place] ^ 1, ord("7"), 0xFF):
            manifest.write_bytes(sound[:place] + bytes([byte]) + sound[place + 1 :])
            found = cache.load(key)
            assert found in (None, entry)
            absent += found is None
    # White space between the tokens may change; little else.
    assert absent > 0.7 * 3 * len(sound)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"content": 1, "digest": 2}', '{"content": {}, "digest": ""}']
)
def test_a_manifest_that_is_none_makes_the_entry_absent(cache, key, entry, text):
    (entry.folder / "manifest.json").write_text(text)
    assert cache.load(key) is None


def test_a_truncated_manifest_makes_the_entry_absent(cache, key, entry):
    manifest = entry.folder / "manifest.json"
    os.truncate(manifest, manifest.stat().st_size // 2)
    assert cache.load(key) is None


def test_a_damaged_entry_is_replaced(cache, key, entry, windows):
    (entry.folder / entry.parts[0]).write_bytes(b"PAR1")
    assert cache.store(key, windows, SUMMARY) == entry
    assert cache.load(key) == entry


@pytest.mark.parametrize("in_the_way", ["file", "empty folder"])
def test_what_stands_in_the_place_of_an_entry_is_replaced(cache, key, windows, in_the_way):
    place = cache.root / key[:2] / key
    place.parent.mkdir(parents=True)
    if in_the_way == "file":
        place.write_text("not a folder")
    else:
        place.mkdir()
    assert cache.load(key) is None
    cache.store(key, windows, SUMMARY)
    assert cache.load(key) is not None


# --- interruptions -----------------------------------------------------------------------


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt])
def test_an_interrupted_writer_leaves_nothing(cache, key, windows, interruption):
    def generate():
        yield windows[0]
        raise interruption

    with pytest.raises(interruption):
        cache.store(key, generate(), {})
    assert cache.load(key) is None
    assert leftovers(cache) == []


def test_an_interrupted_writer_leaves_the_entry_that_was_there(cache, key, entry):
    def generate():
        yield pairs(1)
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        cache.store(key, generate(), {})
    assert cache.load(key) == entry


WRITE_UNTIL_KILLED = """
import sys, time
from pathlib import Path
import polars as pl
from arraycal.calib.blocks.cache import PairCache
def windows():
    yield pl.DataFrame({"tel_id": [1]})
    print("at work", flush=True)
    time.sleep(60)
PairCache(Path(sys.argv[1])).store(sys.argv[2], windows(), {})
"""


def test_what_a_killed_writer_left_is_removed_by_the_next_one(cache, key, windows):
    command = [sys.executable, "-c", WRITE_UNTIL_KILLED, str(cache.root), key]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"at work\n"
        (unfinished,) = cache.root.glob("*/*.tmp")
        cache.store(key, windows, SUMMARY)
        # Another writer is no obstacle, and neither are its files taken away while it lives.
        assert list(unfinished.iterdir())
        writer.kill()
    shutil.rmtree(cache.load(key).folder)
    assert cache.store(key, windows, SUMMARY) == cache.load(key)
    assert not list(cache.root.glob("*/*.tmp"))


def store_at_once(cache, key, windows, n_writers):
    """Entries of writers that all have written their windows before any of them publishes."""
    have_written = threading.Barrier(n_writers)
    results = []

    def generate():
        yield from windows
        have_written.wait(timeout=20)

    def write():
        results.append(cache.store(key, generate(), SUMMARY))

    threads = [threading.Thread(target=write) for _ in range(n_writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_two_writers_at_once_end_with_one_good_entry(cache, key, windows):
    results = store_at_once(cache, key, windows, 2)
    assert results == [cache.load(key)] * 2
    assert not [path for path in leftovers(cache) if ".tmp" in path.name]


# One writer must not remove the good entry that another has just put in place of the damaged one;
# without the lock, every second of these rounds shows it.
@pytest.mark.parametrize("_round", range(8))
def test_writers_that_replace_a_damaged_entry_at_once_all_succeed(
    cache, key, entry, windows, _round
):
    (entry.folder / "manifest.json").write_text("damaged")
    results = store_at_once(cache, key, windows, 8)
    assert results == [entry] * 8
    assert not [path for path in leftovers(cache) if ".tmp" in path.name]


def test_a_cache_can_be_shared_by_users_of_a_group(cache, key, windows, block, monkeypatch):
    monkeypatch.setattr(cache_module, "SETTLED_NS", -1)
    before = os.umask(0o002)
    try:
        cache.digest(block)
        cache.store(key, windows, SUMMARY)
    finally:
        os.umask(before)
    for path in cache.root.rglob("*"):
        # Polars makes its files with the rights of any other new file.
        assert path.stat().st_mode & 0o777 == (0o775 if path.is_dir() else 0o664), path


# A rename is enough to keep whole entries whole; only the removal of a damaged one needs a lock.
@pytest.mark.parametrize("_round", range(8))
def test_without_locks_all_writers_of_a_new_entry_succeed(cache, key, windows, _round, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    assert store_at_once(cache, key, windows, 8) == [cache.load(key)] * 8


def test_a_cache_below_a_file_is_an_os_error(tmp_path, key, windows):
    (tmp_path / "file").write_text("")
    cache = PairCache(tmp_path / "file" / "cache")
    assert cache.load(key) is None
    with pytest.raises(OSError, match="Not a directory"):
        cache.store(key, windows, {})
    with pytest.raises(OSError, match="Not a directory"):
        cache.digest(tmp_path / "file" / "block")


def test_a_full_disk_is_an_os_error_and_leaves_nothing(cache, key):
    big = pairs(40_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit on the size of files fails in the middle of a write, like a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(
            OSError, match=r"rows-00001.parquet cannot be written: .*File too large"
        ):
            cache.store(key, [pairs(5), big], {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert cache.load(key) is None
    assert leftovers(cache) == []


def test_a_disk_that_is_full_for_the_manifest_only_is_an_os_error(cache, key, windows, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module, "_write_manifest", refuse)
    with pytest.raises(OSError, match="No space left"):
        cache.store(key, windows, {})
    assert leftovers(cache) == []


# --- digests -----------------------------------------------------------------------------


@pytest.fixture
def block(tmp_path):
    path = tmp_path / "block"
    path.write_bytes(b"content")
    return path


@pytest.fixture
def hashed(monkeypatch):
    """Files that have been read to be hashed."""
    found = []
    original = file_digest

    def digest(path):
        found.append(path)
        return original(path)

    monkeypatch.setattr(cache_module, "file_digest", digest)
    return found


def test_digests_are_those_of_the_content(tmp_path, block):
    copy = tmp_path / "copy"
    copy.write_bytes(b"content")
    assert file_digest(copy) == file_digest(block)
    copy.write_bytes(b"c0ntent")
    assert file_digest(copy) != file_digest(block)


@pytest.mark.usefixtures("files_are_settled")
def test_a_file_is_hashed_once(cache, block, hashed):
    digest = file_digest(block)
    assert [cache.digest(block) for _ in range(3)] == [digest] * 3
    assert hashed == [block]
    assert PairCache(cache.root).digest(block) == digest
    assert hashed == [block]


@pytest.mark.usefixtures("files_are_settled")
def test_a_touched_file_is_hashed_again_and_has_its_old_digest(cache, block, hashed):
    digest = cache.digest(block)
    os.utime(block, ns=(0, 12345))
    assert cache.digest(block) == digest
    assert len(hashed) == 2


@pytest.mark.usefixtures("files_are_settled")
@pytest.mark.parametrize("content", [b"c0ntent", b"content and more"])
def test_a_change_that_keeps_the_modification_time_is_noticed(cache, block, content):
    cache.digest(block)
    before = block.stat()
    block.write_bytes(content)
    os.utime(block, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert block.stat().st_mtime_ns == before.st_mtime_ns
    assert cache.digest(block) == file_digest(block)


@pytest.mark.usefixtures("files_are_settled")
def test_a_file_put_in_the_place_of_another_is_noticed(tmp_path, cache, block):
    cache.digest(block)
    before = block.stat()
    other = tmp_path / "other"
    other.write_bytes(b"c0ntent")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(block)
    assert cache.digest(block) == file_digest(block)


def test_a_file_of_this_very_moment_is_not_remembered(cache, block, hashed):
    # It may change again within the resolution of its time stamps.
    for _ in range(2):
        cache.digest(block)
    assert len(hashed) == 2


@pytest.mark.usefixtures("files_are_settled")
def test_a_file_that_changes_while_it_is_hashed_is_not_remembered(cache, block, monkeypatch):
    def digest_of_a_growing_file(path):
        digest = file_digest(path)
        path.write_bytes(path.read_bytes() + b"+")
        return digest

    monkeypatch.setattr(cache_module, "file_digest", digest_of_a_growing_file)
    cache.digest(block)
    monkeypatch.undo()
    assert cache.digest(block) == file_digest(block)


@pytest.mark.usefixtures("files_are_settled")
@pytest.mark.parametrize("text", ["", "x" * 40, "x" * 40 + " " + "y" * 40, "\0", "a b c"])
def test_a_damaged_note_of_a_digest_is_not_believed(cache, block, text):
    digest = cache.digest(block)
    (note,) = (cache.root / "digests").iterdir()
    note.write_text(text)
    assert cache.digest(block) == digest


@pytest.mark.usefixtures("files_are_settled")
def test_a_digest_that_cannot_be_noted_leaves_no_temporary_file(cache, block, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        cache.digest(block)
    assert list((cache.root / "digests").iterdir()) == []


def test_manifests_are_json_for_the_curious(entry):
    content = json.loads((entry.folder / "manifest.json").read_text())["content"]
    assert content["summary"]["n_events"] == 12
    assert list(content["parts"]) == ["rows-00000.parquet", "rows-00001.parquet"]
