"""Whatever a model server answers becomes a safe object or a typed failure."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from events.names import Operation
from functions.runtime.errors import ApiError
from functions.worker import backend_errors, backend_response
from functions.worker.backend_errors import BadReply, CallFailed, NotNow
from functions.worker.backend_response import Shape
from functions.worker.stream_assembler import StreamAssembler

CHAT = Shape(operation=Operation.CHAT, reply_id="chatcmpl-1", model="small", created=7)
GOOD: dict[str, Any] = {
    "id": "reused",
    "model": "/path",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


def changed(**more: Any) -> dict[str, Any]:
    return GOOD | more


def choice(**more: Any) -> dict[str, Any]:
    return changed(choices=[GOOD["choices"][0] | more])


def test_a_good_reply_passes_under_our_names() -> None:
    reply, is_estimated = backend_response.check_reply(GOOD, CHAT)
    assert (reply["id"], reply["model"], reply["object"]) == (
        "chatcmpl-1",
        "small",
        "chat.completion",
    )
    assert reply["choices"][0]["message"]["content"] == "hi"
    assert not is_estimated


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html></html>",
        b"plain",
        b'{"choices": [',
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_what_is_not_an_object_is_refused(raw: bytes) -> None:
    with pytest.raises(BadReply):
        backend_response.parse(raw)


def test_sloppy_numbers_and_surrogates_are_made_safe() -> None:
    found = backend_response.parse(
        b'{"a": NaN, "b": -Infinity, "c": 1e999, "d": "x\\ud800y", "e": ["\\udfff"]}'
    )
    assert found == {"a": None, "b": None, "c": None, "d": "x\ufffdy", "e": ["\ufffd"]}


@pytest.mark.parametrize(
    "reply",
    [
        {},
        changed(choices=[]),
        changed(choices=GOOD["choices"] * 2),
        changed(choices="x"),
        changed(choices=["x"]),
        choice(index=1),
        choice(index="0"),
        choice(message=None),
        choice(message={"content": 5}),
        choice(message={"content": None, "tool_calls": "x"}),
        choice(message={"content": None, "tool_calls": [{"function": {}}]}),
        {"error": {"message": "boom", "code": 500}},
    ],
)
def test_what_is_not_the_answer_is_refused(reply: dict[str, Any]) -> None:
    with pytest.raises(BadReply):
        backend_response.check_reply(reply, CHAT)


def test_content_and_tool_calls_both_null_reads_empty() -> None:
    reply, _ = backend_response.check_reply(
        choice(message={"content": None, "tool_calls": None}), CHAT
    )
    message = reply["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "", "refusal": None}


def test_arguments_that_are_not_json_stay_text() -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": "{{{ not json"}}
    reply, _ = backend_response.check_reply(
        choice(message={"content": None, "tool_calls": [call]}), CHAT
    )
    assert (
        reply["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == "{{{ not json"
    )


@pytest.mark.parametrize("reason", [None, "eos", 5, "unknown"])
def test_an_unknown_finish_reason_reads_stop(reason: Any) -> None:
    reply, _ = backend_response.check_reply(choice(finish_reason=reason), CHAT)
    assert reply["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "usage",
    [
        None,
        "x",
        {},
        {"prompt_tokens": -1},
        {"completion_tokens": "5"},
        {"prompt_tokens": 10**18},
        {"prompt_tokens": True},
    ],
)
def test_unbelievable_usage_is_estimated_and_flagged(usage: Any) -> None:
    reply, is_estimated = backend_response.check_reply(changed(usage=usage), CHAT)
    assert is_estimated
    assert all(0 <= n < 10_000 for n in reply["usage"].values())


def test_what_the_server_says_beside_its_answer_is_passed_on() -> None:
    usage = {
        "prompt_tokens": 5,
        "completion_tokens": 7,
        "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": None},
        "prompt_cache_hit_tokens": 4,
    }
    message = {"content": None, "refusal": "no", "reasoning": "hm", "reasoning_content": "so"}
    reply, _ = backend_response.check_reply(
        choice(message=message)
        | {"system_fingerprint": "fp_1", "service_tier": "flex", "usage": usage},
        CHAT,
    )
    assert reply["choices"][0]["message"] == {"role": "assistant", **message}
    assert (reply["system_fingerprint"], reply["service_tier"]) == ("fp_1", "flex")
    assert reply["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 7,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }


def test_what_no_official_client_takes_is_left_out() -> None:
    reply, _ = backend_response.check_reply(
        changed(service_tier="on_demand", system_fingerprint=""), CHAT
    )
    assert not reply.keys() & {"service_tier", "system_fingerprint"}


def test_content_in_parts_is_read_as_text() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "well"}]},
        {"type": "text", "text": "one "},
        {"type": "image_url", "image_url": {"url": "x"}},
        "two",
        {"type": "refusal", "refusal": "no"},
    ]
    reply, _ = backend_response.check_reply(choice(message={"content": parts}), CHAT)
    message = reply["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"], message["refusal"]) == (
        "one two",
        "well",
        "no",
    )


@pytest.mark.parametrize("reason", ["abort", "error", "cancelled", "network_error", "TIMED_OUT"])
def test_half_an_answer_is_none(reason: str) -> None:
    with pytest.raises(CallFailed):
        backend_response.check_reply(choice(finish_reason=reason), CHAT)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("max_tokens", "length"), ("MAX_TOKENS", "length"), ("safety", "content_filter")],
)
def test_finish_reasons_are_said_in_the_words_of_clients(reason: str, expected: str) -> None:
    reply, _ = backend_response.check_reply(choice(finish_reason=reason), CHAT)
    assert reply["choices"][0]["finish_reason"] == expected


@pytest.mark.parametrize(("calls", "expected"), [([], "stop"), (["f", "g"], "tool_calls")])
@pytest.mark.parametrize("reason", ["stop", "tool_calls", None])
def test_the_finish_reason_tells_whether_there_are_tool_calls(
    reason: str | None, calls: list[str], expected: str
) -> None:
    message = {"content": "x", "tool_calls": [{"function": {"name": name}} for name in calls]}
    reply, _ = backend_response.check_reply(choice(message=message, finish_reason=reason), CHAT)
    assert reply["choices"][0]["finish_reason"] == expected


@pytest.mark.parametrize("missing", [{}, {"index": None}])
def test_a_single_choice_or_vector_needs_no_index(missing: dict[str, Any]) -> None:
    bare = {key: value for key, value in GOOD["choices"][0].items() if key != "index"} | missing
    reply, _ = backend_response.check_reply(changed(choices=[bare]), CHAT)
    assert reply["choices"][0]["index"] == 0
    shape = Shape(operation=Operation.EMBEDDINGS, reply_id="e", model="small", created=0)
    vectors, _ = backend_response.check_reply({"data": [{"embedding": [1.0], **missing}]}, shape)
    assert vectors["data"] == [{"object": "embedding", "index": 0, "embedding": [1.0]}]


def test_log_probabilities_have_every_field_that_clients_read() -> None:
    entry = {"token": "a", "logprob": None}
    reply, _ = backend_response.check_reply(choice(logprobs={"content": [entry], "x": 1}), CHAT)
    assert reply["choices"][0]["logprobs"] == {
        "content": [{"token": "a", "logprob": -9999.0, "bytes": None, "top_logprobs": []}],
        "refusal": None,
    }


def test_log_probabilities_of_completions_say_where_each_token_stands() -> None:
    shape = Shape(operation=Operation.COMPLETIONS, reply_id="c", model="small", created=0)
    top = [{"token": "b", "logprob": -2.0}]
    tokens = [{"token": word, "logprob": -1.0, "top_logprobs": top} for word in ("One", " two")]
    found = {"index": 0, "text": "One two", "logprobs": {"content": tokens}}
    reply, _ = backend_response.check_reply({"choices": [found]}, shape)
    assert reply["choices"][0]["logprobs"] == {
        "tokens": ["One", " two"],
        "token_logprobs": [-1.0, -1.0],
        "top_logprobs": [{"b": -2.0}, {"b": -2.0}],
        "text_offset": [0, 3],
    }


def test_embeddings_are_checked_and_ordered() -> None:
    shape = Shape(operation=Operation.EMBEDDINGS, reply_id="e", model="small", created=0, inputs=2)
    data = [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]
    reply, _ = backend_response.check_reply({"data": data}, shape)
    assert [item["embedding"] for item in reply["data"]] == [[1.0], [2.0]]
    for bad in ([], data[:1], [data[0], data[0]], [{"index": 0, "embedding": ["x"]}, data[0]]):
        with pytest.raises(BadReply):
            backend_response.check_reply({"data": bad}, shape)


NAMES = [
    "choices", "index", "message", "delta", "content", "text", "usage", "error", "code", "role", "type", "detail",
    "tool_calls", "function", "custom", "name", "arguments", "id", "function_call", "refusal", "annotations",
    "logprobs", "tokens", "token", "top_logprobs", "bytes", "finish_reason", "data", "embedding", "prompt_tokens",
    "completion_tokens_details", "reasoning", "thinking", "url_citation", "x_groq", "system_fingerprint",
]  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)
    ),
    max_leaves=30,
)


def choices_of(kind: str) -> Any:
    """Replies or chunks that are right down to one choice, and anything in it."""
    inner = st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=5)
    entry = st.fixed_dictionaries(
        {kind: inner}, optional={"logprobs": ANYTHING, "finish_reason": ANYTHING}
    )
    return st.fixed_dictionaries(
        {"choices": st.lists(entry, min_size=1, max_size=1)}, optional={"usage": ANYTHING}
    )


REFUSED = (ApiError, CallFailed, NotNow)


@pytest.mark.parametrize("operation", Operation)
@settings(max_examples=40)
@given(found=ANYTHING | choices_of("message"))
def test_no_reply_crashes_the_check(operation: Operation, found: Any) -> None:
    shape = Shape(operation=operation, reply_id="r", model="small", created=0)
    reply = found if isinstance(found, dict) else {"choices": found, "data": found}
    try:
        checked, _ = backend_response.check_reply(reply, shape)
    except REFUSED:
        return
    json.dumps(checked, allow_nan=False)
    kinds = {
        Operation.CHAT: ChatCompletion,
        Operation.COMPLETIONS: Completion,
        Operation.EMBEDDINGS: CreateEmbeddingResponse,
    }
    if operation is not Operation.EMBEDDINGS:  # vectors may be texts, which the type does not know
        kinds[operation].model_validate(checked, strict=True)


@pytest.mark.parametrize("operation", [Operation.CHAT, Operation.COMPLETIONS])
@settings(max_examples=40)
@given(chunks=st.lists(ANYTHING | choices_of("delta"), max_size=4))
def test_no_chunk_crashes_the_assembler(operation: Operation, chunks: list[Any]) -> None:
    shape = Shape(operation=operation, reply_id="r", model="small", created=0)
    assembler = StreamAssembler(shape, max_bytes=10_000, max_tokens=None, has_usage=True)
    kind = ChatCompletionChunk if operation is Operation.CHAT else None
    try:
        shown = [assembler.add(chunk) for chunk in chunks if isinstance(chunk, dict)]
        shown += assembler.endings()
        whole, _ = assembler.result()
    except REFUSED:
        return
    json.dumps(whole, allow_nan=False)
    for chunk in shown:
        if kind is not None and chunk is not None:
            kind.model_validate(chunk, strict=True)


@settings(max_examples=40)
@given(ANYTHING, st.sampled_from([400, 404, 422, 429, 500, 501, 503]))
def test_no_error_crashes_the_reader_of_errors(body: Any, status: int) -> None:
    assert isinstance(backend_errors.read_status_error(status, {}, body), REFUSED)
    assert isinstance(backend_errors.read_error_object(body), REFUSED)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"error": {"message": "no: http://secret.example/"}}, "invalid_value"),
        (401, {"error": {"message": "the key was secret"}}, "backend_failed"),
        (500, {"error": {"message": "secret: input is too long"}}, "context_length_exceeded"),
        (422, None, "invalid_value"),
        (413, None, "context_length_exceeded"),
        (400, {"error": {"type": "exceed_context_size_error"}}, "context_length_exceeded"),
        (
            400,
            {"error": {"message": "This model's maximum context length is 8"}},
            "context_length_exceeded",
        ),
        (500, {"error": {"message": "input is too large to process"}}, "context_length_exceeded"),
        (401, None, "backend_failed"),
        (404, None, "backend_failed"),
    ],
)
def test_refusals_become_our_codes_without_what_is_secret(
    status: int, body: Any, expected: str
) -> None:
    found = backend_errors.read_status_error(status, {}, body)
    assert isinstance(found, ApiError)
    assert found.code == expected
    assert found.src == "model"
    assert "secret" not in str(found)


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("2", 2.0),
        ("-1", None),
        ("1e20", backend_errors.MAX_WAIT_S),
        ("nan", None),
        ("soon", None),
        (None, None),
    ],
)
def test_not_now_is_waited_for_with_a_bound(header: str | None, wait_s: float | None) -> None:
    headers = {} if header is None else {"retry-after": header}
    for status in (429, 503):
        found = backend_errors.read_status_error(status, headers, None)
        assert isinstance(found, NotNow)
        assert found.wait_s == wait_s


def test_openais_own_header_is_in_milliseconds() -> None:
    headers = {"retry-after-ms": "250", "retry-after": "1"}
    found = backend_errors.read_status_error(429, headers, None)
    assert isinstance(found, NotNow)
    assert found.wait_s == 0.25


def test_a_busy_server_is_called_again_unless_the_caller_has_seen_a_part() -> None:
    busy = {"message": "slow down", "code": 429}
    assert isinstance(backend_errors.read_error_object(busy), NotNow)
    assert isinstance(backend_errors.read_error_object(busy, has_begun=True), CallFailed)


def test_an_account_that_is_used_up_is_not_waited_for() -> None:
    for status, body in ((429, {"error": {"code": "insufficient_quota"}}), (402, None)):
        found = backend_errors.read_status_error(status, {}, body)
        assert isinstance(found, ApiError)
        assert found.code == "backend_failed"


def test_transport_errors_tell_not_begun_from_lost() -> None:
    assert isinstance(backend_errors.read_transport_error(httpx.ConnectError("x")), NotNow)
    assert isinstance(backend_errors.read_transport_error(httpx.PoolTimeout("x")), NotNow)
    for error in (httpx.ReadError("x"), httpx.RemoteProtocolError("x"), httpx.ReadTimeout("x")):
        assert isinstance(backend_errors.read_transport_error(error), CallFailed)
    assert isinstance(backend_errors.read_status_error(500, {}, None), CallFailed)
