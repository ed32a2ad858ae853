from datetime import UTC, datetime, timedelta

import pytest

from functions.autoscaling.weekly_pattern import (
    HOURS_A_WEEK,
    HabitThresholds,
    count_hours,
    is_expected,
)

NOW = datetime(2026, 11, 20, 9, 50, tzinfo=UTC)
HOUR = count_hours(NOW)
TERMS = HabitThresholds(weeks=4, share=0.75, requests=3)
LONG_AGO = HOUR - 10 * HOURS_A_WEEK


def weekly(hour, *counts):
    """Arrivals in the same hour of the last weeks, the newest first."""
    return {hour - HOURS_A_WEEK * back: n for back, n in enumerate(counts, start=1) if n}


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((5, 5, 5, 5), True),
        ((5, 5, 5, 0), True),
        ((9, 9, 0, 0), False),  # half of the weeks
        ((1, 1, 1, 1), False),  # too few to be worth it
        ((0, 0, 0, 0), False),
    ],
)
def test_an_hour_is_expected_that_most_weeks_had(counts, expected):
    assert is_expected(weekly(HOUR, *counts), LONG_AGO, NOW, 0, TERMS) is expected


def test_a_service_is_warm_before_its_hour_begins():
    arrivals = weekly(HOUR + 1, 5, 5, 5, 5)
    assert not is_expected(arrivals, LONG_AGO, NOW, 300, TERMS)
    assert is_expected(arrivals, LONG_AGO, NOW, 601, TERMS)
    assert is_expected(arrivals, LONG_AGO, NOW + timedelta(minutes=30), 0, TERMS)


def test_one_week_is_no_habit():
    first = HOUR - HOURS_A_WEEK - 5
    assert not is_expected(weekly(HOUR, 9), first, NOW, 0, TERMS)
    first -= HOURS_A_WEEK
    assert is_expected(weekly(HOUR, 9, 9), first, NOW, 0, TERMS)


def test_weeks_before_the_first_record_do_not_speak_against_a_habit():
    first = HOUR - 2 * HOURS_A_WEEK - 5
    assert is_expected(weekly(HOUR, 9, 9), first, NOW, 0, TERMS)
    assert not is_expected(weekly(HOUR, 9, 9), LONG_AGO, NOW, 0, TERMS)
