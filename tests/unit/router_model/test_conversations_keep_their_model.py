"""A conversation stays with the model that it began with while that can answer: whatever `auto` would pick anew."""

from datetime import UTC, datetime
from typing import Any

import pytest

from events.names import Operation, ReplicaState
from events.payloads import StatusData
from router_model.catalogue.loader import CatalogueRejected, load_catalogue
from router_model.classifier.features import extract_features
from router_model.classifier.keyword_rules import KeywordClassifier
from router_model.routing.context import RouteRequest, RoutingContext
from router_model.routing.decision import Decision
from router_model.routing.select import decide
from router_model.routing.session_affinity import filter_for_conversation
from router_model.service_registry import Registry

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
EASY, MIDDLING, HARD = "Name a colour.", "Tell me a story.", "Prove that there are many primes."
CATALOGUE = """
models:
  - {id: small, tier: L1, weights: {path: /s.gguf}, context_length: 1000, max_tokens: 256}
  - {id: large, tier: L3, weights: {path: /l.gguf}, context_length: 9000}
services:
  - {model: small, price_per_hour_usd: 1}
  - {model: large, price_per_hour_usd: 2}
aliases: {big: large}
profiles: {mine: {alpha: 1.0, latency: 0.1, cost: 0.3}}
default_profile: mine
"""


def turns(*texts: str, system: str | None = None) -> dict[str, Any]:
    """A chat body: what the user said, each but the last answered."""
    messages = [] if system is None else [{"role": "system", "content": system}]
    for text in texts:
        messages += [
            {"role": "user", "content": text},
            {"role": "assistant", "content": "Of course."},
        ]
    return {"messages": messages[:-1]}


def pick(body: dict[str, Any], *statuses: StatusData, rest: str = "", **asked: Any) -> Decision:
    registry = Registry()
    for status in statuses:
        registry = registry.apply(status)
    ask = RouteRequest(
        **{"model": "auto", "features": extract_features(Operation.CHAT, body), **asked}
    )
    catalogue = load_catalogue(CATALOGUE + rest)
    return decide(
        ask,
        RoutingContext(
            catalogue=catalogue, registry=registry, now=NOW, classifier=KeywordClassifier()
        ),
    )


def test_the_turns_alone_would_go_to_different_models() -> None:
    assert pick(turns(EASY)).model == "small"
    assert pick(turns(MIDDLING)).model == "large"
    assert pick(turns(HARD)).model == "large"


def test_a_second_turn_stays_with_the_model_of_the_first() -> None:
    assert pick(turns(EASY, MIDDLING)).model == "small"
    assert pick(turns(EASY, MIDDLING, MIDDLING, system="Be brief.")).model == "small"
    assert pick(turns(MIDDLING, EASY)).model == "large"


def test_a_turn_that_is_much_too_hard_moves_it() -> None:
    moved = pick(turns(EASY, HARD))
    assert (moved.model, moved.route_class) == ("large", "high")


def test_one_that_no_longer_fits_moves_it() -> None:
    assert pick(turns(EASY, "A tale. " * 900 + MIDDLING)).model == "large"


def test_an_unhealthy_model_is_left() -> None:
    failed = StatusData(
        service="small", replica="0", state=ReplicaState.FAILED, at=NOW, failed_starts=3
    )
    assert pick(turns(EASY, MIDDLING), failed).model == "large"


def test_the_margin_is_a_setting() -> None:
    assert pick(turns(EASY, MIDDLING), rest="conversation_margin: 0\n").model == "large"
    assert pick(turns(EASY, MIDDLING), rest="conversation_margin: 0.2\n").model == "large"
    assert pick(turns(EASY, HARD), rest="conversation_margin: 1\n").model == "small"
    with pytest.raises(CatalogueRejected):
        pick(turns(EASY), rest="conversation_margin: 1.5\n")


def test_who_names_a_model_gets_it() -> None:
    assert pick(turns(EASY, MIDDLING), model="large").model == "large"
    assert pick(turns(EASY, MIDDLING), model="big").model == "large"


def test_what_is_remembered_of_a_session_counts_before_its_opening() -> None:
    assert pick(turns(EASY, EASY), home="large", session="s").model == "large"
    assert pick(turns(MIDDLING, MIDDLING), home="small", session="s").model == "small"
    assert pick(turns(MIDDLING, HARD), home="small", session="s").model == "large"
    assert pick(turns(EASY, MIDDLING), home="gone", session="s").model == "small"


def test_questions_of_a_session_that_know_nothing_of_each_other_are_no_conversation() -> None:
    assert pick(turns(MIDDLING), home="small").model == "large"


@pytest.mark.parametrize(
    "messages",
    [
        [],
        "hello",
        [{"role": "user", "content": "a"}],
        [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
        [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        [{"role": "user", "content": "a"}, "odd", {"role": "user", "content": "b"}],
        [{"role": 7, "content": "a"}, {"role": None}],
        [{"role": "assistant", "content": "a"}, {"role": "tool", "content": "b"}],
    ],
)
def test_what_only_begins_has_no_opening(messages: Any) -> None:
    assert extract_features(Operation.CHAT, {"messages": messages}).opening is None


def test_the_opening_is_the_first_question_with_what_stood_before_it() -> None:
    found = extract_features(Operation.CHAT, turns(EASY, HARD, system="Be brief.")).opening
    assert found is not None
    assert found.text == EASY
    assert found == extract_features(Operation.CHAT, turns(EASY, system="Be brief."))


def test_a_call_of_a_tool_does_not_change_the_model() -> None:
    called = turns(MIDDLING, EASY)["messages"][:2]
    found = extract_features(
        Operation.CHAT, {"messages": [*called, {"role": "tool", "content": "20 C"}]}
    )
    assert found.opening is not None
    assert found.opening.text == MIDDLING


def test_every_turn_of_a_conversation_has_its_hash_and_no_other() -> None:
    def name(body: dict[str, Any]) -> str | None:
        return extract_features(Operation.CHAT, body).conversation

    first, other = turns(EASY, HARD), turns(EASY, HARD)
    other["messages"][1]["content"] = "No."
    assert name(turns(EASY)) is None
    assert name(first) == name(turns(EASY, HARD, MIDDLING))
    assert len({name(first), name(other), name(turns(HARD, EASY)), None}) == 4


def test_choices_of_a_model_that_has_none_are_all() -> None:
    ranked = pick(turns(EASY)).candidates
    assert filter_for_conversation(ranked, None, margin=0.4) == ranked
    assert filter_for_conversation(ranked, "gone", margin=0.4) == ranked
