"""The rule behind the learned stages: words of several languages, then length; what it takes is a class, never more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.names import Operation
from router_model.classifier.everyday_rule import SHORT_CHARS, EverydayRule
from router_model.classifier.features import PromptFeatures
from router_model.classifier.keyword_rules import KeywordClassifier


def asked(text: str, operation: Operation = Operation.CHAT) -> PromptFeatures:
    return PromptFeatures(operation=operation, text=text, tokens=1, least_tokens=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Quelle heure est-il ?", "low"),
        ("ahoj", "low"),
        ("Beweise den Satz von Pythagoras.", "high"),
        ("Докажите теорему Пифагора", "high"),
        ("请证明勾股定理", "high"),
        ("Schreibe eine Einladung.", "medium"),
        ("この段落を要約して", "medium"),
        ("Explique la photosynthèse", "medium"),
        ("list drei Farben", "low"),
        ("ein Wort und noch eines " * 6, "medium"),
    ],
)
def test_words_decide_then_length(text: str, expected: str) -> None:
    assert EverydayRule().classify(asked(text)).route_class == expected


def test_the_length_that_parts_low_from_medium() -> None:
    rule = EverydayRule()
    assert rule.classify(asked("x" * SHORT_CHARS)).route_class == "low"
    assert rule.classify(asked("x" * (SHORT_CHARS + 1))).route_class == "medium"


@given(st.text(max_size=200))
def test_what_the_keyword_rule_calls_high_stays_high_and_nothing_is_claimed(text: str) -> None:
    found, plain = EverydayRule().classify(asked(text)), KeywordClassifier().classify(asked(text))
    assert found.route_class == "high" if plain.route_class == "high" else True
    assert (found.success, found.tier_success, found.answer_tokens) == ({}, {}, {})


@pytest.mark.parametrize("sent", [asked(""), asked("beweise", Operation.EMBEDDINGS)])
def test_what_is_no_question_is_left_to_the_keyword_rule(sent: PromptFeatures) -> None:
    assert EverydayRule().classify(sent) == KeywordClassifier().classify(sent)
