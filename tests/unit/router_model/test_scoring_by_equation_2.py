"""Equation 2: bounded, the same in any order, the same in any unit, and what it says when nothing discriminates."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_model.catalogue.model import PROFILES, Profile
from router_model.routing.scoring import RangeScale, RankScale, make_scale, normalise_weights, score

amounts = st.floats(0, 1e9, allow_nan=False)
unit = st.floats(0, 1)
preferences = st.builds(
    Profile, alpha=st.floats(0, 100), latency=st.floats(0, 100), cost=st.floats(0, 100)
).filter(lambda p: p.alpha + p.latency + p.cost > 1e-6)


@given(preferences)
def test_weights_sum_to_one(profile: Profile) -> None:
    found = normalise_weights(profile)
    assert math.isclose(found.relevance + found.latency + found.cost, 1.0)
    assert min(found.relevance, found.latency, found.cost) >= 0


@given(preferences, unit, unit, unit)
def test_a_score_lies_between_zero_and_one(
    profile: Profile, relevance: float, latency: float, cost: float
) -> None:
    assert 0 <= score(normalise_weights(profile), relevance, latency, cost) <= 1


def test_the_score_is_the_weighted_sum_of_the_paper() -> None:
    weights = normalise_weights(PROFILES["cost"])
    expected = (0.3 * 0.5 + 0.2 * 0.25 + 0.8 * 1.0) / 1.3
    assert score(weights, 0.5, 0.25, 1.0) == pytest.approx(expected)


@given(st.lists(amounts, min_size=1, max_size=8))
def test_norm_is_min_max_and_bounded(values: list[float]) -> None:
    found = make_scale("minmax", values)
    normed = [found.norm(value) for value in values]
    assert all(0 <= value <= 1 for value in normed)
    if max(values) > min(values):
        assert normed[values.index(min(values))] == 0
        assert normed[values.index(max(values))] == 1


@given(st.lists(st.floats(0.01, 1e6), min_size=2, max_size=8), st.sampled_from([0.5, 2.0, 1024.0]))
def test_norm_does_not_depend_on_the_unit(values: list[float], factor: float) -> None:
    for norm in ("minmax", "distributional"):
        plain, scaled = make_scale(norm, values), make_scale(norm, [factor * v for v in values])
        assert [scaled.norm(factor * value) for value in values] == pytest.approx(
            [plain.norm(value) for value in values]
        )


@given(st.permutations([3.0, 1.0, 2.0, 2.0]))
def test_norm_does_not_depend_on_order(values: list[float]) -> None:
    assert make_scale("minmax", values) == RangeScale(1.0, 3.0)
    assert make_scale("distributional", values) == RankScale([1.0, 2.0, 2.0, 3.0])


def test_equal_values_do_not_discriminate() -> None:
    assert make_scale("minmax", [2.0, 2.0]).norm(2.0) == 0.0
    assert make_scale("distributional", [2.0, 2.0]).norm(2.0) == 0.5
    assert make_scale("distributional", [2.0]).norm(2.0) == 0.0


def test_history_widens_the_range() -> None:
    assert make_scale("minmax", [2.0], (0.0, 1.0, 8.0)).norm(2.0) == 0.25


@given(st.lists(amounts, min_size=1, max_size=8), st.lists(amounts, max_size=20))
def test_a_position_is_bounded_and_keeps_the_order(
    values: list[float], history: list[float]
) -> None:
    found = make_scale("distributional", values, sorted(history))
    ascending = sorted(values)
    normed = [found.norm(value) for value in ascending]
    assert normed == sorted(normed)
    assert all(0 <= value <= 1 for value in normed)
    assert len(set(normed)) == len(set(values))


def test_a_far_off_value_leaves_the_others_apart() -> None:
    values = [1.0, 2.0, 3.0, 1e6]
    minmax, positions = make_scale("minmax", values), make_scale("distributional", values)
    assert minmax.norm(2.0) < 1e-5
    assert positions.norm(2.0) == pytest.approx(1 / 3)


def test_values_in_history_count_as_rivals() -> None:
    found = make_scale("distributional", [5.0], (1.0, 2.0, 3.0, 9.0))
    assert found.norm(5.0) == 0.75
    assert found.norm(0.0) == 0.0
    assert found.norm(10.0) == 1.0


def test_a_value_outside_is_clipped() -> None:
    assert RangeScale(1.0, 2.0).norm(5.0) == 1.0
    assert RangeScale(1.0, 2.0).norm(0.0) == 0.0


@pytest.mark.parametrize(
    "profile", [Profile(alpha=0, latency=0, cost=0), Profile(alpha=-1, latency=1, cost=1)]
)
def test_impossible_preferences_are_refused(profile: Profile) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        normalise_weights(profile)
