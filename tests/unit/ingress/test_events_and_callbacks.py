"""CloudEvents over HTTP, and where answers are called back to."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from events import names
from events.timestamps import to_rfc3339
from functions.ingress.api_keys import ApiKeys

pytestmark = pytest.mark.anyio


def binary(**more: str) -> dict[str, str]:
    return {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": "order-1",
        "ce-source": "/shop",
        "ce-type": names.REQUEST,
        **{f"ce-{name}": value for name, value in more.items()},
    }


async def test_a_binary_event_becomes_a_request_with_its_own_id(rig: Any, chat: Any) -> None:
    async with rig.client() as client:
        answer = await client.post("/", json=chat, headers=binary(replytopic="infer.responses"))
        assert answer.status_code == 202
        assert answer.json()["id"] == "order-1"
        assert (await client.get("/v1/requests/order-1")).status_code == 200
    event = rig.events_on("infer.requests")[0]
    assert event.source == "/shop"
    assert event.get("replytopic") == "infer.responses"
    assert event.get("tenant") == "default"


async def test_a_structured_event_is_the_same(rig: Any, chat: Any) -> None:
    event = {
        "specversion": "1.0",
        "id": "order-2",
        "source": "/shop",
        "type": names.REQUEST,
        "datacontenttype": "application/json",
        "data": chat,
    }
    async with rig.client() as client:
        answer = await client.post(
            "/", content=json.dumps(event), headers={"content-type": "application/cloudevents+json"}
        )
    assert answer.status_code == 202
    assert rig.events_on("infer.requests")[0].id == "order-2"


async def test_an_event_sent_twice_is_one_request(rig: Any, chat: Any) -> None:
    async with rig.client() as client:
        for _ in range(2):
            answer = await client.post("/", json=chat, headers=binary())
            assert answer.status_code == 202
            assert answer.json()["id"] == "order-1"
    assert len(rig.events_on("infer.requests")) == 1


async def test_what_is_ours_cannot_be_set_from_outside(rig: Any, chat: Any) -> None:
    forged = binary(
        tenant="root", attempt="9", service="big", batchid="b", hops="3", correlationid="x"
    )
    async with rig.client() as client:
        assert (await client.post("/", json=chat, headers=forged)).status_code == 202
    event = rig.events_on("infer.requests")[0]
    assert event.get("tenant") == "default"
    for name in ("attempt", "service", "batchid", "hops", "correlationid"):
        assert event.get(name) is None


@pytest.mark.parametrize(
    "topic",
    ["infer.replies", "infer.requests", "infer.dlq", "__consumer_offsets", "infer.model.smol"],
)
async def test_a_reply_topic_outside_the_list_is_refused(rig: Any, chat: Any, topic: str) -> None:
    async with rig.client() as client:
        answer = await client.post("/", json=chat, headers=binary(replytopic=topic))
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_event"
    assert rig.events_on("infer.requests") == []


async def test_an_allowed_reply_topic_is_taken(rig: Any, chat: Any) -> None:
    rig.configure(reply_topics="shop.answers, other")
    async with rig.client() as client:
        assert (
            await client.post("/", json=chat, headers=binary(replytopic="shop.answers"))
        ).status_code == 202


@pytest.mark.parametrize(
    "changes",
    [
        {"ce-id": ""},
        {"ce-type": "io.pickspin.inference.request.v9"},
        {"ce-type": names.COMPLETED},
        {"ce-specversion": "0.3"},
        {"ce-expirytime": "yesterday"},
        {"ce-operation": "translate"},
        {"ce-callbackid": "cb_none"},
        {"ce-priority": "now"},
        {"ce-profile": "none"},
    ],
)
async def test_a_bad_event_is_a_400(rig: Any, chat: Any, changes: dict[str, str]) -> None:
    async with rig.client() as client:
        answer = await client.post("/", json=chat, headers=binary() | changes)
    assert answer.status_code == 400, answer.text
    assert rig.events_on("infer.requests") == []


async def test_an_event_past_its_expiry_is_not_accepted(rig: Any, chat: Any) -> None:
    past = to_rfc3339(datetime.now(UTC) - timedelta(seconds=5))
    async with rig.client() as client:
        answer = await client.post("/", json=chat, headers=binary(expirytime=past))
    assert answer.status_code == 504
    assert answer.headers["x-should-retry"] == "false"


async def test_a_batch_of_events_and_plain_text_are_415(rig: Any) -> None:
    async with rig.client() as client:
        for content_type in ("application/cloudevents-batch+json", "text/plain"):
            answer = await client.post("/", content=b"[]", headers={"content-type": content_type})
            assert answer.status_code == 415


# Callbacks
async def test_a_registered_callback_shows_its_secret_once(rig: Any) -> None:
    async with rig.client() as client:
        answer = await client.post("/v1/callbacks", json={"url": "https://hooks.example.org/x"})
        assert answer.status_code == 201
        body = answer.json()
        assert body["secret"].startswith("whsec_")
        assert len(base64.b64decode(body["secret"].removeprefix("whsec_"))) == 32
        later = (await client.get(f"/v1/callbacks/{body['id']}")).json()
        assert "secret" not in later
        assert later["url"] == "https://hooks.example.org/x"
        assert (await client.delete(f"/v1/callbacks/{body['id']}")).json()["deleted"] is True
        refused = await client.post(
            "/v1/chat/completions",
            json={"messages": [{"role": "user", "content": "x"}], "callback": body["id"]},
        )
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "callback_url_refused"


async def test_work_with_a_registered_callback_is_background_work_that_names_it(
    rig: Any, chat: Any
) -> None:
    async with rig.client() as client:
        target = (
            await client.post("/v1/callbacks", json={"url": "https://hooks.example.org/x"})
        ).json()
        answer = await client.post("/v1/chat/completions", json=chat | {"callback": target["id"]})
        assert answer.status_code == 202
    event = rig.events_on("infer.requests")[0]
    assert event.get("callbackid") == target["id"]
    assert "callback" not in json.loads(event.data)


async def test_a_url_in_the_header_is_a_callback_of_its_own(rig: Any, chat: Any) -> None:
    async with rig.client() as client:
        answers = [
            await client.post(
                "/v1/chat/completions",
                json=chat,
                headers={"x-pickspin-callback": "https://hooks.example.org/y"},
            )
            for _ in range(2)
        ]
    assert [answer.status_code for answer in answers] == [202, 202]
    first, second = (answer.json()["callback"] for answer in answers)
    assert first == second
    assert first["secret"].startswith("whsec_")
    assert rig.events_on("infer.requests")[0].get("callbackid") == first["id"]


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.org/",
        "https://127.0.0.1/",
        "https://169.254.169.254/latest",
        "https://user:pw@hooks.example.org/",
        "https://localhost/",
        "file:///etc/passwd",
        "//hooks.example.org/",
        "https://hooks.example.org:22/",
    ],
)
async def test_a_url_that_may_not_be_called_is_refused_before_anything_is_written(
    rig: Any, chat: Any, url: str
) -> None:
    async with rig.client() as client:
        answers = [
            await client.post("/v1/chat/completions", json=chat | {"callback": url}),
            await client.post("/v1/callbacks", json={"url": url}),
        ]
    for answer in answers:
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "callback_url_refused"
        assert url not in answer.text
    assert rig.events_on("infer.requests") == []


async def test_another_tenants_callback_cannot_be_used_or_seen(rig: Any, chat: Any) -> None:
    rig.deps = replace(rig.deps, keys=ApiKeys.parse("a=key-a,b=key-b"))
    async with rig.client() as client:
        a, b = {"authorization": "Bearer key-a"}, {"authorization": "Bearer key-b"}
        target = (
            await client.post(
                "/v1/callbacks", json={"url": "https://hooks.example.org/"}, headers=a
            )
        ).json()
        assert (await client.get(f"/v1/callbacks/{target['id']}", headers=b)).status_code == 404
        used = await client.post(
            "/v1/chat/completions", json=chat | {"callback": target["id"]}, headers=b
        )
    assert used.json()["error"]["code"] == "callback_url_refused"


async def test_a_reply_partition_that_is_not_there_is_refused_at_the_door(
    rig: Any, chat: Any
) -> None:
    async with rig.client() as client:
        for partition, status in (("3", 202), ("4", 400), ("77", 400), ("99999", 400)):
            named = {"replytopic": "infer.responses", "replypartition": partition}
            headers = binary(**named) | {"ce-id": f"order-{partition}"}
            answer = await client.post("/", json=chat, headers=headers)
            assert answer.status_code == status
            if status == 400:
                assert answer.json()["error"]["param"] == "replypartition"
    assert [event.id for event in rig.events_on("infer.requests")] == ["order-3"]


async def test_a_url_whose_target_was_deleted_is_called_again_when_it_is_named_again(
    rig: Any, chat: Any
) -> None:
    named = {"x-pickspin-callback": "https://hooks.example.org/z"}
    async with rig.client() as client:
        first = await client.post("/v1/chat/completions", json=chat, headers=named)
        target = first.json()["callback"]
        await client.delete(f"/v1/callbacks/{target['id']}")
        again = await client.post("/v1/chat/completions", json=chat, headers=named)
    assert again.status_code == 202
    assert again.json()["callback"] == target
    assert target["enabled"] is True
    assert rig.deps.store.target(target["id"]).is_disabled is False


async def test_the_key_of_a_deleted_callback_says_so(rig: Any) -> None:
    key = {"idempotency-key": "k"}
    body = {"url": "https://hooks.example.org/x"}
    async with rig.client() as client:
        first = await client.post("/v1/callbacks", json=body, headers=key)
        await client.delete(f"/v1/callbacks/{first.json()['id']}")
        again = await client.post("/v1/callbacks", json=body, headers=key)
    assert again.status_code == 410
    assert again.json()["error"]["code"] == "request_gone"
