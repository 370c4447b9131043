"""Which offset a stamp gets from a clock that jumps, and tables of intervals, sound and not."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from arraycal.calib.errors import CannotCompute
from arraycal.calib.hdf5.writing import Column, create_file, write_table
from arraycal.calib.monitoring.clock_intervals import INTERVALS, offsets_at
from arraycal.calib.monitoring.correction import by_telescope, corrections
from arraycal.calib.monitoring.origin import TABLES
from arraycal.calib.monitoring.read_coefficients import Coefficients, read_coefficients

START = 1_700_000_000
GROUP = "/dl2/service/arraycal/timing-cross"
#: Telescope 3 jumps between 600 and 603 s; telescope 4 does not.
ROWS = [(3, START + 1.0, START + 600.0, -1.5, 0.1), (3, START + 603.0, START + 1200.0, 18.5, 0.1)]


def with_drift(rows, drift=0.0, reference=None):
    """Rows of a clock that keeps time, or drifts, between its jumps."""
    return [(*row, drift, row[1] if reference is None else reference) for row in rows]


def table(rows=ROWS, offsets=(18.5, 2.0, 0.0)):
    n = len(offsets)
    telescopes = pl.DataFrame(
        {
            "tel_id": list(range(3, 3 + n)),
            "tel_type": ["LST"] * n,
            "value": list(offsets),
            "error": [0.1] * n,
            "reason": ["" if np.isfinite(offset) else "no data" for offset in offsets],
        }
    )
    made = Coefficients(
        path=Path("monitoring.h5"),
        table=TABLES["timing"],
        calibration="timing-cross",
        quantity="time",
        columns=("time",),
        slope=1.0,
        obs_ids=(1,),
        telescopes=telescopes,
        digest="",
        intervals=pl.DataFrame(
            rows if len(rows[0]) > 5 else with_drift(rows), schema=INTERVALS, orient="row"
        ),
    )
    return corrections(made)


def offsets(times, tel_id=3, **settings):
    stamps = np.array([(START + s, q) for s, q in times], np.uint32)
    return offsets_at(stamps, np.full(len(stamps), tel_id), table(**settings)).tolist()


def test_a_stamp_has_the_offset_of_the_interval_it_lies_in():
    assert offsets([(1, 4_000), (599, 3_999_999_999), (603, 4_000), (1199, 0)]) == [
        -1.5,
        -1.5,
        18.5,
        18.5,
    ]


def test_a_stamp_outside_every_interval_of_a_clock_that_jumps_has_none():
    assert np.isnan(offsets([(0, 0), (601, 0), (1201, 0), (86_400, 0), (-START, 0)])).all()


def test_a_clock_that_does_not_jump_has_its_offset_at_any_time():
    assert offsets([(0, 0), (601, 0), (86_400, 0)], tel_id=4) == [2.0] * 3


def test_a_telescope_without_offset_and_one_that_jumps_are_told_apart():
    assert np.isnan(offsets([(100, 0)], tel_id=4, offsets=(18.5, np.nan, 0.0))).all()
    assert offsets([(100, 0)], offsets=(np.nan, 2.0, 0.0)) == [-1.5]


def test_the_ends_of_an_interval_are_as_wide_as_a_shower():
    # 10 us of light across the array and the largest clock offset, 18.5 ns or less.
    assert offsets([(600, 4 * 10_000)]) == [-1.5]
    assert np.isnan(offsets([(600, 4 * 10_030)])).all()
    assert offsets([(602, 4_000_000_000 - 4 * 9_900)]) == [18.5]


def test_the_end_of_an_interval_is_counted_in_quarter_nanoseconds():
    edges = [(3, START + 1.0, START + 2.0, 0.0, 0.1), (3, START + 2.0, START + 3.0, 1000.0, 0.1)]
    # The offset in the middle is 1 ns: half way between the jump seen by both clocks is at 499 ns.
    found = offsets([(2, 0), (2, 1995), (2, 1996), (2, 1997), (2, 4001)], rows=edges)
    assert np.isnan(found.pop(2))
    assert found == [0.0, 0.0, 1000.0, 1000.0]


def test_a_clock_set_back_gives_times_that_are_no_ones():
    rows = [(3, START + 1.0, START + 2.0, 0.0, 0.1), (3, START + 2.0, START + 3.0, -1e6, 0.1)]
    first, twice, second = offsets([(1, 3_990_000_000), (1, 3_998_000_000), (2, 1)], rows=rows)
    assert (first, second) == (0.0, -1e6)
    assert np.isnan(twice)


def test_each_interval_is_a_row_of_the_corrections_and_the_reason_counts_them():
    found = table()
    assert found.filter(tel_id=3).select("valid_from", "valid_to", "offset").rows() == [
        (START + 1.0, START + 600.0, -1.5),
        (START + 603.0, START + 1200.0, 18.5),
    ]
    assert found.filter(tel_id=4)["valid_from"].is_nan().all()
    reasons = dict(by_telescope(found).select("tel_id", "reason").rows())
    assert reasons[3].endswith("its intervals: 2")
    assert reasons[4] == ""


#: Telescope 3 drifts: 2 ns at 1800 s.
DRIFTING = with_drift([(3, START + 1.0, START + 3600.0, 2.0, 0.1)], 8.0, START + 1800.0)


def test_a_stamp_of_a_clock_that_drifts_has_the_offset_of_its_time():
    # 8 ns/h: half an hour is 4 ns, and 900 s are 2 ns.
    found = offsets([(1800, 0), (2700, 0), (900, 0), (3600, 0)], rows=DRIFTING)
    assert found == pytest.approx([2.0, 4.0, 0.0, 6.0])


def test_nobody_knows_the_offset_of_a_drifting_clock_before_and_after_it_was_followed():
    assert np.isnan(offsets([(0, 0), (3602, 0), (86_400, 0)], rows=DRIFTING)).all()
    reasons = dict(by_telescope(table(rows=DRIFTING)).select("tel_id", "reason").rows())
    assert reasons[3].startswith("drifts: stamps have the offset of their time, none outside;")


def test_a_clock_that_has_drifted_far_is_still_in_its_interval():
    # 0.36 s/h: 36 ms after 360 s, a thousand times the time that light takes across the array.
    rows = with_drift([(3, START + 1.0, START + 361.0, 0.0, 0.1)], 3.6e8, START + 1.0)
    (found,) = offsets([(361, 4 * 36_000_000)], rows=rows)
    assert found == pytest.approx(36_003_600, abs=1)  # 36 ms more than a clock that is right


def test_a_clock_that_drifts_is_bound_to_its_interval_though_it_never_jumped(tmp_path):
    steady = (4, START + 1.0, START + 3600.0, 2.0, 0.1, 0.0, START + 1800.0)
    read = read_coefficients(write(tmp_path / "m.h5", [*DRIFTING, steady]))
    assert read.intervals.rows() == DRIFTING


def write(path, rows, steps=()):
    names = ["start_s", "stop_s", "offset_ns", "error_ns", "drift_ns_per_h", "reference_s"]
    # Of a clock that does not drift, the date its offset holds for does not matter.
    rows = [row if len(row) > len(ROWS[0]) else (*row, 0.0, row[1]) for row in rows]
    with create_file(path) as file:
        for name, columns in (
            (
                TABLES["timing"],
                {
                    "tel_type": Column(np.array(["LST", "LST"])),
                    "tel_id": Column(np.array([3, 4])),
                    "offset": Column(np.array([18.5, 2.0]), "ns"),
                    "error": Column(np.array([0.1, 0.1]), "ns"),
                },
            ),
            (
                f"{GROUP}/intervals",
                {"tel_id": Column(np.array([row[0] for row in rows]))}
                | {
                    name: Column(np.array([row[place] for row in rows]))
                    for place, name in enumerate(names, 1)
                },
            ),
            (f"{GROUP}/steps", {"tel_id": Column(np.array(steps, np.int64))}),
        ):
            write_table(file, name, columns, {})
    return path


def test_only_clocks_that_jump_are_bound_to_their_intervals(tmp_path):
    steady = (4, START + 1.0, START + 1200.0, 2.0, 0.1)
    read = read_coefficients(write(tmp_path / "m.h5", [*ROWS, steady], steps=[3]))
    assert read.intervals.rows() == with_drift(ROWS)


def test_a_clock_with_one_known_interval_that_jumped_is_bound_to_it(tmp_path):
    read = read_coefficients(write(tmp_path / "m.h5", ROWS[1:], steps=[3]))
    assert read.intervals.rows() == with_drift(ROWS[1:])


@pytest.mark.parametrize(
    "bad",
    [
        (3, START + 600.0, START + 1.0, -1.5, 0.1),
        (3, START + 1.0, np.inf, -1.5, 0.1),
        (3, START + 1.0, START + 600.0, np.nan, 0.1),
    ],
)
def test_intervals_that_can_be_none_cost_the_file(tmp_path, bad):
    with pytest.raises(CannotCompute, match=r"intervals that can be none, of telescopes \[3\]"):
        read_coefficients(write(tmp_path / "m.h5", [bad, ROWS[1]]))
