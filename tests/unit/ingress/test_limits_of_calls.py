"""Limits on cost, latency and quality at the HTTP doors: into the event as sent, or refused by the header's name."""

from typing import Any

import pytest

from events.requests import parse_request

pytestmark = pytest.mark.anyio
HEADERS = {
    "x-pickspin-max-cost": "0.0100",
    "x-pickspin-max-latency": "20",
    "x-pickspin-min-quality": "0.6",
}
ATTRIBUTES = {"maxcost": "0.0100", "maxlatency": "20", "minquality": "0.6"}


def limits(event: Any) -> dict[str, str | None]:
    return {name: event.get(name) for name in ATTRIBUTES}


async def test_headers_become_attributes_of_a_call_that_waits(rig: Any, chat: Any) -> None:
    async with rig.client() as client:
        await client.post("/v1/chat/completions", json=chat, headers=HEADERS)
    assert limits(rig.worker.seen[0]) == ATTRIBUTES


async def test_headers_become_attributes_of_background_work(rig: Any, chat: Any) -> None:
    async with rig.client() as client:
        answer = await client.post(
            "/v1/chat/completions", json=chat, headers=HEADERS | {"prefer": "respond-async"}
        )
    assert answer.status_code == 202
    (event,) = rig.events_on("infer.requests")
    assert limits(event) == ATTRIBUTES


async def test_attributes_of_an_event_stay(rig: Any, chat: Any) -> None:
    headers = {"ce-id": "e1", "ce-source": "/shop", "ce-specversion": "1.0",
               "ce-type": "io.pickspin.inference.request.v1"}  # fmt: skip
    more = {f"ce-{name}": text for name, text in ATTRIBUTES.items()}
    async with rig.client() as client:
        assert (await client.post("/", json=chat, headers=headers | more)).status_code == 202
        bad = await client.post("/", json=chat, headers=headers | {"ce-maxcost": "cheap"})
    assert (bad.status_code, bad.json()["error"]["param"]) == (400, "maxcost")
    (event,) = rig.events_on("infer.requests")
    assert limits(event) == ATTRIBUTES


async def test_the_body_travels_unchanged(rig: Any, chat: Any) -> None:
    async with rig.client() as client:
        await client.post(
            "/v1/chat/completions", json=chat | {"pickspin": {"max_cost": 0.5, "profile": "cost"}}
        )
    found = parse_request(rig.worker.seen[0], default_wait_s=60)
    assert (found.max_cost_usd, found.profile) == (0.5, "cost")


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("text", ["", "-1", "1e3", "nan", "abc", "1,5"])
async def test_a_limit_that_is_no_plain_decimal_is_a_400_with_the_headers_name(
    rig: Any, chat: Any, name: str, text: str
) -> None:
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=chat, headers={name: text})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_value", name)
    assert rig.events_on("infer.requests") == []


async def test_a_limit_sent_twice_is_refused(rig: Any, chat: Any) -> None:
    async with rig.client() as client:
        answer = await client.post(
            "/v1/chat/completions",
            json=chat,
            headers=[("x-pickspin-max-cost", "1"), ("x-pickspin-max-cost", "2")],
        )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "x-pickspin-max-cost"


async def test_a_chance_above_one_is_refused(rig: Any, chat: Any) -> None:
    async with rig.client() as client:
        answer = await client.post(
            "/v1/chat/completions", json=chat, headers={"x-pickspin-min-quality": "1.5"}
        )
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")
