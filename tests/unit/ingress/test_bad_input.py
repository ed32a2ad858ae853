"""Bad input at the HTTP doors: each row is refused in OpenAI's shape, costs nothing, and never reaches the log.

The names H1, H2 ... are the rows of the bad-input catalogue.
"""

import asyncio
import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from functions.ingress.api_keys import ApiKeys

pytestmark = pytest.mark.anyio
JSON = {"content-type": "application/json"}
CHAT = "/v1/chat/completions"
MESSAGES = b'"messages":[{"role":"user","content":"hi"}]'


def assert_refused(rig: Any, answer: httpx.Response, status: int, code: str | None = None) -> None:
    """OpenAI's shape, a request id, nothing on the log, nothing open."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "code", "param", "src", "request_id"}
    assert error["src"] == "gateway"
    assert error["request_id"] == answer.headers["x-pickspin-request-id"]
    assert "Traceback" not in answer.text
    if code is not None:
        assert error["code"] == code
    assert rig.events_on("infer.requests") == []
    assert len(rig.deps.waiters) == 0


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="H1-empty"),
        pytest.param(b"null", id="H2-null"),
        pytest.param(b"5", id="H2-number"),
        pytest.param(b'"x"', id="H2-text"),
        pytest.param(b"[]", id="H2-list"),
        pytest.param(b'{"model":"smol",' + MESSAGES, id="H3-truncated"),
        pytest.param(b'{"model":"smol",' + MESSAGES + b"}x", id="H4-trailing"),
        pytest.param(b'{"model":"smol","temperature":NaN,' + MESSAGES + b"}", id="H5-nan"),
        pytest.param(
            b'{"model":"smol","temperature":Infinity,' + MESSAGES + b"}", id="H5-infinity"
        ),
        pytest.param(b'{"model":"smol","temperature":1e400,' + MESSAGES + b"}", id="H5-1e400"),
        pytest.param(b'{"model":"smol","model":"big",' + MESSAGES + b"}", id="H6-duplicate-key"),
        pytest.param(
            b'{"model":"smol","x":' + b"[" * 2000 + b"]" * 2000 + b"," + MESSAGES + b"}",
            id="H7-deep",
        ),
        pytest.param(
            b'{"model":"smol","seed":' + b"9" * 5000 + b"," + MESSAGES + b"}", id="H8-digits"
        ),
        pytest.param(b'{"model":"smol","x":"\xff",' + MESSAGES + b"}", id="H9-utf8"),
        pytest.param('{"model":"smol","messages":[]}'.encode("utf-16"), id="H10-utf16"),
        pytest.param(b"\xef\xbb\xbf{" + MESSAGES + b"}", id="H10-bom"),
        pytest.param(
            b'{"model":"smol","messages":[{"role":"user","content":"\\ud800"}]}', id="H11-surrogate"
        ),
        pytest.param(b'{"model":"sm\\u0000ol",' + MESSAGES + b"}", id="H12-nul-in-model"),
        pytest.param(b'{"model":"",' + MESSAGES + b"}", id="H12-empty-model"),
        pytest.param(b'{"model":5,' + MESSAGES + b"}", id="H12-model-type"),
    ],
)
async def test_a_broken_body_is_400(rig: Any, raw: bytes) -> None:
    async with rig.client() as client:
        answer = await client.post(CHAT, content=raw, headers=JSON)
    assert_refused(rig, answer, 400)


async def test_control_characters_in_content_are_kept_and_escaped(rig: Any) -> None:
    """H12: content is the model's business."""
    raw = b'{"model":"smol","messages":[{"role":"user","content":"a\\u0000\\u001b[31m\\u2028b"}]}'
    async with rig.client() as client:
        answer = await client.post(CHAT, content=raw, headers=JSON)
    assert answer.status_code == 200
    assert rig.events_on("infer.requests")[0].data == raw


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"content-type": "text/plain"}, id="H13-plain"),
        pytest.param({"content-type": ""}, id="H13-empty"),
        pytest.param({}, id="H13-missing"),
        pytest.param({"content-type": "application/json; charset=latin-1"}, id="H14-latin-1"),
        pytest.param({"content-type": "application/json; charset=utf-16"}, id="H14-utf-16"),
        pytest.param(JSON | {"content-encoding": "gzip"}, id="H15-gzip"),
        pytest.param(JSON | {"content-encoding": "snappy"}, id="H15-unknown"),
    ],
)
async def test_another_media_type_is_415(rig: Any, headers: dict[str, str]) -> None:
    async with rig.client() as client:
        answer = await client.post(CHAT, content=b"{" + MESSAGES + b"}", headers=headers)
    assert_refused(rig, answer, 415, "unsupported_media_type")


