from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_model.catalogue.cron_window import (
    CronRejected,
    check_cron,
    is_within,
    last_before,
    zone,
)

OFFICE = ("0 8 * * 1-5", "0 18 * * 1-5", "UTC")


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-11-20T07:59", False),
        ("2026-11-20T08:00", True),
        ("2026-11-20T17:59", True),
        ("2026-11-20T18:00", False),
        ("2026-11-21T12:00", False),  # Saturday
        ("2026-11-23T08:01", True),
    ],
)
def test_a_window_begins_and_ends_by_its_expressions(now, expected):
    assert is_within([OFFICE], at(now)) is expected


def test_a_window_over_midnight_is_one_window():
    night = ("0 22 * * *", "0 6 * * *", "UTC")
    assert is_within([night], at("2026-11-20T23:30"))
    assert is_within([night], at("2026-11-21T05:59"))
    assert not is_within([night], at("2026-11-21T06:00"))


def test_a_window_is_in_the_time_of_its_own_place():
    berlin = ("0 8 * * *", "0 9 * * *", "Europe/Berlin")
    assert is_within([berlin], at("2026-11-20T07:30"))
    assert is_within([berlin], at("2026-07-20T06:30"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*/15 * * * *", "2026-11-20T10:45"),
        ("5 */6 * * *", "2026-11-20T06:05"),
        ("0 0 1 * *", "2026-11-01T00:00"),
        ("0 0 31 12 *", "2025-12-31T00:00"),
        ("0 12 * * 7", "2026-11-15T12:00"),
        ("0 12 13 * 5", "2026-11-13T12:00"),
        ("0,30 9-10 * * *", "2026-11-20T10:30"),
        ("10/20 3 * * *", "2026-11-20T03:50"),
        ("5-5/2 9-09 * * *", "2026-11-20T09:05"),
        ("0 12 * * 4-4", "2026-11-19T12:00"),
        ("0 9 */31 * 5", "2026-11-20T09:00"),  # a step restricts: either day field, as in KEDA
    ],
)
def test_the_last_instant_of_an_expression(text, expected):
    assert last_before(text, at("2026-11-20T10:47")) == at(expected)


def test_a_day_that_never_comes_has_no_instant():
    assert last_before("0 0 30 2 *", at("2026-11-20T10:47")) is None
    assert not is_within([("0 0 30 2 *", "0 0 1 3 *", "UTC")], at("2026-11-20T10:47"))


@pytest.mark.parametrize(
    "text", ["00000 8 * * *", "", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8",
             "a * * * *", "5-1 * * * *", "*/0 * * * *", "1,,2 * * * *", "-1 * * * *",
             "0 0 * * MON", "0 0 L * *", "0 0 * * 5#2", "H 0 * * *", "0 0 ? * *"],
)  # fmt: skip
def test_what_is_no_expression_is_refused(text):
    with pytest.raises(CronRejected):
        check_cron(text)


def test_an_unknown_time_zone_is_refused():
    with pytest.raises(CronRejected):
        zone("Middle/Earth")


@settings(deadline=None, max_examples=40)
@given(st.text("0123456789*/,- ", max_size=20))
def test_any_text_is_an_expression_or_refused(text):
    try:
        last = last_before(text, at("2026-11-20T10:47"))
    except CronRejected:
        return
    assert last is None or last <= at("2026-11-20T10:47")
