"""Log probabilities become a chance: bounded, never falling when a token gets likelier, and fitted by isotonic maps."""

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_model.cascade.confidence import (
    Measure,
    TokenConfidence,
    are_points_valid,
    calibrate,
    fit_isotonic,
    read_logprobs,
)

LOGPROBS = st.lists(st.floats(-60, 0), min_size=1, max_size=30)
MEASURES = st.sampled_from(get_args(Measure))
SHARES = st.floats(0, 1)
POINTS = st.lists(st.tuples(SHARES, SHARES), max_size=8).map(
    lambda pairs: tuple(
        zip(sorted({raw for raw, _ in pairs}), sorted(chance for _, chance in pairs), strict=False)
    )
)


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=30), MEASURES)
def test_a_raw_measure_is_in_bounds_whatever_a_server_says(
    logprobs: list[float], measure: Measure
) -> None:
    raw = TokenConfidence(logprobs).raw(measure)
    assert raw is not None
    assert 0 <= raw <= 1


@given(LOGPROBS, MEASURES, st.data())
def test_a_likelier_token_never_lowers_a_measure(
    logprobs: list[float], measure: Measure, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(logprobs) - 1))
    raised = list(logprobs)
    raised[place] = data.draw(st.floats(logprobs[place], 0))
    before, after = TokenConfidence(logprobs).raw(measure), TokenConfidence(raised).raw(measure)
    assert before is not None
    assert after is not None
    assert after >= before - 1e-12


@given(LOGPROBS)
def test_the_weakest_token_is_below_the_geometric_and_that_below_the_arithmetic_mean(
    logprobs: list[float],
) -> None:
    found = TokenConfidence(logprobs)
    least, geometric, mean = (
        found.raw("min_probability"),
        found.raw("geometric_mean"),
        found.raw("mean_probability"),
    )
    assert least is not None
    assert geometric is not None
    assert mean is not None
    assert least <= geometric + 1e-12
    assert geometric <= mean + 1e-12


def test_the_measures_are_what_their_formulas_say() -> None:
    found = TokenConfidence([math.log(0.5), math.log(0.125)])
    assert found.raw("geometric_mean") == pytest.approx(0.25)
    assert found.raw("mean_probability") == pytest.approx(0.3125)
    assert found.raw("min_probability") == pytest.approx(0.125)
    assert TokenConfidence().raw("geometric_mean") is None
    with pytest.raises(ValueError, match="number"):
        found.add(math.nan)


@given(POINTS, SHARES, SHARES)
def test_a_calibration_keeps_order_and_bounds(
    points: tuple[tuple[float, float], ...], one: float, other: float
) -> None:
    low, high = sorted((one, other))
    assert are_points_valid(points)
    assert 0 <= calibrate(low, points) <= calibrate(high, points) <= 1


def test_a_calibration_is_linear_between_its_points_and_flat_outside() -> None:
    points = ((0.2, 0.1), (0.6, 0.5))
    assert [calibrate(raw, points) for raw in (0.0, 0.2, 0.4, 0.6, 1.0)] == pytest.approx(
        [0.1, 0.1, 0.3, 0.5, 0.5]
    )
    assert calibrate(0.3) == pytest.approx(0.3)


@pytest.mark.parametrize(
    "points",
    [((0.5, 0.5), (0.5, 0.6)), ((0.1, 0.5), (0.2, 0.4)), ((0.1,),), ((0.1, 1.1),), ((-0.1, 0.2),)],
)
def test_what_is_no_rising_map_is_refused(points: tuple[tuple[float, ...], ...]) -> None:
    assert not are_points_valid(points)


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=40))
def test_an_isotonic_fit_has_the_levels_of_the_min_max_formula(
    answers: list[tuple[int, bool]],
) -> None:
    points = fit_isotonic([raw / 20 for raw, _ in answers], [float(g) for _, g in answers])
    assert are_points_valid(points)
    groups = [
        [float(grade) for other, grade in answers if other == raw]
        for raw in sorted({raw for raw, _ in answers})
    ]
    places = range(len(groups))
    levels = {
        round(
            max(
                min(_mean(groups[start : end + 1]) for end in places if end >= place)
                for start in places
                if start <= place
            ),
            9,
        )
        for place in places
    }
    assert [round(level, 9) for _, level in points] == sorted(levels)


def _mean(groups: list[list[float]]) -> float:
    found = [grade for group in groups for grade in group]
    return sum(found) / len(found)


def test_an_isotonic_fit_pools_what_falls() -> None:
    points = fit_isotonic([0.1, 0.2, 0.3, 0.4], [0.0, 1.0, 0.0, 1.0])
    assert [value for point in points for value in point] == pytest.approx(
        [0.1, 0.0, 0.25, 0.5, 0.4, 1.0]
    )
    assert fit_isotonic([0.5, 0.5, 0.5, 0.5], [1.0, 0.0, 1.0, 0.0]) == ((0.5, 0.5),)


def test_log_probabilities_are_read_in_both_forms_and_not_trusted() -> None:
    chat = {"content": [{"logprob": -0.5}, {"logprob": -1}]}
    assert read_logprobs(chat) == [-0.5, -1]
    assert read_logprobs({"token_logprobs": [-0.5]}) == [-0.5]
    for nothing in (
        None,
        [],
        {},
        {"content": []},
        {"content": [{}]},
        {"content": ["x"]},
        {"content": [{"logprob": "0"}]},
        {"content": [{"logprob": True}]},
        {"token_logprobs": [-0.1, None]},
        {"token_logprobs": "x"},
    ):
        assert read_logprobs(nothing) is None
