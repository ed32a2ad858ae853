"""What a response gave out, and OpenAI's own items, go in again: a turn of the assistant is one message."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from openai.types.responses import Response, ResponseItemList

from events import builders
from events.event import Outgoing
from events.names import Topics
from events.payloads import PickspinData
from events.requests import InferenceRequest
from functions.ingress.responses_input import to_chat
from functions.runtime.errors import ApiError
from functions.runtime.settings import IngressSettings, Settings

pytestmark = pytest.mark.anyio

TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
USER = {"role": "user", "content": "q"}


def says(message: dict[str, Any], finish: str = "stop", **more: Any) -> Any:
    """A worker's script: this message is the answer to everything."""

    def script(worker: Any, request: InferenceRequest) -> Sequence[Outgoing]:
        usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
        choice = {
            "index": 0,
            "message": {"role": "assistant", **message},
            "finish_reason": finish,
            "logprobs": more.get("logprobs"),
        }
        answer = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "smol",
            "choices": [choice],
            "usage": usage | more.get("usage", {}),
        }
        event = builders.build_completed(
            request.origin,
            answer,
            PickspinData(request_id=request.request_id, state="completed"),
            source="/models/smol",
            generation="g1",
            now=worker.clock.now(),
        )
        return (
            *worker.progress(request),
            *builders.terminal_outgoing(event, topics=Topics(), reply=request.reply),
        )

    return script


def call(n: int, name: str = "weather") -> dict[str, Any]:
    return {"type": "function_call", "call_id": f"c{n}", "name": name, "arguments": "{}"}


def output(n: int, found: object = "sun") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": f"c{n}", "output": found}


def said(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": list(parts)}


def text(words: str) -> dict[str, Any]:
    return {"type": "output_text", "text": words, "annotations": [], "logprobs": []}


def messages(*items: object) -> Any:
    return to_chat({"input": list(items)}).chat["messages"]


def sent(rig: Any) -> list[dict[str, Any]]:
    """The messages of the newest request on the log."""
    found: list[dict[str, Any]] = json.loads(rig.worker.seen[-1].data)["messages"]
    return found


def roles(found: list[dict[str, Any]]) -> list[str]:
    return [message["role"] for message in found]


async def test_calls_of_one_turn_are_one_message_and_those_of_two_turns_are_two() -> None:
    found = messages(USER, call(1), call(2), output(1), output(2), call(3), output(3))
    assert roles(found) == ["user", "assistant", "tool", "tool", "assistant", "tool"]
    assert [c["id"] for c in found[1]["tool_calls"]] == ["c1", "c2"]
    assert [c["id"] for c in found[4]["tool_calls"]] == ["c3"]
    assert found[1]["content"] is None


async def test_text_and_calls_of_one_turn_are_one_message_whichever_comes_first() -> None:
    for turn in ([said(text("look")), call(1)], [call(1), said(text("look"))]):
        found = messages(USER, *turn, output(1))
        assert roles(found) == ["user", "assistant", "tool"]
        assert found[1]["content"] == "look"
        assert len(found[1]["tool_calls"]) == 1


async def test_two_texts_of_one_turn_stay_two_parts() -> None:
    found = messages(USER, said(text("a")), said(text("b")), USER)
    assert roles(found) == ["user", "assistant", "user"]
    assert found[1]["content"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]


async def test_a_refusal_is_what_the_assistant_said() -> None:
    found = messages(USER, said({"type": "refusal", "refusal": "no"}), USER)
    assert found[1] == {"role": "assistant", "content": "no"}


async def test_readable_thoughts_go_back_and_others_leave_no_message() -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": []}
    open_thought = {**thought, "content": [{"type": "reasoning_text", "text": "hm"}]}
    found = messages(USER, open_thought, call(1), output(1), thought, USER)
    assert roles(found) == ["user", "assistant", "tool", "user"]
    assert found[1]["reasoning_content"] == "hm"


async def test_outputs_of_tools_may_be_parts() -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"}
    one = {"type": "input_text", "text": "sunny"}
    found = messages(USER, call(1), call(2), output(1, [one]), output(2, [one, picture]))
    assert found[2]["content"] == "sunny"
    assert found[3]["content"] == [
        {"type": "text", "text": "sunny"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}},
    ]


