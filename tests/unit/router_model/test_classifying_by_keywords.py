"""The paper's rule: words of low or high complexity, else medium; a word of high complexity outweighs one of low."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.names import Operation
from router_model.classifier.features import PromptFeatures
from router_model.classifier.keyword_rules import KeywordClassifier


def features(text: str) -> PromptFeatures:
    return PromptFeatures(operation=Operation.CHAT, text=text, tokens=1, least_tokens=1)


@pytest.mark.parametrize(
    ("text", "route_class", "tier"),
    [
        ("What is the sum of 2 and 3?", "low", "L1"),
        ("List the planets", "low", "L1"),
        ("DEFINE entropy", "low", "L1"),
        ("Prove that there are infinitely many primes", "high", "L3"),
        ("derive the formula", "high", "L3"),
        ("Explain\nwhy  the sky is blue", "high", "L3"),
        ("list the steps and prove each", "high", "L3"),
        ("Write a poem about rain", "medium", "L2"),
        ("", "medium", "L2"),
        ("improve and resume the checklist", "medium", "L2"),
    ],
)
def test_words_decide_the_class_and_its_tier(text: str, route_class: str, tier: str) -> None:
    found = KeywordClassifier().classify(features(text))
    assert (found.route_class, found.tier) == (route_class, tier)


@given(st.text(max_size=300))
def test_any_text_has_one_class_and_always_the_same(text: str) -> None:
    first, second = (
        KeywordClassifier().classify(features(text)),
        KeywordClassifier().classify(features(text)),
    )
    assert first == second
    assert first.route_class in {"low", "medium", "high"}
