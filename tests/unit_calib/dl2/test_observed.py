from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from arraycal.calib.dl2.observed import (
    Span,
    night_of,
    nights_of,
    observation_span,
    refuse_impossible,
)
from arraycal.calib.errors import WrongUsage
from arraycal.calib.hdf5.writing import Column

TRIGGER = "/dl1/event/subarray/trigger"
START = datetime(2026, 3, 1, 22, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("hour", "zone", "night"),
    [
        (datetime(2026, 3, 1, 11, 59, tzinfo=UTC), "UTC", date(2026, 2, 28)),
        (datetime(2026, 3, 1, 12, 0, tzinfo=UTC), "UTC", date(2026, 3, 1)),
        # Noon in Chile in summer is 15:00 UTC: the small hours there are late in UTC.
        (datetime(2026, 3, 2, 13, 0, tzinfo=UTC), "America/Santiago", date(2026, 3, 1)),
        (datetime(2026, 3, 2, 15, 0, tzinfo=UTC), "America/Santiago", date(2026, 3, 2)),
    ],
)
def test_a_night_is_named_after_the_noon_before_it(hour, zone, night):
    assert night_of(hour, zone) == night


@given(st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)), st.floats(0, 11.5))  # noqa: DTZ001
def test_evening_and_morning_are_of_one_night_also_when_clocks_change(day, hours):
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    for zone in ("Atlantic/Canary", "America/Santiago", "UTC"):
        # Local midnight is within 5 h of that of UTC; half a day less an hour to either side.
        offset = {"Atlantic/Canary": 0.0, "America/Santiago": 4.0, "UTC": 0.0}[zone]
        middle = midnight + timedelta(hours=offset)
        reach = timedelta(hours=min(hours, 10.5))
        assert night_of(middle - reach, zone) == night_of(middle + reach, zone)


def test_blocks_of_one_night_have_one_night():
    spans = [Span(START + timedelta(hours=h), START) for h in (0, 3, 8)]
    assert nights_of(spans) == [date(2026, 3, 1)]
    assert nights_of([*spans, Span(START + timedelta(days=1), START)]) == [
        date(2026, 3, 1),
        date(2026, 3, 2),
    ]


def stamps(seconds):
    """Times after the start as ctapipe writes them, with the 37 s of leap seconds."""
    return Time(START).unix_tai + np.asarray(seconds)


@pytest.fixture
def dl2_file(make_block, make_rows):
    return make_block(make_rows(50))


@pytest.mark.parametrize("high_resolution", [True, False])
def test_the_span_of_a_block_is_in_utc_and_missing_stamps_do_not_count(dl2_file, high_resolution):
    n = len(dl2_file.tables[TRIGGER]["time"].data)
    tai = stamps(np.linspace(0, 1200, n))
    if high_resolution:
        whole = np.floor(tai)
        data = np.stack([whole, (tai - whole) * 4e9], axis=1).astype(np.uint32)
        data[0] = 0
    else:
        data = 40587.0 + tai / 86400
        data[0] = np.nan
    form = "ctao_high_res" if high_resolution else "mjd"
    dl2_file.tables[TRIGGER]["time"] = Column(data, time_format=form)
    span = observation_span(dl2_file.write())
    assert span is not None
    assert abs(span.start - START - timedelta(seconds=1200 / (n - 1))) < timedelta(milliseconds=1)
    assert abs(span.stop - START - timedelta(seconds=1200)) < timedelta(milliseconds=1)


def test_a_block_without_times_has_no_span(dl2_file, tmp_path):
    assert observation_span(dl2_file.write()) is None
    del dl2_file.tables[TRIGGER]
    assert observation_span(dl2_file.write()) is None
    assert observation_span(tmp_path / "absent.h5") is None


def test_tonight_is_the_last_night_that_can_be_asked_for():
    # 2026-03-02 02:30 UTC is 23:30 on the day before in Chile.
    moment = datetime(2026, 3, 2, 2, 30, tzinfo=UTC)
    refuse_impossible([date(2026, 3, 2), date(2000, 1, 1)], moment)
    refuse_impossible([date(2026, 3, 1)], moment, "America/Santiago")
    message = (
        "the night of 2026-03-02 is after today; expected a date from 2000-01-01 to 2026-03-01"
    )
    with pytest.raises(WrongUsage, match=message):
        refuse_impossible([date(2026, 3, 1), date(2026, 3, 2)], moment, "America/Santiago")
    with pytest.raises(WrongUsage, match="1999-12-31 is before there was anything to calibrate"):
        refuse_impossible([date(1999, 12, 31)], moment)
