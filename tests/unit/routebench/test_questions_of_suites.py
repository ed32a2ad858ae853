from collections import Counter

import pytest

from benchmarks.routebench.questions import cut, gather, pool_costs
from benchmarks.routebench.suites import Case, Price, load_suites
from router_model.replay.outcome_dataset import OutcomeRow, assign_part

PRICES = {"small": Price(1.0, 2.0, "list"), "large": Price(10.0, 20.0, "list")}


def row(number=0, **known):
    plain = {
        "source": "s",
        "benchmark": "b",
        "prompt": "x" * 400,
        "outcomes": {"small": 0, "large": 1},
    }
    return OutcomeRow(id=f"b/{number}", qkey=f"{number:016x}", **{**plain, **known})


def case(kind="pool", sources=("s",)):
    return Case(name="X", suite="X", kind=kind, sources=sources, models=("small", "large"))


def test_the_suites_are_the_seven_and_every_headline_is_a_case():
    suites = load_suites()
    names = [item.name for item in suites.cases]
    assert list(suites.suites) == list("ABCDEFG") == list(suites.headlines)
    assert max(Counter(names).values()) == 1
    assert {name for cases in suites.headlines.values() for name in cases} <= set(names)


def test_every_pool_without_recorded_cost_has_prices():
    suites = load_suites()
    for item in suites.cases:
        if item.kind == "pool" and item.suite != "F":
            assert set(item.models) <= suites.prices.keys()


def test_a_recorded_cost_wins_over_the_price_list():
    costs = pool_costs([row(cost={"small": 0.5, "large": 0.7})], ["small", "large"], PRICES)
    assert costs.tolist() == [[0.5, 0.7]]


def test_a_list_price_counts_four_characters_a_token():
    costs = pool_costs([row(out_chars={"small": 80})], ["small"], PRICES)
    assert costs[0, 0] == pytest.approx((100 * 1 + 20 * 2) / 1e6)


def test_an_unknown_answer_has_the_models_mean_length_else_256_tokens():
    rows = [row(1, out_chars={"small": 80}), row(2)]
    costs = pool_costs(rows, ["small", "large"], PRICES)
    assert costs[1, 0] == pytest.approx((100 * 1 + 20 * 2) / 1e6)
    assert costs[1, 1] == pytest.approx((100 * 10 + 256 * 20) / 1e6)


def test_a_case_takes_the_questions_that_all_its_models_answered():
    rows = {"s": [row(1), row(2, outcomes={"small": 1})]}
    assert gather(case(), rows, PRICES).qkeys == (f"{1:016x}",)


def test_a_case_with_a_missing_file_is_not_measured():
    assert gather(case(sources=("s", "t")), {"s": [row()]}, PRICES) is None


def test_the_dev_part_is_never_trained_on():
    questions = gather(case("pair"), {"s": [row(number) for number in range(200)]}, PRICES)
    train, dev = cut(questions)
    assert len(train) + len(dev) == 200
    assert {assign_part(qkey) for qkey in dev.qkeys} == {"dev"}
    assert not set(train.qkeys) & set(dev.qkeys)