async def test_utf_8_may_be_named(rig: Any) -> None:
    async with rig.client() as client:
        for content_type in ("application/json; charset=UTF-8", 'Application/JSON;charset="utf-8"'):
            answer = await client.post(
                CHAT, content=b"{" + MESSAGES + b"}", headers={"content-type": content_type}
            )
            assert answer.status_code == 200


async def test_a_body_over_the_limit_is_413(rig: Any, chat: Any) -> None:
    """H16: the declared length is enough to refuse it."""
    rig.configure(max_body_bytes=700_000)
    chat["messages"][0]["content"] = "x" * 800_000
    async with rig.client() as client:
        answer = await client.post(CHAT, json=chat)
    assert_refused(rig, answer, 413, "request_too_large")
    assert answer.headers["connection"] == "close"


async def test_a_body_over_the_limit_without_a_length_is_413_too(rig: Any) -> None:
    """H17."""
    rig.configure(max_body_bytes=700_000)

    async def parts() -> Any:
        for _ in range(100):
            yield b" " * 10_000

    async with rig.client() as client:
        answer = await client.post(CHAT, content=parts(), headers=JSON)
    assert_refused(rig, answer, 413, "request_too_large")


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({f"x-{n}": "1" for n in range(200)}, id="H19-200-headers"),
        pytest.param({"x-large": "x" * 65_536}, id="H19-64-KiB"),
    ],
)
async def test_too_many_headers_are_431(rig: Any, chat: Any, headers: dict[str, str]) -> None:
    async with rig.client() as client:
        answer = await client.post(CHAT, json=chat, headers=headers)
    assert_refused(rig, answer, 431, "header_too_large")


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([], id="H20-none"),
        pytest.param(["Bearer"], id="H20-no-key"),
        pytest.param(["Bearer wrong"], id="H20-wrong"),
        pytest.param(["Basic c2VjcmV0"], id="H20-scheme"),
        pytest.param(["secret"], id="H20-bare"),
        pytest.param(["Bearer secret", "Bearer secret"], id="H20-two"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", CHAT),
        ("GET", "/v1/models"),
        ("GET", "/v1/requests/req_1"),
        ("POST", "/"),
        ("GET", "/v1/files"),
    ],
)
async def test_without_a_good_key_everything_is_401(
    rig: Any, chat: Any, values: list[str], method: str, path: str
) -> None:
    rig.deps = replace(rig.deps, keys=ApiKeys.parse("me=secret"))
    headers = [("content-type", "application/json"), *(("authorization", v) for v in values)]
    async with rig.client() as client:
        answer = await client.request(method, path, content=json.dumps(chat), headers=headers)
    assert_refused(rig, answer, 401, "invalid_api_key")
    assert "secret" not in answer.text


async def test_two_keys_are_401_even_where_no_key_is_needed(rig: Any, chat: Any) -> None:
    headers = [("authorization", "Bearer a"), ("authorization", "Bearer b")]
    async with rig.client() as client:
        answer = await client.post(CHAT, json=chat, headers=headers)
    assert_refused(rig, answer, 401, "invalid_api_key")


@pytest.mark.parametrize(
    "model", ["none", "../smol", "smol/../big", "x" * 10_000, "sm ol", "smol;drop", "modèle"]
)
async def test_an_unknown_model_is_404_without_touching_the_log(
    rig: Any, chat: Any, model: str
) -> None:
    """H22, H23."""
    async with rig.client() as client:
        answer = await client.post(CHAT, json=chat | {"model": model})
    assert_refused(rig, answer, 404, "model_not_found")
    assert len(answer.content) < 1000


USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"messages": None}, id="H24-none"),
        pytest.param({"messages": []}, id="H24-empty"),
        pytest.param({"messages": {}}, id="H24-object"),
        pytest.param({"messages": [USER] * 4097}, id="H24-many"),
        pytest.param({"messages": [{"role": "boss", "content": "x"}]}, id="H25-role"),
        pytest.param({"messages": [{"role": "user", "content": None}]}, id="H25-null"),
        pytest.param({"messages": [{"role": "user", "content": 5}]}, id="H25-number"),
        pytest.param(
            {"messages": [{"role": "user", "content": [{"type": "dance"}]}]}, id="H25-part"
        ),
        pytest.param({"max_tokens": 0}, id="H26-0"),
        pytest.param({"max_tokens": -1}, id="H26-negative"),
        pytest.param({"max_tokens": "5"}, id="H26-text"),
        pytest.param({"max_tokens": 1.5}, id="H26-fraction"),
        pytest.param({"max_tokens": True}, id="H26-true"),
        pytest.param({"temperature": -1}, id="H27-negative"),
        pytest.param({"temperature": 99}, id="H27-hot"),
        pytest.param({"temperature": "hot"}, id="H27-text"),
        pytest.param({"n": 0}, id="H28-0"),
        pytest.param({"n": 1000}, id="H28-1000"),
        pytest.param({"stop": ["x"] * 1000}, id="H29-many"),
        pytest.param({"stop": ""}, id="H29-empty"),
        pytest.param({"stop": "x" * 100_000}, id="H29-long"),
        pytest.param({"logit_bias": {str(n): 1 for n in range(5000)}}, id="H30-bias"),
        pytest.param({"top_logprobs": 100, "logprobs": True}, id="H30-logprobs"),
        pytest.param({"stream": "yes"}, id="H31"),
        pytest.param({"stream_options": {"include_usage": True}}, id="H32"),
        pytest.param(
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image_url", "image_url": {"url": "http://10.0.0.1/"}}
                        ],
                    }
                ]
            },
            id="H34",
        ),
    ],
)
async def test_a_bad_field_is_400_and_named(rig: Any, chat: Any, changes: dict[str, Any]) -> None:
    async with rig.client() as client:
        answer = await client.post(CHAT, json=chat | changes)
    assert_refused(rig, answer, 400)
    assert answer.json()["error"]["param"].startswith(next(iter(changes)).partition("_")[0])


@pytest.mark.parametrize("value", ["-5", "0", "NaN", "inf", "soon", ""])
async def test_a_deadline_that_is_none_is_400(rig: Any, chat: Any, value: str) -> None:
    """H41."""
    async with rig.client() as client:
        answer = await client.post(CHAT, json=chat, headers={"x-pickspin-deadline-s": value})
    assert_refused(rig, answer, 400, "invalid_value")


async def test_a_deadline_beyond_ours_is_ours(rig: Any, chat: Any) -> None:
    """H41."""
    async with rig.client() as client:
        answer = await client.post(CHAT, json=chat, headers={"x-pickspin-deadline-s": "1e9"})
    assert answer.status_code == 200


async def test_headers_from_outside_forge_nothing(rig: Any, chat: Any) -> None:
    """H42."""
    forged = {
        "ce-id": "forged",
        "ce-tenant": "root",
        "ce-replytopic": "infer.dlq",
        "x-forwarded-for": "10.0.0.1",
        "x-forwarded-host": "inside",
        "host": "inside",
        "x-request-id": "forged",
        "x-pickspin-request-id": "forged",
    }
    async with rig.client() as client:
        answer = await client.post(CHAT, json=chat, headers=forged)
    assert answer.status_code == 200
    event = rig.events_on("infer.requests")[0]
    assert event.id.startswith("req_")
    assert event.get("tenant") == "default"
    assert event.get("replytopic") == "infer.replies"


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": "garbage"},
        {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"},
        {"traceparent": "ff-" + "1" * 32 + "-" + "1" * 16 + "-01"},
        {"tracestate": ",".join(f"k{n}=v" for n in range(1000))},
    ],
)
async def test_a_malformed_trace_begins_a_new_one(
    rig: Any, chat: Any, headers: dict[str, str]
) -> None:
    """H43."""
    async with rig.client() as client:
        assert (await client.post(CHAT, json=chat, headers=headers)).status_code == 200
    event = rig.events_on("infer.requests")[0]
    assert event.get("traceparent") != headers.get("traceparent")
    assert len(event.get("traceparent")) == 55
    assert event.get("tracestate") is None


