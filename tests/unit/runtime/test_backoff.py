"""Pauses grow to a bound, whatever the number of failures."""

import math

import pytest

from functions.local.kept_process import RESTARTS
from functions.runtime.backoff import Backoff, jittered


def test_pauses_grow_by_their_factor_to_the_most():
    assert [Backoff(0.5, 5.0, factor=3.0).delay_s(n) for n in range(5)] == [0.5, 0.5, 1.5, 4.5, 5.0]


def test_any_row_of_failures_has_a_finite_pause():
    assert math.isfinite(Backoff(1.0).delay_s(10**9))


def test_restarts_wait_longer_each_time_but_never_more_than_ten_seconds():
    delays = [RESTARTS.delay_s(failures) for failures in range(1, 100)]
    assert delays[0] == pytest.approx(0.2)
    assert delays == sorted(delays)
    assert delays[-1] == pytest.approx(10.0)


def test_a_jittered_pause_is_half_to_all_of_it():
    assert all(2.0 <= jittered(4.0) <= 4.0 for _ in range(100))
