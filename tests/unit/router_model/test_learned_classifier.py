"""The learned classifier: which stage decides, when it abstains, and that no text makes it raise."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.names import Operation
from router_model.classifier import weights
from router_model.classifier.features import PromptFeatures, extract_features
from router_model.classifier.heads import CLASSES, LengthHead, OutlierGate
from router_model.classifier.hybrid import MODES, LearnedClassifier, _margin
from router_model.classifier.keyword_rules import Classification, KeywordClassifier

MODELS = ("small", "large", "nobody knows")
ODD_TEXTS = {
    "one space": " ",
    "long": "prove the sum " * 75_000,
    "one long word": "x" * 1_000_000,
    "nul": "\x00\x00sum\x00",
    "half a pair": "\ud800",
    "half a pair among words": "the sum \udfff is",
    "emoji": "👩‍👩‍👧‍👦😀" * 50,
    "right to left": "מה הסכום של שתיים ושלוש?",
    "digits": "12345678901234567890" * 20,
    "signs": "\\{}$$__((??",
    "lines": "\n" * 5_000,
}


@dataclass
class Counting:
    """A network that counts its calls, and gives what the real one does or something else."""

    real: Any
    gives: float | None = None
    calls: int = 0

    def run(self, outputs: None, inputs: dict[str, Any]) -> list[Any]:
        self.calls += 1
        (found,) = self.real.run(outputs, inputs)
        return [found if self.gives is None else np.full_like(found, self.gives)]


@pytest.fixture(scope="module")
def directory(make_tiny, tmp_path_factory):
    return make_tiny().write(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def stages(directory):
    loaded = weights.load_learned(directory, mode="transformer")
    return loaded._linear, loaded._encoder


@pytest.fixture(scope="module")
def by_mode(directory) -> dict[str, LearnedClassifier]:
    return {mode: weights.load_learned(directory, mode=mode) for mode in MODES}


def features(text: str, operation: Operation = Operation.CHAT) -> PromptFeatures:
    return PromptFeatures(operation=operation, text=text, tokens=1, least_tokens=1)


def learned(stages, *, mode, band=0.2, **changes) -> LearnedClassifier:
    linear, encoder = stages
    return LearnedClassifier(
        linear, replace(encoder, **changes), KeywordClassifier(), mode=mode, band=band
    )


def assert_usable(found: Classification) -> None:
    assert found.route_class in CLASSES
    assert found.reason in {"linear", "encoder", "abstained", "unusable"}
    assert all(0 <= chance <= 1 for chance in found.success.values())
    assert all(0 <= chance <= 1 for chance in found.tier_success.values())
    assert all(1 <= tokens < math.inf for tokens in found.answer_tokens.values())
    assert "nobody knows" not in found.success
    assert "nobody knows" not in found.answer_tokens


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS)
def test_no_text_makes_it_raise_and_the_same_text_finds_the_same(by_mode, mode, text) -> None:
    found = by_mode[mode].classify(features(text), MODELS)
    assert_usable(found)
    assert found == by_mode[mode].classify(features(text), MODELS)


@given(text=st.text(st.characters(codec=None), min_size=1, max_size=80))
def test_any_text_finds_chances_and_lengths(by_mode, text: str) -> None:
    for classifier in by_mode.values():
        assert_usable(classifier.classify(features(text), MODELS))


@pytest.mark.parametrize("mode", MODES)
def test_what_is_no_question_is_left_to_the_fallback(by_mode, mode) -> None:
    for asked in (features(""), features("prove the sum", Operation.EMBEDDINGS)):
        assert by_mode[mode].classify(asked, MODELS) == KeywordClassifier().classify(asked)


def test_the_linear_stage_tells_class_chances_tiers_and_lengths(by_mode) -> None:
    found = by_mode["linear"].classify(features("prove rain"), MODELS)
    assert (found.route_class, found.tier, found.reason) == ("high", "L3", "linear")
    assert set(found.success) == set(found.answer_tokens) == {"small", "large"}
    assert found.success["large"] > found.success["small"]
    assert set(found.tier_success) == {"L1", "L2", "L3"}
    small, large = found.answer_tokens["small"], found.answer_tokens["large"]
    assert small < found.typical_answer_tokens < large
    assert large / small == pytest.approx(math.e, rel=1e-5)  # verbosity +0.5 and -0.5
    assert by_mode["linear"].classify(features("sum of rain")).route_class == "low"


def test_the_encoder_decides_by_its_own_heads(by_mode) -> None:
    found = by_mode["transformer"].classify(features("sum of rain"), MODELS)
    assert (found.route_class, found.reason) == ("high", "encoder")
    assert found.success["large"] == pytest.approx(1 / (1 + math.exp(-1)))
    assert found.tier_success["L2"] == pytest.approx(0.5)
    by_linear = by_mode["linear"].classify(features("sum of rain"), MODELS)
    assert found.answer_tokens == by_linear.answer_tokens


def test_what_was_asked_of_no_model_says_nothing_of_models(by_mode) -> None:
    found = by_mode["hybrid"].classify(features("prove rain"))
    assert (found.success, found.answer_tokens) == ({}, {})
    assert len(found.tier_success) == 3
    assert found.typical_answer_tokens > 0


@pytest.mark.parametrize(("log", "tokens"), [(-1e5, 1.0), (1e5, math.exp(9)), (2.0, math.exp(2))])
def test_a_length_is_at_least_one_token_and_no_book(log, tokens) -> None:
    head = LengthHead(np.zeros(2, np.float32), log, {"any": 0.0})
    usual, by_model = head.tokens(np.ones(2, np.float32), ("any", "nobody knows"))
    assert usual == pytest.approx(tokens)
    assert by_model == {"any": usual}


@pytest.mark.parametrize(("odds", "chance"), [(-1e5, 0.0), (0.0, 0.5), (1e5, 1.0)])
def test_far_odds_are_chances_still(stages, odds, chance) -> None:
    heads = stages[0].heads
    latent = np.zeros(heads.weight.shape[1], np.float32)
    far = replace(heads, bias=np.full_like(heads.bias, odds))
    assert far.success(latent, ("small",)) == {"small": pytest.approx(chance, abs=1e-6)}


def test_hybrid_asks_the_encoder_only_where_the_linear_stage_is_unsure(stages) -> None:
    linear, encoder = stages
    network = Counting(encoder.network)
    for text in ("prove rain", "sum of rain", "prove the sum", "rain"):
        margin = _margin(linear.heads.class_chances(linear.read(text).latent))
        sure = learned(stages, mode="hybrid", band=margin * 0.999, network=network)
        unsure = learned(stages, mode="hybrid", band=margin * 1.001, network=network)
        network.calls = 0
        assert sure.classify(features(text)).reason == "linear"
        assert network.calls == 0
        assert unsure.classify(features(text)).reason == "encoder"
        assert network.calls == 1


def test_the_transformer_is_always_asked_and_linear_never_holds_one(stages) -> None:
    network = Counting(stages[1].network)
    always = learned(stages, mode="transformer", band=0.0, network=network)
    never = learned(stages, mode="linear", band=2.0, network=network)
    assert always.classify(features("prove rain")).reason == "encoder"
    assert network.calls == 1
    assert never.classify(features("prove the sum")).reason == "linear"
    assert network.calls == 1


@pytest.mark.parametrize("mode", ["transformer", "hybrid"])
def test_a_mode_with_encoder_needs_one(stages, mode) -> None:
    with pytest.raises(ValueError, match=mode):
        LearnedClassifier(stages[0], None, KeywordClassifier(), mode=mode, band=0.2)


def assert_left_to_the_rule(classifier: LearnedClassifier, reason: str) -> None:
    for text, route_class in (("prove the sum", "high"), ("the sum", "low"), ("rain", "medium")):
        found = classifier.classify(features(text), MODELS)
        assert found == Classification(route_class, reason)


def test_a_prompt_of_unknown_words_is_left_to_the_rule(stages) -> None:
    linear = replace(stages[0], least_coverage=1.1)
    strict = LearnedClassifier(linear, stages[1], KeywordClassifier(), mode="hybrid", band=0.2)
    assert_left_to_the_rule(strict, "abstained")


def test_a_prompt_far_from_what_the_linear_stage_knows_is_left_to_the_rule(stages) -> None:
    linear = replace(stages[0], gate=OutlierGate(stages[0].gate.centroids, 1.1))
    strict = LearnedClassifier(linear, stages[1], KeywordClassifier(), mode="linear", band=0.2)
    assert_left_to_the_rule(strict, "abstained")


def test_a_prompt_far_from_what_the_encoder_knows_is_left_to_the_rule(stages) -> None:
    gate = OutlierGate(stages[1].gate.centroids, 1.1)
    assert_left_to_the_rule(learned(stages, mode="transformer", gate=gate), "abstained")


@pytest.mark.parametrize("gives", [math.nan, math.inf, -math.inf, 3e38])
def test_a_network_that_gives_no_sane_numbers_is_not_believed(stages, gives) -> None:
    network = Counting(stages[1].network, gives)
    assert_left_to_the_rule(learned(stages, mode="transformer", network=network), "unusable")


@pytest.mark.parametrize("value", [math.nan, math.inf, 3e38])
def test_a_linear_stage_that_gives_no_sane_numbers_is_not_believed(stages, value) -> None:
    linear = replace(stages[0], offset=np.full_like(stages[0].offset, value))
    broken = LearnedClassifier(linear, stages[1], KeywordClassifier(), mode="hybrid", band=0.2)
    assert_left_to_the_rule(broken, "unusable")


@pytest.mark.parametrize("mode", MODES)
def test_eight_threads_find_what_one_finds(by_mode, mode) -> None:
    asked = [
        features(f"{word} {number} the sum") for word in ("prove", "rain") for number in range(50)
    ]
    classify = by_mode[mode].classify
    alone = [classify(each, MODELS) for each in asked]
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: [classify(each, MODELS) for each in asked], range(8)):
            assert found == alone


def test_a_question_of_a_megabyte_goes_through_features_too(by_mode) -> None:
    body = {"messages": [{"role": "user", "content": "prove rain " * 100_000}]}
    found = by_mode["hybrid"].classify(extract_features(Operation.CHAT, body), MODELS)
    assert_usable(found)
