"""What a model server gets of a request, and what the client was promised. Pure."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from events.event import Event
from events.names import Operation
from events.payloads import DecisionInfo
from events.requests import RoutedRequest
from functions.backends.backend_kinds import TABLE
from functions.runtime.errors import ApiError
from functions.worker.backend_request import build_backend_request, check_dimensions, reply_id
from router_model.catalogue.model import Backend, BackendKind, Model, Service

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HEX = "0123456789abcdef0123456789abcdef"


def call(
    body: dict[str, Any],
    operation: Operation = Operation.CHAT,
    kind: BackendKind = "vllm",
    task_tokens: int | None = None,
    **args: str,
) -> Any:
    request = RoutedRequest(
        event=Event(id="e", source="/router", type="x"),
        request_id=f"req_{HEX}",
        operation=operation,
        body=body,
        asked_model="auto",
        stream=body.get("stream") is True,
        deadline=NOW + timedelta(seconds=10),
        accepted_at=NOW,
        routed_at=NOW,
        service="small",
        model="Small/1",
        decision=DecisionInfo(route_class="", score=0.0, reason="", catalogue=""),
        max_tokens=task_tokens,
    )
    service = Service(model="Small/1", slug="small", backend=Backend(kind=kind, args=args))
    return build_backend_request(request, Model(id="Small/1", max_tokens=100), service, TABLE[kind])


def test_the_model_is_named_as_its_server_names_it() -> None:
    assert call({"model": "auto"}).body["model"] == "Small/1"
    assert call({"model": "auto"}, model="org/other").body["model"] == "org/other"


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        ({}, 100),
        ({"max_tokens": 5}, 5),
        ({"max_tokens": 5000}, 100),
        ({"max_completion_tokens": 7}, 7),
        ({"max_tokens": None}, 100),
    ],
)
def test_tokens_are_capped(body: dict[str, Any], limit: int) -> None:
    found = call(body)
    assert found.body["max_tokens"] == limit
    assert found.max_tokens == limit
    assert "max_completion_tokens" not in found.body


@pytest.mark.parametrize(
    ("body", "task_tokens", "limit"),
    [
        ({}, 64, 64),
        ({}, 5000, 100),
        ({"max_tokens": 5}, 64, 5),
        ({"max_completion_tokens": 5000}, 64, 64),
    ],
)
def test_a_task_caps_tokens_too(body: dict[str, Any], task_tokens: int, limit: int) -> None:
    assert call(body, task_tokens=task_tokens).body["max_tokens"] == limit


def test_a_remote_server_keeps_the_name_of_the_limit() -> None:
    assert call({"max_completion_tokens": 7}, kind="openai").body["max_completion_tokens"] == 7


def test_usage_is_always_asked_of_a_stream_and_shown_when_wanted() -> None:
    quiet = call({"stream": True})
    assert quiet.body["stream_options"] == {"include_usage": True}
    assert not quiet.has_usage
    assert call({"stream": True, "stream_options": {"include_usage": True}}).has_usage
    assert "stream_options" not in call({"stream_options": {"include_usage": True}}).body


def test_unknown_fields_pass_and_ours_do_not() -> None:
    body = {
        "min_p": 0.1,
        "store": True,
        "callback": "c",
        "metadata": {},
        "profile": "cost",
        "seed": None,
    }
    assert set(call(body).body) == {"min_p", "model", "max_tokens"}


@pytest.mark.parametrize(
    ("prompt", "n", "choices"),
    [
        ("a", None, 1),
        (["a", "b"], None, 2),
        (["a", "b"], 3, 6),
        ([1, 2, 3], 2, 2),
        ([[1], [2]], None, 2),
    ],
)
def test_choices_are_counted_from_prompts_and_n(prompt: Any, n: int | None, choices: int) -> None:
    assert call({"prompt": prompt, "n": n}, Operation.COMPLETIONS).shape.choices == choices


def test_embeddings_have_no_tokens_and_are_never_streamed() -> None:
    found = call(
        {"input": ["a", "b"], "stream": True, "encoding_format": "base64"}, Operation.EMBEDDINGS
    )
    assert (found.shape.inputs, found.is_stream, found.is_base64) == (2, False, True)
    assert set(found.body) == {"input", "model"}


def test_ids_of_answers_follow_from_the_request() -> None:
    assert reply_id(f"req_{HEX}", Operation.CHAT) == f"chatcmpl-{HEX}"
    assert reply_id(f"req_{HEX}", Operation.COMPLETIONS) == f"cmpl-{HEX}"
    foreign = reply_id("order/17", Operation.CHAT)
    assert foreign == reply_id("order/17", Operation.CHAT)
    assert len(foreign) == len("chatcmpl-") + 32


def test_one_tool_call_is_promised_to_who_wants_no_parallel_ones() -> None:
    assert call({"parallel_tool_calls": False}).shape.most_calls == 1
    for body in ({}, {"parallel_tool_calls": True}, {"parallel_tool_calls": None}):
        assert call(body).shape.most_calls > 1


def test_more_tokens_than_an_answer_may_have_are_refused_by_name() -> None:
    with pytest.raises(ApiError, match="min_tokens") as caught:
        call({"min_tokens": 101})
    assert (caught.value.code, caught.value.param) == ("invalid_value", "min_tokens")
    assert call({"min_tokens": 100}).body["min_tokens"] == 100


def test_vectors_have_the_length_that_was_asked_for_or_the_server_cannot() -> None:
    reply = {"data": [{"embedding": [0.5] * 128}, {"embedding": [0.5] * 384}]}
    check_dimensions(reply, None)
    with pytest.raises(ApiError, match="384") as caught:
        check_dimensions(reply, 128)
    assert (caught.value.code, caught.value.param) == ("capability_missing", "dimensions")