@pytest.mark.parametrize(
    ("items", "param"),
    [
        ([USER, call(1), output(1, [{"type": "computer_screenshot"}])], "input[2].output[0].type"),
        ([USER, call(1), output(1, [{"type": {}}])], "input[2].output[0].type"),
        ([USER, call(1), output(1, 5)], "input[2].output"),
        ([USER, {"type": "web_search_call", "id": "ws_1"}], "input[1].type"),
        ([USER, {"type": []}], "input[1].type"),
        ([USER, said({"type": "refusal"})], "input[1].content[0].refusal"),
        ([USER, said({"type": ["refusal"]})], "input[1].content[0].type"),
        ([USER, {"type": "reasoning", "content": [{"type": []}]}], "input[1].content[0].type"),
        ([{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}],
         "input[0].content[0].file_id"),
        # What the checks of a chat body find is named as the caller wrote it, too.
        ([USER, call(1), {**call(2), "arguments": None}, output(1)], "input[2].arguments"),
        ([USER, call(1), {**call(2), "name": "a b"}, output(1)], "input[2].name"),
        ([USER, call(1), {"type": "function_call_output", "call_id": 5, "output": "x"}],
         "input[2].call_id"),
        ([USER, call(1), output(1), {"role": "owner", "content": "x"}], "input[3].role"),
        ([call(1), output(1), {"role": "user", "content": None}], "input[2].content"),
        ([call(1), output(1), {"role": "user", "content": [
            {"type": "input_image", "image_url": "http://example.org/x.png"}]}],
         "input[2].content[0].image_url"),
        ([call(1), output(1, [{"type": "input_image", "image_url": "http://example.org/x.png"}])],
         "input[1].output[0].image_url"),
    ],
)  # fmt: skip
async def test_a_refusal_names_the_path_that_the_caller_wrote(
    rig: Any, items: list[object], param: str
) -> None:
    async with rig.client() as client:
        answer = await client.post("/v1/responses", json={"input": items})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert "messages" not in error["message"]
    assert rig.events_on("infer.requests") == []


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("max_output_tokens", 0, "max_output_tokens"),
        ("tools", [TOOL, {**TOOL, "name": "a b"}], "tools[1].name"),
        ("tool_choice", {"type": "function", "name": "a b"}, "tool_choice.name"),
        ("text", {"format": {"type": "json_schema", "name": "a b"}}, "text.format.name"),
        ("instructions", 5, "instructions"),
    ],
)
async def test_so_does_a_refusal_of_a_field(
    rig: Any, field: str, value: object, param: str
) -> None:
    async with rig.client() as client:
        answer = await client.post("/v1/responses", json={"input": "x", field: value})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


async def test_a_model_servers_error_names_the_callers_path_and_keeps_its_words(rig: Any) -> None:
    def script(worker: Any, request: InferenceRequest) -> Sequence[Outgoing]:
        error = ApiError("invalid_value", "content is too odd", param="messages.[2].content")
        failure = builders.Failure(
            code=error.code,
            message=error.message,
            type=error.row.type,
            status=400,
            param=error.param,
        )
        event = builders.build_failed(request.origin, failure, source="/m", now=worker.clock.now())
        return builders.terminal_outgoing(event, topics=Topics(), reply=request.reply)

    rig.worker.script = script
    items = [USER, call(1), call(2), output(1), output(2)]
    async with rig.client() as client:
        answer = await client.post("/v1/responses", json={"input": items})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "input[3].output"
    assert answer.json()["error"]["message"] == "content is too odd"


