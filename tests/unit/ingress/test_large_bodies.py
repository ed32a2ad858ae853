"""Photos and long inputs go through: by reference, and in memory only until they are written down."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from events import names
from events.limits import MAX_BODY_BYTES
from functions.ingress.held_bodies import HeldBody
from functions.ingress.tenant_shares import SharedRoom
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import load_settings

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
EVENT = {"ce-id": "1", "ce-source": "/s", "ce-type": names.REQUEST, "ce-specversion": "1.0"}


def with_photo(size: int) -> dict[str, Any]:
    url = "data:image/jpeg;base64," + base64.b64encode(b"\xff" * (size * 3 // 4)).decode()
    parts = [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    return {"model": "smol", "messages": [{"role": "user", "content": parts}]}


@pytest.mark.parametrize("size", [1_200_000, 12_000_000])
async def test_a_photo_goes_through_on_default_settings(rig: Any, size: int) -> None:
    body = with_photo(size)
    async with rig.client() as client:
        answer = await client.post(CHAT, json=body)
        assert answer.status_code == 200, answer.text
    (event,) = rig.events_on("infer.requests")
    assert event.data is None
    sent = rig.deps.blobs.get(event.get("dataref"), limit_bytes=MAX_BODY_BYTES)
    assert json.loads(sent) == body


@pytest.mark.parametrize("door", ["responses", "event", "structured"])
async def test_so_it_does_through_the_other_doors(rig: Any, door: str) -> None:
    body = with_photo(2_000_000)
    url = body["messages"][0]["content"][1]["image_url"]["url"]
    path, headers, sent = "/", EVENT, body
    if door == "responses":
        image = {"type": "input_image", "image_url": url}
        path, headers, sent = "/v1/responses", {}, {"input": [{"role": "user", "content": [image]}]}
    elif door == "structured":
        attributes = {name.removeprefix("ce-"): value for name, value in EVENT.items()}
        headers = {"content-type": names.STRUCTURED_JSON}
        sent = {**attributes, "datacontenttype": "application/json", "data": body}
    async with rig.client() as client:
        raw = json.dumps(sent).encode()
        answer = await client.post(
            path, content=raw, headers={"content-type": "application/json", **headers}
        )
    assert answer.status_code in {200, 202}, answer.text
    (event,) = rig.events_on("infer.requests")
    found = rig.deps.blobs.get(event.get("dataref"), limit_bytes=MAX_BODY_BYTES)
    assert url.encode() in found


async def test_a_larger_one_is_refused_by_the_limit_that_is_set(rig: Any) -> None:
    rig.configure(max_body_bytes=1_500_000)
    async with rig.client() as client:
        assert (await client.post(CHAT, json=with_photo(1_400_000))).status_code == 200
        answer = await client.post(CHAT, json=with_photo(1_600_000))
    assert answer.status_code == 413
    assert "1500000 bytes" in answer.json()["error"]["message"]


async def test_who_is_still_sending_reads_the_refusal(rig: Any, live: Any) -> None:
    """A connection that is closed upon unread bytes is reset, and the answer is lost with it."""
    rig.configure(max_body_bytes=1_500_000)
    async with live(rig) as client:
        for _ in range(5):
            answer = await client.post(CHAT, json=with_photo(12_000_000))
            assert answer.status_code == 413
            assert answer.headers["connection"] == "close"


def test_no_setting_is_above_what_every_reader_has_room_for() -> None:
    load_settings({"PICKSPIN_INGRESS_MAX_BODY_BYTES": str(MAX_BODY_BYTES)})
    with pytest.raises(StartupFailed, match="MAX_BODY_BYTES"):
        load_settings({"PICKSPIN_INGRESS_MAX_BODY_BYTES": str(MAX_BODY_BYTES + 1)})


@pytest.mark.parametrize("path", ["/v1/batches", "/v1/callbacks"])
async def test_doors_that_need_no_large_body_take_none(rig: Any, path: str) -> None:
    async with rig.client() as client:
        answer = await client.post(path, json={"x": "x" * 1_100_000})
    assert answer.status_code == 413


async def test_whoever_waits_for_an_answer_holds_no_place(rig: Any, eventually: Any) -> None:
    rig.configure(big_bodies_bytes=1)
    held = rig.worker.hold()
    async with rig.client() as client:
        calls = [
            asyncio.ensure_future(client.post(CHAT, json=with_photo(1_200_000 + n)))
            for n in range(3)
        ]
        await eventually(lambda: len(held) == 3)
        for request in held:
            rig.worker.send(*rig.worker.completed(request))
        answers = await asyncio.gather(*calls)
    assert [answer.status_code for answer in answers] == [200] * 3


async def test_a_call_that_is_refused_gives_its_place_back(rig: Any) -> None:
    rig.configure(big_bodies_bytes=1)
    async with rig.client() as client:
        for _ in range(3):
            answer = await client.post(CHAT, json={**with_photo(1_200_000), "n": 0})
            assert answer.status_code == 400
        assert (await client.post(CHAT, json=with_photo(1_200_000))).status_code == 200


async def test_without_a_free_place_a_large_body_is_refused_and_a_small_one_goes_on(
    rig: Any, chat: Any
) -> None:
    rig.configure(big_bodies_bytes=1, body_read_s=0.2)
    other = rig.deps.hold_body("other")
    await other.reserve(9)
    async with rig.client() as client:
        answer = await client.post(CHAT, json=with_photo(1_200_000))
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "overloaded"
        assert (await client.post(CHAT, json=chat)).status_code == 200
        other.release()
        assert (await client.post(CHAT, json=with_photo(1_200_000))).status_code == 200


async def test_a_large_body_in_chunks_takes_a_place_as_soon_as_it_is_large(rig: Any) -> None:
    rig.configure(big_bodies_bytes=1, body_read_s=0.2)
    raw = json.dumps(with_photo(1_200_000)).encode()

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(raw), 100_000):
            yield raw[start : start + 100_000]

    async with rig.client() as client:
        json_type = {"content-type": "application/json"}
        assert (await client.post(CHAT, content=chunks(), headers=json_type)).status_code == 200
        other = rig.deps.hold_body("other")
        await other.reserve(9)
        assert (await client.post(CHAT, content=chunks(), headers=json_type)).status_code == 503


async def test_room_is_shared_and_waited_for() -> None:
    room = SharedRoom()

    def held(tenant: str) -> HeldBody:
        return HeldBody(
            lambda size: room.enter(tenant, size, room=100, share=0.5),
            lambda size: room.leave(tenant, size),
        )

    greedy = [held("greedy") for _ in range(3)]
    await greedy[0].reserve(20)
    await greedy[1].reserve(30)
    third = asyncio.ensure_future(greedy[2].reserve(20))
    await asyncio.wait_for(held("quiet").reserve(20), 5.0)
    assert not third.done()
    greedy[0].release()
    greedy[0].release()
    greedy[1].release()
    await asyncio.wait_for(third, 5.0)
    assert room.taken == 40
