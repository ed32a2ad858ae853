"""Tool calls come out apart, with ids and whole arguments, however a server numbers and names them."""

import json
from typing import Any

import pytest

from functions.worker.backend_errors import BadReply
from functions.worker.tool_calls import ToolCalls

OSLO, ROME = '{"city": "Oslo"}', '{"city": "Rome"}'


def piece(name: str | None = None, text: Any = None, **more: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": text}
    return {"function": {k: v for k, v in function.items() if v is not None}, **more}


def joined(shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As every client reads a stream: by index, texts joined."""
    calls: dict[int, dict[str, Any]] = {}
    for part in shown:
        call = calls.setdefault(part["index"], {"id": "", "name": "", "arguments": ""})
        call["id"] += part.get("id", "")
        for name, text in part["function"].items():
            call[name] += text
    return list(calls.values())


TWO = {
    "numbered": [
        [piece("weather", "", index=0, id="a")],
        [piece(text=OSLO, index=0)],
        [piece("time", "", index=1, id="b")],
        [piece(text=ROME, index=1)],
    ],
    "all 0, own ids": [
        [piece("weather", OSLO, index=0, id="a")],
        [piece("time", ROME, index=0, id="b")],
    ],
    "all 0, own ids, in pieces": [
        [piece("weather", "", index=0, id="a")],
        [piece(text=OSLO[:5], index=0)],
        [piece(text=OSLO[5:], index=0)],
        [piece("time", "", index=0, id="b")],
        [piece(text=ROME[:5], index=0)],
        [piece(text=ROME[5:], index=0)],
    ],
    "all 0, own ids, interleaved": [
        [piece("weather", OSLO[:5], index=0, id="a"), piece("time", ROME[:5], index=0, id="b")],
        [piece(text=OSLO[5:], index=0, id="a"), piece(text=ROME[5:], index=0, id="b")],
    ],
    "all 0, no ids": [[piece("weather", OSLO, index=0)], [piece("time", ROME, index=0)]],
    "no numbers": [[piece("weather", OSLO, id="a"), piece("time", ROME, id="b")]],
    "null numbers": [
        [piece("weather", OSLO, index=None, id="a")],
        [piece("time", ROME, index=None, id="b")],
    ],
    "neither": [[piece("weather", OSLO), piece("time", ROME)]],
    "neither, in pieces": [
        [piece("weather", "")],
        [piece(text=OSLO)],
        [piece("time", "")],
        [piece(text=ROME)],
    ],
    "one id for all": [
        [piece("weather", OSLO, index=0, id="x")],
        [piece("time", ROME, index=1, id="x")],
    ],
    "one id for all, no numbers": [[piece("weather", OSLO, id="x"), piece("time", ROME, id="x")]],
    "from 1": [[piece("weather", OSLO, index=1)], [piece("time", ROME, index=2)]],
    "a new id for each piece": [
        [piece("weather", OSLO[:5], index=0, id="a")],
        [piece(text=OSLO[5:], index=0, id="b")],
        [piece("time", ROME[:5], index=1, id="c")],
        [piece(text=ROME[5:], index=1, id="d")],
    ],
    "the name in each piece": [
        [piece("weather", OSLO[:5], index=0)],
        [piece("weather", OSLO[5:], index=0)],
        [piece("weather", "", index=0)],
        [piece("time", ROME[:5], index=1)],
        [piece("time", ROME[5:], index=1)],
    ],
    "the name in parts": [
        [piece("wea", index=0, id="a")],
        [piece("ther", index=0)],
        [piece(text=OSLO, index=0)],
        [piece("time", ROME, index=1, id="b")],
    ],
    "the id first": [
        [piece(index=0, id="a")],
        [piece("weather", OSLO, index=0)],
        [piece("time", ROME, index=1, id="b")],
    ],
    "said again": [
        [piece("weather", OSLO, index=0, id="a"), piece("time", ROME, index=1, id="b")],
        [piece("weather", OSLO, index=0, id="a"), piece("time", ROME, index=1, id="b")],
    ],
    "arguments as objects": [
        [piece("weather", json.loads(OSLO)), piece("time", json.loads(ROME))],
    ],
}


@pytest.mark.parametrize("deltas", TWO.values(), ids=TWO)
def test_two_calls_stay_two(deltas: list[list[dict[str, Any]]]) -> None:
    calls = ToolCalls("chatcmpl-1", 0)
    shown = [part for delta in deltas for part in calls.add(delta)]
    seen = joined(shown)
    assert [call["name"] for call in seen] == ["weather", "time"]
    assert [json.loads(call["arguments"])["city"] for call in seen] == ["Oslo", "Rome"]
    assert len({call["id"] for call in seen} - {""}) == 2
    # What is stored is what was streamed.
    assert [call["function"] | {"id": call["id"]} for call in calls.whole()] == seen


def test_the_same_tool_is_called_twice_without_ids() -> None:
    calls = ToolCalls("chatcmpl-1", 0)
    seen = joined([*calls.add([piece("f", OSLO)]), *calls.add([piece("f", ROME)])])
    assert [call["arguments"] for call in seen] == [OSLO, ROME]


def test_ids_that_are_given_differ_between_answers_and_are_the_same_in_a_replay() -> None:
    def given(reply_id: str, choice: int) -> str:
        (shown,) = ToolCalls(reply_id, choice).add([piece("f", "{}")])
        return str(shown["id"])

    assert given("r1", 0) == given("r1", 0)
    assert len({given("r1", 0), given("r1", 1), given("r2", 0)}) == 3


def test_arguments_that_were_never_said_are_an_empty_object() -> None:
    calls = ToolCalls("chatcmpl-1", 0)
    calls.add([piece("f", "", index=0, id="a")])
    assert calls.closing() == [{"index": 0, "function": {"arguments": "{}"}}]
    assert calls.closing() == []
    assert calls.whole()[0]["function"]["arguments"] == "{}"


def test_a_call_that_comes_as_one_object_is_a_call() -> None:
    calls = ToolCalls("chatcmpl-1", 0)
    calls.add(piece("f", OSLO, index=0, id=""))
    assert [call["function"]["name"] for call in calls.whole()] == ["f"]
    assert calls.whole()[0]["id"].startswith("call_")


def test_a_call_of_a_custom_tool_is_text() -> None:
    calls = ToolCalls("chatcmpl-1", 0)
    calls.add([{"index": 0, "id": "a", "type": "custom", "custom": {"name": "sql", "input": ""}}])
    calls.add([{"index": 0, "custom": {"input": "select 1"}}])
    assert calls.whole() == [
        {"id": "a", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}
    ]


def test_whole_calls_are_never_joined() -> None:
    calls = ToolCalls("chatcmpl-1", 0)
    calls.add_whole([piece("f", OSLO, id="x", index=0), piece("f", OSLO, id="x", index=0)])
    first, second = calls.whole()
    assert first["function"] == second["function"]
    assert first["id"] != second["id"]


@pytest.mark.parametrize(
    "entries",
    ["x", ["x"], [piece("f", index=-1)], [piece("f", index=128)], [{"function": "f"}]],
)
def test_what_is_no_call_is_refused(entries: Any) -> None:
    with pytest.raises(BadReply):
        ToolCalls("chatcmpl-1", 0).add(entries)


def test_a_call_without_a_name_is_refused() -> None:
    calls = ToolCalls("chatcmpl-1", 0)
    calls.add([piece(text="{}", index=0)])
    with pytest.raises(BadReply):
        calls.whole()


def test_endless_calls_are_refused() -> None:
    calls = ToolCalls("chatcmpl-1", 0)
    with pytest.raises(BadReply):
        calls.add([piece("f", "{}")] * 200)


@pytest.mark.parametrize("way", TWO.values(), ids=TWO.keys())
def test_who_wants_one_call_gets_the_first_whatever_the_server_does(
    way: list[list[dict[str, Any]]],
) -> None:
    calls = ToolCalls("chatcmpl-1", 0, 1)
    shown = [part for entries in way for part in calls.add(entries)]
    assert [call["name"] for call in joined(shown)] == ["weather"]
    assert calls.closing() == []
    assert [call["function"]["name"] for call in calls.whole()] == ["weather"]
    whole = ToolCalls("chatcmpl-1", 0, 1)
    whole.add_whole([piece("weather", OSLO), piece("time", ROME)])
    assert [call["function"]["arguments"] for call in whole.whole()] == [OSLO]
