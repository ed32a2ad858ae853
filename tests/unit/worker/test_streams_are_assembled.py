"""Chunks become what the client sees and, together, the whole object."""

from typing import Any

import pytest

from events.names import Operation
from functions.runtime.errors import ApiError
from functions.worker.backend_errors import BadReply, CallFailed
from functions.worker.backend_response import Shape
from functions.worker.stream_assembler import StreamAssembler


def shape(operation: Operation = Operation.CHAT, choices: int = 1) -> Shape:
    return Shape(
        operation=operation, reply_id="chatcmpl-1", model="small", created=7, choices=choices
    )


def assembler(found: Shape | None = None, **more: Any) -> StreamAssembler:
    options: dict[str, Any] = {"max_bytes": 1000, "max_tokens": None, "has_usage": False}
    return StreamAssembler(found or shape(), **(options | more))


def delta(content: Any = None, index: int = 0, reason: str | None = None, **more: Any) -> Any:
    said = more if content is None else {"content": content, **more}
    return {
        "model": "/secret/path",
        "choices": [{"index": index, "delta": said, "finish_reason": reason}],
    }


def test_text_is_joined_and_names_are_ours() -> None:
    found = assembler()
    shown = [
        found.add(delta("Hel", role="assistant")),
        found.add(delta("lo")),
        found.add(delta(reason="stop")),
    ]
    assert [chunk["model"] for chunk in shown if chunk] == ["small"] * 3
    assert {chunk["id"] for chunk in shown if chunk} == {"chatcmpl-1"}
    reply, is_estimated = found.result()
    assert reply["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert is_estimated
    assert reply["usage"]["completion_tokens"] == 2


def test_choices_are_kept_apart() -> None:
    found = assembler(shape(choices=2))
    for index, text in ((1, "b"), (0, "a"), (1, "d"), (0, "c")):
        found.add(delta(text, index))
    for index in (0, 1):
        found.add(delta(index=index, reason="stop"))
    reply, _ = found.result()
    assert [choice["message"]["content"] for choice in reply["choices"]] == ["ac", "bd"]


def test_tool_calls_are_assembled_from_their_pieces() -> None:
    found = assembler()
    first = {
        "index": 0,
        "id": "call_x",
        "type": "function",
        "function": {"name": "f", "arguments": ""},
    }
    found.add(delta(tool_calls=[first]))
    found.add(delta(tool_calls=[{"index": 0, "function": {"arguments": '{"a"'}}]))
    found.add(delta(tool_calls=[{"index": 0, "function": {"arguments": ": 1}"}}]))
    found.add(delta(reason="tool_calls"))
    message = found.result()[0]["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "call_x", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    ]


def test_logprobs_are_joined() -> None:
    found = assembler()
    for token in "ab":
        chunk = delta(token)
        chunk["choices"][0]["logprobs"] = {"content": [{"token": token, "logprob": -1}]}
        found.add(chunk)
    found.add(delta(reason="stop"))
    logprobs = found.result()[0]["choices"][0]["logprobs"]
    assert [entry["token"] for entry in logprobs["content"]] == ["a", "b"]
    assert logprobs["refusal"] is None


def test_usage_reaches_the_client_only_when_asked_for() -> None:
    usage = {
        "choices": [],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
    silent, told = assembler(), assembler(has_usage=True)
    for found in (silent, told):
        assert found.add(usage) is None
        found.add(delta("x", reason="stop"))
        assert found.result()[0]["usage"]["total_tokens"] == 3
    assert silent.endings() == []
    (owed,) = told.endings()
    assert owed["choices"] == []
    assert owed["usage"]["total_tokens"] == 3


def counted(tokens: int) -> dict[str, Any]:
    return {"usage": {"prompt_tokens": 2, "completion_tokens": tokens}}


@pytest.mark.parametrize(
    "chunks",
    [
        [delta("a"), delta("b"), delta(reason="stop") | counted(2)],
        [delta("a") | counted(1), delta("b") | counted(2), delta(reason="stop") | counted(2)],
        [delta("a"), delta("b"), delta(reason="stop"), counted(2)],
        [delta("a"), delta("b"), delta(reason="stop"), {"choices": [], **counted(2)}],
        [delta("a"), delta("b"), {"choices": None, **counted(2)}, delta(reason="stop")],
        [delta("a"), delta("b"), delta(reason="stop"), {"x_groq": counted(2)}],
    ],
    ids=["last", "each", "bare", "own", "null", "groq"],
)
def test_usage_is_given_out_once_wherever_it_was_said(chunks: list[dict[str, Any]]) -> None:
    found = assembler(has_usage=True)
    shown = [chunk for chunk in map(found.add, chunks) if chunk]
    assert [chunk["usage"] for chunk in shown] == [None] * 3
    (owed,) = found.endings()
    assert (owed["choices"], owed["usage"]["total_tokens"]) == ([], 4)
    assert found.result()[0]["usage"] == owed["usage"]


def test_usage_that_was_asked_for_and_never_said_is_estimated() -> None:
    found = assembler(has_usage=True)
    found.add(delta("a", reason="stop"))
    assert found.endings()[0]["usage"]["completion_tokens"] == 1
    assert found.result()[1]


@pytest.mark.parametrize("role", [{}, {"role": None}, {"role": "assistant"}, {"role": "model"}])
def test_the_role_is_said_once(role: dict[str, Any]) -> None:
    found = assembler()
    shown = [found.add(delta(text, **role)) for text in "abc"]
    shown.append(found.add(delta(reason="stop", **role)))
    deltas = [chunk["choices"][0]["delta"] for chunk in shown if chunk]
    assert deltas == [
        {"role": "assistant", "content": "a"},
        {"content": "b"},
        {"content": "c"},
        {},
    ]


def test_fields_that_are_null_are_no_fields() -> None:
    found = assembler()
    found.add(delta("a"))
    nulls = {"content": None, "reasoning_content": None, "tool_calls": None, "function_call": None}
    assert found.add(delta(**nulls)) is None
    last = found.add(delta(reason="stop", **nulls))
    assert last is not None
    assert last["choices"][0]["delta"] == {}


@pytest.mark.parametrize("reason", ["abort", "error", "cancelled"])
def test_a_server_that_gives_up_has_not_answered(reason: str) -> None:
    found = assembler()
    found.add(delta("half an ans"))
    with pytest.raises(CallFailed):
        found.add(delta(reason=reason))


def test_an_empty_finish_reason_is_none() -> None:
    found = assembler()
    for text in "ab":
        found.add(delta(text, reason=""))
    assert not found.is_complete
    found.add(delta(reason="stop"))
    assert found.is_complete
    assert found.result()[0]["choices"][0]["message"]["content"] == "ab"


@pytest.mark.parametrize("chunk", [{}, {"choices": None}, {"choices": []}, {"choices": [{}]}])
def test_chunks_that_say_nothing_are_skipped(chunk: dict[str, Any]) -> None:
    found = assembler()
    found.add(delta("a"))
    assert found.add(chunk) is None
    found.add(delta("b", reason="stop"))
    assert found.result()[0]["choices"][0]["message"]["content"] == "ab"


@pytest.mark.parametrize("index", [{}, {"index": None}])
def test_choices_without_an_index_come_in_order(index: dict[str, Any]) -> None:
    found = assembler(shape(choices=2))
    for texts in (("a", "b"), ("c", "d")):
        found.add({"choices": [{"delta": {"content": text}, **index} for text in texts]})
    found.add({"choices": [{"delta": {}, "finish_reason": "stop", **index}] * 2})
    said = [choice["message"]["content"] for choice in found.result()[0]["choices"]]
    assert said == ["ac", "bd"]


def test_what_the_server_says_of_itself_is_in_every_later_chunk_and_in_the_whole() -> None:
    found = assembler(has_usage=True)
    first = found.add(delta("a") | {"system_fingerprint": "fp_1", "service_tier": "default"})
    assert first is not None
    found.add(delta(reason="stop"))
    for said in (first, found.endings()[0], found.result()[0]):
        assert (said["system_fingerprint"], said["service_tier"]) == ("fp_1", "default")


def test_thinking_and_refusals_are_assembled_like_text() -> None:
    found = assembler()
    for name in ("reasoning_content", "reasoning", "refusal"):
        for text in ("x", "y"):
            found.add(delta(**{name: text}))
    found.add(delta([{"type": "text", "text": "z"}], reason="stop"))
    message = found.result()[0]["choices"][0]["message"]
    said = {name: message[name] for name in ("reasoning_content", "reasoning", "refusal")}
    assert set(said.values()) == {"xy"}
    assert message["content"] == "z"


def test_the_older_form_of_a_call_is_assembled() -> None:
    found = assembler()
    found.add(delta(function_call={"name": "f", "arguments": ""}))
    found.add(delta(function_call={"arguments": "{}"}))
    found.add(delta(reason="function_call"))
    chosen = found.result()[0]["choices"][0]
    assert chosen["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert (chosen["message"]["content"], chosen["finish_reason"]) == (None, "function_call")


def test_an_endless_reply_is_cut_and_says_so() -> None:
    found = assembler(max_bytes=50)
    while not found.is_cut:
        found.add(delta("again "))
    (closing,) = found.endings()
    assert closing["choices"][0]["finish_reason"] == "length"
    assert found.result()[0]["choices"][0]["finish_reason"] == "length"


def test_a_server_that_ignores_the_token_limit_is_cut() -> None:
    found = assembler(max_tokens=4)
    count = 0
    while not found.is_cut:
        found.add(delta("x"))
        count += 1
    assert count == 4 + 8 + 1


def test_a_missing_finish_reason_reads_stop() -> None:
    found = assembler()
    found.add(delta("x"))
    (closing,) = found.endings()
    assert closing["choices"][0]["finish_reason"] == "stop"
    assert found.endings() == []


def test_nothing_counts_after_the_end_of_a_choice() -> None:
    found = assembler()
    found.add(delta("x", reason="stop"))
    assert found.add(delta("y", reason="length")) is None
    assert found.result()[0]["choices"][0]["message"]["content"] == "x"
    assert found.result()[0]["choices"][0]["finish_reason"] == "stop"


def test_text_that_looks_like_a_frame_stays_text() -> None:
    found = assembler()
    evil = "data: [DONE]\n\nce_type: x\r\n\u2028\x1b[31m\x00"
    found.add(delta(evil, reason="stop"))
    assert found.result()[0]["choices"][0]["message"]["content"] == evil


def test_an_error_in_the_stream_ends_it() -> None:
    with pytest.raises(BadReply):
        assembler().add({"error": {"message": "secret", "code": 500}})
    with pytest.raises(ApiError) as refused:
        assembler().add({"error": {"message": "maximum context length is 5", "code": 400}})
    assert refused.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": {}},
        {"choices": [{"index": 1, "delta": {}}]},
        {"choices": [{"index": -1, "delta": {}}]},
        {"choices": [{"index": True, "delta": {}}]},
        {"choices": [{"index": 0, "delta": []}]},
        {"choices": [{"index": 0, "delta": {"content": 5}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": {}}}] * 1 + ["x"]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 10_000}]}}]},
    ],
)
def test_what_is_no_chunk_is_refused(chunk: Any) -> None:
    with pytest.raises(BadReply):
        assembler().add(chunk)


def test_a_stream_that_says_nothing_is_no_answer() -> None:
    with pytest.raises(BadReply):
        assembler().result()


def test_completions_are_text() -> None:
    found = assembler(shape(Operation.COMPLETIONS))
    for text, reason in (("Once ", None), ("upon", None), ("", "length")):
        found.add({"choices": [{"index": 0, "text": text, "finish_reason": reason}]})
    reply, _ = found.result()
    assert reply["object"] == "text_completion"
    assert reply["choices"][0]["text"] == "Once upon"
