"""Chunks become what the client sees and, together, the whole object."""

from typing import Any

import pytest

from events.types import Operation
from functions.errors import ApiError
from functions.worker.assembling import Assembler
from functions.worker.failures import BadReply
from functions.worker.replies import Shape


def shape(operation: Operation = Operation.CHAT, choices: int = 1) -> Shape:
    return Shape(
        operation=operation, reply_id="chatcmpl-1", model="small", created=7, choices=choices
    )


def assembler(found: Shape | None = None, **more: Any) -> Assembler:
    options: dict[str, Any] = {"max_bytes": 1000, "max_tokens": None, "has_usage": False}
    return Assembler(found or shape(), **(options | more))


def delta(
    content: str | None = None, index: int = 0, reason: str | None = None, **more: Any
) -> Any:
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
            "message": {"role": "assistant", "content": "Hello"},
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


def test_usage_reaches_the_client_only_when_asked_for() -> None:
    usage = {
        "choices": [],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
    silent, told = assembler(), assembler(has_usage=True)
    assert silent.add(usage) is None
    shown = told.add(usage)
    assert shown is not None
    assert shown["choices"] == []
    assert shown["usage"]["total_tokens"] == 3
    for found in (silent, told):
        found.add(delta("x", reason="stop"))
        assert found.result()[0]["usage"]["total_tokens"] == 3


def test_an_endless_reply_is_cut_and_says_so() -> None:
    found = assembler(max_bytes=50)
    while not found.is_cut:
        found.add(delta("again "))
    closing = found.closing()
    assert closing is not None
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
    closing = found.closing()
    assert closing is not None
    assert closing["choices"][0]["finish_reason"] == "stop"
    assert found.closing() is None


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
        {},
        {"choices": None},
        {"choices": [{}]},
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
