"""Failed starts in a row: pauses grow, and after some of them a service is left alone for a while."""

import pytest

from events.names import BreakerState
from functions.autoscaling.start_policy import MOST_S, START_BACKOFF, StartPolicy

RULE = StartPolicy(most=3, hold_s=30.0)


def test_pauses_between_starts_grow_up_to_minutes() -> None:
    pauses = [START_BACKOFF.delay_s(n) for n in range(1, 12)]
    assert pauses[:3] == pytest.approx([0.5, 1.5, 4.5])
    assert pauses == sorted(pauses)
    assert pauses[-1] == START_BACKOFF.delay_s(10_000) == MOST_S


def test_a_dead_service_is_started_a_handful_of_times_in_minutes() -> None:
    """Each start of a dead record fails within a second or two."""
    now_s, starts = 0.0, 0
    while now_s < 200.0:
        starts += 1
        now_s += 1.5 + START_BACKOFF.delay_s(starts)
    assert starts <= 7


def test_the_first_failures_say_nothing_yet() -> None:
    assert [RULE.breaker(n, 0.0) for n in range(4)] == [
        BreakerState.CLOSED,
        BreakerState.CLOSED,
        BreakerState.CLOSED,
        BreakerState.OPEN,
    ]


def test_an_open_breaker_is_half_open_after_its_time_which_doubles() -> None:
    assert RULE.breaker(3, 29.9) is BreakerState.OPEN
    assert RULE.breaker(3, 30.0) is BreakerState.HALF_OPEN
    assert [RULE.hold(n) for n in (3, 4, 5, 6, 7, 1000)] == [30, 60, 120, 240, MOST_S, MOST_S]


def test_nobody_waits_for_a_start_that_is_not_due_when_the_breaker_is_half_open() -> None:
    assert all(START_BACKOFF.delay_s(n) <= RULE.hold(n) for n in range(1, 40))