async def test_every_item_that_a_response_gave_out_goes_in_again(rig: Any) -> None:
    calls = [
        {"id": f"c{n}", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        for n in (1, 2)
    ]
    rig.worker.script = says(
        {"content": "look", "reasoning_content": "hm", "tool_calls": calls}, "tool_calls"
    )
    async with rig.client() as client:
        first = (await client.post("/v1/responses", json={"input": "q", "tools": [TOOL]})).json()
        Response.model_validate(first, strict=True)
        assert [item["type"] for item in first["output"]] == [
            "reasoning",
            "message",
            "function_call",
            "function_call",
        ]
        whole = [USER, *first["output"], output(1), output(2)]
        named = [{"type": "item_reference", "id": item["id"]} for item in first["output"]]
        bare = [{"id": item["id"]} for item in first["output"]]
        for history in (
            whole,
            [USER, *named, output(1), output(2)],
            [USER, *bare, output(1), output(2)],
        ):
            answer = await client.post("/v1/responses", json={"input": history, "tools": [TOOL]})
            assert answer.status_code == 200, answer.text
            found = sent(rig)
            assert roles(found) == ["user", "assistant", "tool", "tool"]
            assert found[1] == {
                "role": "assistant",
                "content": "look",
                "reasoning_content": "hm",
                "tool_calls": calls,
            }


@pytest.mark.parametrize("why", ["not kept", "deleted", "unknown", "another's", "none of ours"])
async def test_a_reference_to_what_is_not_there_is_refused_by_its_path(rig: Any, why: str) -> None:
    async with rig.client() as client:
        store = {"store": False} if why == "not kept" else {}
        first = (await client.post("/v1/responses", json={"input": "q", **store})).json()
        item_id = first["output"][0]["id"]
        if why == "deleted":
            await client.delete(f"/v1/responses/{first['id']}")
        elif why == "unknown":
            item_id = "msg_0123456789"
        elif why == "none of ours":
            item_id = "ws_1"
        elif why == "another's":
            row = rig.deps.store.request(first["id"])
            assert row is not None
            item_id = f"msg_{'0' * 32}"
            rig.deps.store.accept(
                type(row)(
                    **{f: getattr(row, f) for f in row.__slots__}
                    | {"id": f"req_{'0' * 32}", "tenant": "somebody"}
                )
            )
        items = [USER, {"type": "item_reference", "id": item_id}, USER]
        answer = await client.post("/v1/responses", json={"input": items})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == "input[1].id"
    assert "no longer kept" in answer.json()["error"]["message"]


async def test_an_item_is_referred_to_once(rig: Any) -> None:
    async with rig.client() as client:
        first = (await client.post("/v1/responses", json={"input": "q"})).json()
        named = {"type": "item_reference", "id": first["output"][0]["id"]}
        count = len(rig.events_on("infer.requests"))
        answer = await client.post("/v1/responses", json={"input": [named, USER, named]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input[2].id")
    assert len(rig.events_on("infer.requests")) == count


async def test_references_do_not_make_a_small_body_a_huge_one(rig: Any) -> None:
    few = Settings(ingress=IngressSettings(max_body_bytes=4000))
    rig.deps = replace(rig.deps, settings=few)
    rig.worker.script = says({"content": "x" * 1500})
    async with rig.client() as client:
        made = [(await client.post("/v1/responses", json={"input": "q"})).json() for _ in range(3)]
        named = [{"type": "item_reference", "id": one["output"][0]["id"]} for one in made]
        fits = await client.post("/v1/responses", json={"input": [*named[:2], USER]})
        answer = await client.post("/v1/responses", json={"input": [*named, USER]})
    assert fits.status_code == 200, fits.text
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (413, "request_too_large")
    assert error["param"] == "input[2].id"


async def test_the_input_items_of_a_response_come_in_pages(rig: Any) -> None:
    items = [
        USER,
        said(text("look")),
        call(1),
        call(2),
        output(1),
        output(2, [{"type": "input_text", "text": "a"}]),
    ]
    async with rig.client() as client:
        first = (
            await client.post("/v1/responses", json={"input": items, "instructions": "be brief"})
        ).json()
        path = f"/v1/responses/{first['id']}/input_items"
        whole = (await client.get(path, params={"order": "asc"})).json()
        ResponseItemList.model_validate(whole, strict=True)
        assert [item["type"] for item in whole["data"]] == [
            "message",
            "message",
            "function_call",
            "function_call",
            "function_call_output",
            "function_call_output",
        ]
        assert whole["data"][0]["content"] == [{"type": "input_text", "text": "q"}]
        assert whole["data"][1]["role"] == "assistant"
        assert whole["data"][5]["output"] == "a"
        assert whole["has_more"] is False
        ids: list[str] = []
        page: dict[str, Any] = {"has_more": True}
        for _ in range(4):
            after = {"after": ids[-1]} if ids else {}
            page = (await client.get(path, params={"limit": 2, **after})).json()
            ids += [item["id"] for item in page["data"]]
            if not page["has_more"]:
                break
        assert ids == [item["id"] for item in reversed(whole["data"])]
        again = await client.post("/v1/responses", json={"input": whole["data"]})
        assert again.status_code == 200, again.text
        assert roles(sent(rig)) == ["user", "assistant", "tool", "tool"]


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "order=up", "after=msg_1", "before=msg_1"])
async def test_a_page_that_cannot_be_is_refused(rig: Any, query: str) -> None:
    async with rig.client() as client:
        first = (await client.post("/v1/responses", json={"input": "q"})).json()
        answer = await client.get(f"/v1/responses/{first['id']}/input_items?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == query.partition("=")[0]


async def test_input_that_is_not_kept_is_gone(rig: Any, ended: Any) -> None:
    async with rig.client() as client:
        body = {"input": "q", "background": True, "store": False}
        first = (await client.post("/v1/responses", json=body)).json()

        async def items() -> Any:
            return await client.get(f"/v1/responses/{first['id']}/input_items")

        await ended(client, f"/v1/requests/{first['id']}")
        answer = await items()
    assert answer.status_code in {404, 410}
    assert answer.json()["error"]["code"] in {"not_found", "request_gone"}


async def test_tokens_are_counted_by_the_model_server(rig: Any) -> None:
    async with rig.client() as client:
        answer = await client.post("/v1/responses/input_tokens", json={"input": "q"})
        assert answer.json() == {"object": "response.input_tokens", "input_tokens": 3}
        body = json.loads(rig.worker.seen[-1].data)
        assert body["max_tokens"] == 1
        rig.worker.script = says({"content": "x"}, usage={"prompt_tokens": 0})
        answer = await client.post("/v1/responses/input_tokens", json={"input": "q"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "capability_missing"


@pytest.mark.parametrize(
    ("finish", "reason"),
    [("length", "max_output_tokens"), ("content_filter", "content_filter")],
)
async def test_an_answer_that_is_not_whole_says_why(rig: Any, finish: str, reason: str) -> None:
    rig.worker.script = says({"content": "half"}, finish)
    async with rig.client() as client:
        body = (await client.post("/v1/responses", json={"input": "q"})).json()
    Response.model_validate(body, strict=True)
    assert body["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": reason}
    assert body["output"][0]["status"] == "incomplete"


async def test_what_the_server_says_of_its_tokens_refusals_and_chances_is_passed_on(
    rig: Any,
) -> None:
    usage = {
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    top = [{"token": "n", "bytes": [110], "logprob": -0.1}]
    entry = {"token": "n", "bytes": None, "logprob": -0.1, "top_logprobs": top}
    rig.worker.script = says(
        {"content": "n", "refusal": "I will not"}, usage=usage, logprobs={"content": [entry]}
    )
    async with rig.client() as client:
        call = {"input": "q", "include": ["message.output_text.logprobs"]}
        body = (await client.post("/v1/responses", json=call)).json()
    assert json.loads(rig.worker.seen[-1].data)["logprobs"] is True
    assert body["usage"]["input_tokens_details"]["cached_tokens"] == 2
    assert body["usage"]["output_tokens_details"]["reasoning_tokens"] == 1
    said_text, refusal = body["output"][0]["content"]
    assert said_text["logprobs"] == [{**entry, "bytes": []}]
    assert refusal == {"type": "refusal", "refusal": "I will not"}


async def test_effort_and_verbosity_go_on_and_are_repeated(rig: Any) -> None:
    async with rig.client() as client:
        call = {"input": "q", "reasoning": {"effort": "low"}, "text": {"verbosity": "low"}}
        body = (await client.post("/v1/responses", json=call)).json()
    Response.model_validate(body, strict=True)
    chat = json.loads(rig.worker.seen[-1].data)
    assert chat["reasoning_effort"] == "low"
    assert chat["verbosity"] == "low"
    assert body["reasoning"]["effort"] == "low"
    assert body["text"] == {"format": {"type": "text"}, "verbosity": "low"}
