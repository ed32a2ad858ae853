import numpy as np
import pytest

from benchmarks.routebench.off_distribution import left_out_benchmarks, strange_prompts
from benchmarks.routebench.ours import ShippedRouter, chat_features
from benchmarks.routebench.questions import Questions
from benchmarks.routebench.stages import stages_of
from router_model.classifier.keyword_rules import Classification, KeywordClassifier
from router_model.classifier.weights import WeightsUnusable


class Heads:
    """Knows `small` and `large`; abstains on prompts that hold no letter e."""

    def __init__(self):
        self.asked = []

    def classify(self, features, models=()):
        self.asked.append(features.text)
        if "e" not in features.text:
            return Classification("medium", "off_distribution")
        chance = min(0.9, len(features.text) / 100)
        return Classification("low", "linear", {"small": 1 - chance, "large": 0.9})


def questions():
    scores = np.array([[0.0, 1.0], [0.5, 1.0]])
    return Questions(
        ("p", "q"), ("p", "q"), ("b", "b"), ("", ""), ("small", "large"), scores, scores
    )


def test_each_prompt_is_classified_once_and_the_gap_of_chances_is_the_score():
    heads = Heads()
    router = ShippedRouter("ours", heads, ["small", "large"])
    router.fit(questions())
    prompts = ["easy", "e" * 50]
    gaps = router.pair_scores(prompts, "small", "large")
    router.success(prompts, ["large"])
    assert gaps.tolist() == pytest.approx([0.9 - 0.96, 0.9 - 0.5])
    assert heads.asked == prompts


def test_a_model_without_a_chance_has_what_a_catalogue_would_state_and_is_reported():
    router = ShippedRouter("ours", Heads(), ["small"])
    router.fit(questions())
    prompts = ["easy", "no"]
    assert router.success(prompts, ["small"])[1, 0] == 0.25
    assert router.unknown_share(prompts, ["small"]) == 0.5
    assert router.abstained_share(prompts) == 0.5
    assert router.reasons(prompts) == {"linear": 0.5, "off_distribution": 0.5}


def test_a_classifier_without_heads_routes_pairs_by_class_and_takes_no_pool():
    router = ShippedRouter("ours", KeywordClassifier(), ["small"])
    assert router.pair_scores(["prove it", "list it"], "small", "large").tolist() == [2, 0]
    assert router.success(["prove it"], ["small"]) is None


def test_strange_prompts_are_the_same_each_time():
    assert strange_prompts(8) == strange_prompts(8)
    assert len(set(strange_prompts(40))) == 40


def test_a_left_out_benchmark_is_not_trained_on():
    class Remembers:
        name, is_honest = "remembers", True

        def fit(self, train):
            self.known = set(train.prompts)

        def pair_scores(self, prompts, weak, strong):
            assert not self.known & set(prompts)
            return np.zeros(len(prompts))

    prompts = tuple(f"{name} {number}" for name in "xyz" for number in range(40))
    scores = np.tile([[0.0, 1.0], [1.0, 1.0]], (60, 1))
    every = Questions(
        prompts, prompts, tuple(p[0] for p in prompts), prompts, ("s", "l"), scores, scores
    )
    few = every.only(np.arange(120) < 90)
    assert left_out_benchmarks(every, few, Remembers) == pytest.approx(
        {"x": 0.5, "y": 0.5}, abs=0.05
    )


def test_other_weights_than_the_shipped_ones_are_scored_where_they_are_named(tmp_path):
    with pytest.raises(WeightsUnusable, match=str(tmp_path)):
        stages_of(tmp_path)["linear"]()
    assert stages_of(None)["linear"]().classify(chat_features("What is 2 + 2?")).route_class
