"""Pages of listed origins may call and read (CORS); every path says which methods it takes."""

from typing import Any

import pytest

from events.payloads import (
    CascadeInfo,
    CascadeUsed,
    Cost,
    DecisionInfo,
    PickspinData,
    Timings,
)
from functions.ingress.api_keys import ApiKeys
from functions.ingress.cors import EXPOSED, check_origins
from functions.ingress.http_responses import answer_headers, id_headers
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import IngressSettings

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"
PAGE = {"origin": "https://chat.example"}
PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-os",
}
LEAVE = "access-control-allow-origin"


async def test_without_the_setting_no_page_may_read(rig: Any, chat: Any) -> None:
    rig.use(keys=ApiKeys.parse("a=key"))
    async with rig.client(authorization="Bearer key") as client:
        answer = await client.post(CHAT, json=chat, headers=PAGE)
        assert answer.status_code == 200
        asked = await client.options(CHAT, headers=PAGE | PREFLIGHT)
    for found in (answer, asked):
        assert not [name for name in found.headers if name.startswith("access-control-")]


async def test_a_listed_page_may_ask_call_and_read(rig: Any, chat: Any) -> None:
    rig.configure(allowed_origins="https://chat.example, https://other.example")
    async with rig.client() as client:
        asked = await client.options(CHAT, headers=PAGE | PREFLIGHT)
        assert asked.status_code == 204
        assert asked.headers[LEAVE] == PAGE["origin"]
        assert "POST" in asked.headers["access-control-allow-methods"]
        named = PREFLIGHT["access-control-request-headers"]
        assert asked.headers["access-control-allow-headers"] == named
        for body, status in ((chat, 200), ({}, 400)):
            answer = await client.post(CHAT, json=body, headers=PAGE)
            assert (answer.status_code, answer.headers[LEAVE]) == (status, PAGE["origin"])
            assert "origin" in answer.headers["vary"].lower()
        assert "x-pickspin-model" in answer.headers["access-control-expose-headers"]
        stranger = await client.get("/v1/models", headers={"origin": "https://evil.example"})
        assert LEAVE not in stranger.headers
        own = await client.get("/v1/models")
        assert LEAVE not in own.headers


async def test_a_refused_key_can_be_read_by_a_listed_page(rig: Any, chat: Any) -> None:
    rig.use(keys=ApiKeys.parse("a=key"))
    rig.configure(allowed_origins="*")
    async with rig.client() as client:
        asked = await client.options(CHAT, headers=PAGE | PREFLIGHT)
        assert (asked.status_code, asked.headers[LEAVE]) == (204, "*")
        answer = await client.post(CHAT, json=chat, headers=PAGE)
    assert (answer.status_code, answer.headers[LEAVE]) == (401, "*")
    assert "access-control-allow-credentials" not in answer.headers


async def test_the_names_of_this_machine_stay_the_only_ones(rig: Any) -> None:
    rig.configure(allowed_origins="https://chat.example")
    async with rig.client() as client:
        answer = await client.get("/v1/models", headers=PAGE | {"host": "rebound.example"})
    assert answer.status_code == 403


def test_every_page_of_the_world_needs_a_key() -> None:
    check_origins(IngressSettings(allowed_origins="*"), has_keys=True)
    check_origins(IngressSettings(allowed_origins="https://a.example"), has_keys=False)
    with pytest.raises(StartupFailed, match="PICKSPIN_INGRESS_ALLOWED_ORIGINS"):
        check_origins(IngressSettings(allowed_origins="https://a.example,*"), has_keys=False)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        (CHAT, "OPTIONS, POST"),
        ("/v1/files", "GET, HEAD, OPTIONS, POST"),
        ("/v1/requests/req_1", "DELETE, GET, HEAD, OPTIONS"),
        ("/v1/models/org/embed-1", "GET, HEAD, OPTIONS"),
    ],
)
async def test_a_path_says_which_methods_it_takes(rig: Any, path: str, methods: str) -> None:
    async with rig.client() as client:
        asked = await client.options(path)
        assert (asked.status_code, asked.headers["allow"], asked.content) == (204, methods, b"")
        wrong = await client.put(path)
        assert (wrong.status_code, wrong.headers["allow"]) == (405, methods)
        assert (await client.options("/nowhere")).status_code == 404


async def test_head_is_get_without_a_body(rig: Any, live: Any) -> None:
    async with live(rig) as client:
        for path in ("/healthz", "/v1/models", "/v1/files"):
            got, head = await client.get(path), await client.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == got.headers["content-length"]


def test_a_page_may_read_every_header_that_says_who_answered() -> None:
    whole = PickspinData(
        request_id="req_1",
        state="completed",
        service="s",
        model="m",
        timings=Timings(queue_ms=1, load_ms=1),
        cost=Cost(usd=1),
        decision=DecisionInfo(
            route_class="low", score=1, reason="auto", catalogue="v1", stage="keyword"
        ),
        cascade=CascadeInfo(
            name="c",
            steps=(CascadeUsed(service="s", model="m", outcome="answered"),),
            confidence=1,
        ),
    )
    named = answer_headers(whole) | id_headers("req_1")
    assert len(named) == 13
    assert set(named) <= set(EXPOSED)
