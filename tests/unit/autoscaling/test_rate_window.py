"""The rate window: what it counts, what it forgets, and that it stays small."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.autoscaling.rate_window import BUCKETS, RateWindow

steps = st.lists(st.tuples(st.floats(0, 400), st.integers(0, 50)), max_size=80)


def test_the_first_total_is_where_counting_starts() -> None:
    assert RateWindow(window_s=300.0).observe(0.0, 1_000_000).rate_per_s(1.0) == 0.0


def test_the_rate_is_arrivals_over_the_whole_window() -> None:
    window = RateWindow(window_s=300.0).observe(0.0, 0).observe(10.0, 60).observe(20.0, 150)

    assert window.rate_per_s(20.0) == pytest.approx(0.5)


def test_arrivals_older_than_the_window_are_forgotten() -> None:
    window = RateWindow(window_s=300.0).observe(0.0, 0).observe(10.0, 60)

    assert window.rate_per_s(290.0) > 0
    assert window.rate_per_s(316.0) == 0.0


def test_a_total_that_went_down_counts_nothing() -> None:
    window = RateWindow(window_s=300.0).observe(0.0, 500).observe(1.0, 3).observe(2.0, 5)

    assert window.rate_per_s(2.0) == pytest.approx(2 / 300)


@given(steps)
def test_it_never_overstates_and_never_grows(moves: list[tuple[float, int]]) -> None:
    window, now, total = RateWindow(window_s=300.0).observe(0.0, 0), 0.0, 0
    for passed, arrived in moves:
        now, total = now + passed, total + arrived
        window = window.observe(now, total)
        assert 0 <= window.rate_per_s(now) <= total / 300.0 + 1e-9
        assert len(window.counts) <= BUCKETS + 1


@given(st.floats(0, 1e6), st.integers(0, 10_000))
def test_everything_of_the_last_half_window_is_counted(start: float, arrived: int) -> None:
    window = RateWindow(window_s=300.0).observe(start, 0).observe(start, arrived)

    assert window.rate_per_s(start + 150.0) == pytest.approx(arrived / 300.0)
