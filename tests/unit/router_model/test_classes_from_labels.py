"""A class is judged beyond what outcomes taught: by heads of labelled prompts, where the words are known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from events.names import Operation
from router_model.classifier import weights
from router_model.classifier.features import PromptFeatures
from router_model.classifier.heads import ComplexityHead, OutlierGate
from router_model.classifier.hybrid import MODES, LearnedClassifier
from router_model.classifier.keyword_rules import KeywordClassifier
from router_model.classifier.weights_checks import check_encoder, check_linear

MODELS = ("small", "large")
FAR = 1.1
"""No cosine is so large: every prompt is an outlier."""


@pytest.fixture(scope="module")
def stages(make_tiny, tmp_path_factory):
    loaded = weights.load_learned(
        make_tiny().write(tmp_path_factory.mktemp("weights")), mode="transformer"
    )
    return loaded._linear, loaded._encoder


def asked(text: str) -> PromptFeatures:
    return PromptFeatures(operation=Operation.CHAT, text=text, tokens=1, least_tokens=1)


def always(seen: int, number: int) -> ComplexityHead:
    return ComplexityHead(np.zeros((3, seen), np.float32), np.eye(3, dtype=np.float32)[number])


def classifier(stages, mode: str, *, least: float = 0.5, **gates: float) -> LearnedClassifier:
    """Linear says low, the encoder high. `gates`: thresholds of `linear` and `encoder` for chances."""
    linear, encoder = stages
    seen = linear.heads.weight.shape[1]
    linear = replace(
        linear,
        complexity=always(seen, 0),
        least_known_words=least,
        gate=OutlierGate(linear.gate.centroids, gates.get("linear", -2.0)),
    )
    encoder = replace(
        encoder,
        complexity=always(encoder.heads.weight.shape[1], 2),
        gate=OutlierGate(encoder.gate.centroids, gates.get("encoder", -2.0)),
    )
    return LearnedClassifier(linear, encoder, KeywordClassifier(), mode=mode, band=0.0)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("linear", ("low", "linear")), ("transformer", ("high", "encoder")), ("hybrid", ("low", "linear"))],
)  # fmt: skip
def test_the_class_is_that_of_the_labels_and_chances_stay(stages, mode, expected) -> None:
    found = classifier(stages, mode).classify(asked("prove rain"), MODELS)
    assert (found.route_class, found.reason) == expected
    plain = LearnedClassifier(*stages, KeywordClassifier(), mode=mode, band=0.0)
    assert found.success == plain.classify(asked("prove rain"), MODELS).success
    assert set(found.success) == set(MODELS)


@pytest.mark.parametrize(
    ("gates", "mode", "expected"),
    [
        ({"linear": FAR}, "linear", ("low", "linear")),
        ({"linear": FAR}, "hybrid", ("high", "encoder")),
        ({"linear": FAR}, "transformer", ("high", "encoder")),
        ({"encoder": FAR}, "transformer", ("high", "encoder")),
    ],
)
def test_an_outlier_of_known_words_has_a_class_and_no_chances(
    stages, gates, mode, expected
) -> None:
    found = classifier(stages, mode, **gates).classify(asked("prove rain"), MODELS)
    assert (found.route_class, found.reason) == expected
    assert (found.success, found.tier_success, found.answer_tokens) == ({}, {}, {})
    assert found.typical_answer_tokens is None


@pytest.mark.parametrize("mode", MODES)
def test_an_outlier_of_unknown_words_is_left_to_the_fallback(stages, mode) -> None:
    found = classifier(stages, mode, linear=FAR).classify(asked("zebras yodel vexingly"), MODELS)
    assert (found.route_class, found.reason) == ("medium", "abstained")


def test_words_are_counted_without_their_pairs(stages) -> None:
    read = stages[0].read("the the zebra")
    assert read.known_words == pytest.approx(1 / 2)
    assert read.coverage == pytest.approx(1 / 4)
    assert stages[0].read("").known_words == 0


def test_without_such_heads_an_outlier_is_left_to_the_fallback(stages) -> None:
    linear, encoder = stages
    far = replace(linear, gate=OutlierGate(linear.gate.centroids, FAR))
    old = LearnedClassifier(far, encoder, KeywordClassifier(), mode="transformer", band=0.0)
    assert old.classify(asked("prove rain"), MODELS).reason == "abstained"


@pytest.mark.parametrize("shape", [(2, 5), (3, 5)])
def test_heads_of_another_shape_are_refused_at_the_start(stages, shape: Any) -> None:
    linear, encoder = stages
    odd = ComplexityHead(np.zeros(shape, np.float32), np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="complexity_weight"):
        check_linear(replace(linear, complexity=odd))
    with pytest.raises(ValueError, match="complexity_weight"):
        check_encoder(replace(encoder, complexity=odd), linear)
