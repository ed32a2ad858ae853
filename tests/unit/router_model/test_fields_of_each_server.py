"""Which server takes which field: the table, and what routing makes of it."""

from typing import Any

import pytest

from events.names import Operation
from events.payloads import ServerInfo
from router_model.classifier.features import extract_features
from router_model.routing.backend_fields import (
    FIELDS,
    SERVER_KINDS,
    drop_idle,
    find_untaken,
    list_used_fields,
    parse_version,
)
from router_model.routing.capabilities import find_kind, find_lack

CHAT = {"messages": [{"role": "user", "content": "hi"}]}


def chat(**fields: Any) -> Any:
    return extract_features(Operation.CHAT, {**CHAT, **fields})


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_field_that_asks_for_nothing_is_no_use_of_it(name: str) -> None:
    for value in (None, *FIELDS[name].idle):
        assert list_used_fields(Operation.CHAT, {name: value}) == ()
        for kind in SERVER_KINDS:
            if not FIELDS[name].is_known_to(kind):
                assert drop_idle(kind, {name: value}) == {}


def test_what_is_in_no_table_goes_on_as_it_came() -> None:
    assert list_used_fields(Operation.CHAT, {"x_mine": {"a": 1}}) == ()
    assert drop_idle("ollama", {"x_mine": {"a": 1}}) == {"x_mine": {"a": 1}}


def test_no_logprobs_beside_the_chosen_token_are_still_logprobs() -> None:
    assert list_used_fields(Operation.COMPLETIONS, {"prompt": "a", "logprobs": 0}) == ("logprobs",)
    assert list_used_fields(Operation.CHAT, {"logprobs": False}) == ()


def test_as_many_as_are_wanted_is_no_best_of() -> None:
    assert list_used_fields(Operation.COMPLETIONS, {"prompt": "a", "n": 3, "best_of": 3}) == ("n",)
    assert "best_of" in list_used_fields(Operation.COMPLETIONS, {"prompt": "a", "best_of": 3})


@pytest.mark.parametrize(
    ("kind", "body", "field"),
    [
        ("llamacpp", {"min_tokens": 3}, "min_tokens"),
        ("llamacpp", {"stop_token_ids": [5]}, "stop_token_ids"),
        ("llamacpp", {"guided_regex": "a+"}, "guided_regex"),
        ("llamacpp", {"ignore_eos": True, "guided_choice": ["a"]}, "ignore_eos"),
        (
            "llamacpp",
            {"ignore_eos": True, "response_format": {"type": "json_object"}},
            "ignore_eos",
        ),
        ("tgi", {"ignore_eos": True}, "ignore_eos"),
        ("tgi", {"n": 2}, "n"),
        ("ollama", {"top_k": 4}, "top_k"),
        ("ollama", {"tool_choice": "required"}, "tool_choice"),
        ("ollama", {"structured_outputs": {"choice": ["a"]}}, "structured_outputs.choice"),
        ("vllm", {"best_of": 4}, "best_of"),
    ],
)
def test_what_a_server_does_not_do_is_refused_by_name(
    kind: Any, body: dict[str, object], field: str
) -> None:
    lack = find_lack(kind, None, chat(**body))
    assert lack is not None
    refused = lack.refusal()
    assert (refused.code, refused.param) == ("unsupported_parameter", field)
    assert field in refused.message
    assert find_lack("openai", None, chat(**body)) is None


def test_a_version_may_take_what_an_older_one_did_not() -> None:
    assert list(find_untaken("ollama", ["logprobs"], (0, 11))) == ["logprobs"]
    assert list(find_untaken("ollama", ["logprobs"], (0, 13, 1))) == []
    assert list(find_untaken("ollama", ["logprobs"])) == []
    assert parse_version("v0.12.11-rc1") == (0, 12, 11)
    assert parse_version("b6001") is None


def test_a_server_is_what_it_says_it_is() -> None:
    assert find_kind("openai", ServerInfo(kind="ollama")) == "ollama"
    assert find_kind("vllm", ServerInfo(kind="openai")) == "vllm"
    assert find_kind("vllm", ServerInfo(kind="something new")) == "vllm"
    assert find_lack("openai", ServerInfo(kind="ollama"), chat(top_k=3)) is not None


TOOLS = [{"type": "function", "function": {"name": "f"}}]
PICTURE = [
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;,"}}]}
]
SOUND = [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "A"}}]}]


@pytest.mark.parametrize(
    ("said", "body", "code", "param"),
    [
        ({"tools": False}, {**CHAT, "tools": TOOLS}, "capability_missing", "tools"),
        ({"vision": False}, {"messages": PICTURE}, "capability_missing", "messages"),
        ({"audio": False}, {"messages": SOUND}, "capability_missing", "messages"),
        ({"choices": 2}, {**CHAT, "n": 3}, "unsupported_parameter", "n"),
        (
            {"context_length": 8},
            {"messages": [{"role": "user", "content": "a " * 9}]},
            "context_length_exceeded",
            None,
        ),
    ],
    ids=lambda found: next(iter(found)) if isinstance(found, dict) else "",
)
def test_what_a_server_says_it_cannot_is_refused(
    said: dict[str, Any], body: dict[str, Any], code: str, param: str | None
) -> None:
    features = extract_features(Operation.CHAT, body)
    lack = find_lack("llamacpp", ServerInfo(kind="llamacpp", **said), features)
    assert lack is not None
    assert (lack.refusal().code, lack.refusal().param) == (code, param)
    assert find_lack("llamacpp", ServerInfo(kind="llamacpp"), features) is None


def test_token_ids_beyond_the_vocabulary_are_of_another_tokeniser() -> None:
    info = ServerInfo(kind="llamacpp", vocabulary=30_522)

    def lack(tokens: object) -> object:
        features = extract_features(Operation.EMBEDDINGS, {"input": tokens})
        return find_lack("llamacpp", info, features)

    assert lack([101, 7592, 102]) is None
    assert lack(["words", "more"]) is None
    assert lack([101, 99_999]) is not None
    assert lack([[101], [30_522]]) is not None