async def test_a_good_trace_is_carried_on(rig: Any, chat: Any) -> None:
    parent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    async with rig.client() as client:
        await client.post(CHAT, json=chat, headers={"traceparent": parent, "tracestate": "v=1"})
    event = rig.events_on("infer.requests")[0]
    assert (event.get("traceparent"), event.get("tracestate")) == (parent, "v=1")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("TRACE", CHAT, 405),
        ("GET", CHAT, 405),
        ("PUT", "/v1/models", 405),
        ("DELETE", "/v1/files", 405),
        ("PUT", "/", 405),
        ("POST", "/v1/chat/completions/", 404),
        ("GET", "//v1/../admin", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/.env", 404),
        ("POST", "/V1/chat/completions", 404),
    ],
)
async def test_other_paths_and_methods_are_404_and_405(
    rig: Any, method: str, path: str, status: int
) -> None:
    """H45, H46."""
    async with rig.client() as client:
        answer = await client.request(method, f"http://t{path}")
    assert_refused(rig, answer, status, "not_found" if status == 404 else "method_not_allowed")
    assert ("allow" in answer.headers) == (status == 405)


async def test_a_query_of_a_megabyte_is_refused(rig: Any) -> None:
    """H48."""
    transport = httpx.ASGITransport(rig.app())
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        answer = await client.get("/v1/models?x=" + "a" * 60_000)
    assert_refused(rig, answer, 431)


@pytest.mark.parametrize(
    "request_id", ["req_none", "x" * 5000, "%00", "a%20b", "%0a", "..%2f..", "é"]
)
async def test_an_id_nobody_has_is_404_everywhere(rig: Any, request_id: str) -> None:
    """H21, H50."""
    async with rig.client() as client:
        for method, path in (
            ("GET", f"/v1/requests/{request_id}"),
            ("DELETE", f"/v1/requests/{request_id}"),
            ("POST", f"/v1/requests/{request_id}/cancel"),
            ("GET", f"/v1/requests/{request_id}/events"),
            ("GET", f"/v1/responses/{request_id}"),
            ("POST", f"/v1/responses/{request_id}/cancel"),
            ("GET", f"/v1/files/{request_id}"),
            ("GET", f"/v1/batches/{request_id}"),
            ("GET", f"/v1/callbacks/{request_id}"),
        ):
            assert_refused(rig, await client.request(method, path), 404, "not_found")
    assert rig.events_on("infer.control") == []


async def test_a_body_that_never_ends_is_cut(rig: Any) -> None:
    """The body's time is bounded as well as its size."""
    rig.configure(body_read_s=0.1)

    async def parts() -> Any:
        yield b"{"
        await asyncio.sleep(30)

    async with rig.client() as client:
        answer = await client.post(CHAT, content=parts(), headers=JSON)
    assert_refused(rig, answer, 400, "invalid_body")


async def test_what_nobody_foresaw_is_500_with_the_request_id_only(
    rig: Any, chat: Any, caplog: Any
) -> None:
    class Broken:
        def append(self, record: Any) -> Any:
            raise RuntimeError("secret detail")

    rig.use(appender=Broken())
    async with rig.client() as client:
        answer = await client.post(CHAT, json=chat)
    assert_refused(rig, answer, 500, "internal")
    assert "secret detail" not in answer.text
    assert any(record.exc_info for record in caplog.records)
