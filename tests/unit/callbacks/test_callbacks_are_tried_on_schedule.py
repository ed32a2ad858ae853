from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from functions.callbacks.retry_schedule import (
    AttemptOutcome,
    Delivered,
    GivenUp,
    TryAgain,
    add_jitter,
    choose_step,
    parse_retry_after,
    parse_schedule,
)
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import CallbackSettings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DELAYS = parse_schedule(CallbackSettings().schedule_s)


def step(outcome, attempts=1, chance=0.5, delays=DELAYS):
    return choose_step(outcome, attempts=attempts, delays=delays, chance=chance, now=NOW)


def test_the_default_schedule_tries_ten_times_over_more_than_two_days():
    now, attempts, waits = NOW, 0, []
    while True:
        attempts += 1
        found = choose_step(
            AttemptOutcome(status=500), attempts=attempts, delays=DELAYS, chance=0.5, now=now
        )
        if isinstance(found, GivenUp):
            break
        waits.append((found.due_at - now).total_seconds())
        now = found.due_at
    assert attempts == 10
    assert waits == list(DELAYS[1:])
    assert now - NOW > timedelta(days=2)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_only_2xx_is_success(status):
    assert step(AttemptOutcome(status=status)) == Delivered()


@pytest.mark.parametrize("status", [100, 199, 300, 301, 302, 307, 308, 400, 404, 429, 500, 503])
def test_everything_else_is_tried_again(status):
    assert isinstance(step(AttemptOutcome(status=status)), TryAgain)


def test_410_ends_it_and_disables_the_target():
    assert step(AttemptOutcome(status=410)) == GivenUp(is_target_gone=True)


def test_a_final_outcome_is_not_tried_again():
    assert step(AttemptOutcome(failure="callback_url_refused", is_final=True)) == GivenUp()


def test_jitter_moves_a_delay_by_a_tenth_at_most():
    assert [add_jitter(100.0, chance) for chance in (0.0, 0.5)] == [90.0, 100.0]
    assert 90.0 <= add_jitter(100.0, 0.999999) <= 110.0
    due = step(AttemptOutcome(failure="timeout"), chance=0.0).due_at
    assert due == NOW + timedelta(seconds=4.5)


def test_a_receiver_may_ask_for_a_longer_wait_but_not_for_a_shorter_one():
    assert step(AttemptOutcome(status=429, retry_after="60")).due_at == NOW + timedelta(seconds=60)
    assert step(AttemptOutcome(status=429, retry_after="1")).due_at == NOW + timedelta(seconds=5)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("-1", 0),
        ("NaN", 0),
        ("inf", 0),
        ("1e20", 0),
        ("soon", 0),
        ("5 minutes", 0),
        ("\u0665", 0),
        ("9" * 60, 86400),
        ("9" * 100, 0),
        ("99999999999", 86400),
        (" 7 ", 7),
        ("Thu, 01 Jan 1999 00:00:00 GMT", 0),
        (format_datetime(NOW + timedelta(seconds=90)), 90),
        (format_datetime(NOW + timedelta(days=900)), 86400),
        ("Thu, 01 Jan 2026 00:00:10", 10),
    ],
)
def test_retry_after_is_clamped(text, seconds):
    assert parse_retry_after(text, NOW) == seconds


@pytest.mark.parametrize("text", ["", "a", "1,,2", "-1", "nan", "0,inf"])
def test_a_schedule_that_makes_no_sense_is_refused(text):
    with pytest.raises(StartupFailed):
        parse_schedule(text)
