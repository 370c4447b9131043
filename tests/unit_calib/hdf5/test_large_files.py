"""Tables written part by part, on disks that fill up."""

import resource
import subprocess
import sys
import textwrap
from itertools import pairwise

import numpy as np
import pytest

from arraycal.calib.hdf5.file import open_file, require_table
from arraycal.calib.hdf5.writing import Column, create_file, create_large_file, write_table


def part(first, n):
    return {
        "event_id": Column(np.arange(first, first + n)),
        "is_valid": Column(np.arange(first, first + n) % 3 == 0),
        "time": Column(np.full((n, 2), first, np.uint32), time_format="ctao_high_res"),
    }


def read(path, name="/a/b"):
    with open_file(path) as file:
        table = require_table(file, name, path)
        rows = table.read()
        return {column: table.column(column, rows) for column in table.columns}


@pytest.mark.parametrize("cuts", [[0, 5000], [0, 1, 1500, 1500, 4999, 5000]])
def test_parts_make_the_table_that_is_written_at_once(tmp_path, cuts):
    with create_file(tmp_path / "once.h5") as file:
        write_table(file, "/a/b", part(0, 5000))
    with create_large_file(tmp_path / "parts.h5") as large:
        for start, stop in pairwise(cuts):
            columns = part(start, stop - start)
            columns["time"] = Column(
                np.zeros((stop - start, 2), np.uint32), time_format="ctao_high_res"
            )
            large.append("/a/b", columns)
    once, parts = read(tmp_path / "once.h5"), read(tmp_path / "parts.h5")
    assert once.keys() == parts.keys()
    for name, values in once.items():
        np.testing.assert_array_equal(parts[name], values)
    assert parts["is_valid"].dtype == np.bool_


def test_parts_with_other_columns_are_refused(tmp_path):
    with create_large_file(tmp_path / "parts.h5") as large:
        large.append("/a/b", part(0, 3))
        other = part(3, 3)
        other["event_id"] = Column(np.arange(3, dtype=np.int32))
        with pytest.raises(ValueError, match="/a/b has rows of"):
            large.append("/a/b", other)


WRITER = """
    import sys
    from pathlib import Path
    import numpy as np
    from arraycal.calib.hdf5 import Column, create_large_file
    rng = np.random.default_rng(1)
    try:
        with create_large_file(Path(sys.argv[1])) as large:
            for _ in range(6):
                for name in ("/a/b", "/a/c"):
                    large.append(name, {"x": Column(rng.normal(size=10_000))})
    except OSError as error:
        print("errno", error.errno)
"""


@pytest.mark.parametrize("limit", [0, 100, 2_000, 5_000, 90_000, 300_000, 700_000])
def test_a_full_disk_is_an_error_and_no_crash(tmp_path, limit):
    # A limit on the size of a file fails a write as a full disk does; a signal comes with it,
    # which Python ignores. Six parts of two tables of 80 kB each take more than any of the limits.
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path / "large.h5")],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert (done.returncode, done.stdout.strip()) == (0, "errno 27"), done.stderr


def test_a_large_file_never_replaces_another(tmp_path):
    (tmp_path / "there.h5").write_text("precious")
    with pytest.raises(FileExistsError), create_large_file(tmp_path / "there.h5"):
        pass
    assert (tmp_path / "there.h5").read_text() == "precious"
