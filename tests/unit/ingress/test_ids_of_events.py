"""Events over HTTP are told apart by tenant, source and id, and found by the ids that their senders know."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from events import names
from functions.ingress.api_keys import ApiKeys

pytestmark = pytest.mark.anyio
A, B = {"authorization": "Bearer key-a"}, {"authorization": "Bearer key-b"}
ODD_IDS = ["a/b", "a?b", "a#b", "a%2Fb", "a%2fb/c", "a%b", "//", "..", "a;b=c", "a+b&c"]


def event(event_id: str = "order-1", source: str = "/shop", **more: str) -> dict[str, str]:
    return {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": event_id.replace("%", "%25"),  # headers of events are percent-encoded
        "ce-source": source,
        "ce-type": names.REQUEST,
        **{f"ce-{name}": value for name, value in more.items()},
    }


def asking(chat: Any, text: str) -> Any:
    return chat | {"messages": [{"role": "user", "content": text}]}


def echo(worker: Any, request: Any) -> Any:
    """A worker that says again what it was asked."""
    return worker.completed(request, request.body["messages"][0]["content"])


async def test_one_id_of_two_sources_is_two_requests(rig: Any, chat: Any, ended: Any) -> None:
    rig.worker.script = echo
    async with rig.client() as client:
        answers = [
            await client.post("/", json=asking(chat, source), headers=event(source=source))
            for source in ("/shop", "/stock")
        ]
        assert [answer.status_code for answer in answers] == [202, 202]
        assert [answer.json()["id"] for answer in answers] == ["order-1", "order-1"]
        for answer, said in zip(answers, ("/shop", "/stock"), strict=True):
            body = await ended(client, answer.headers["location"])
            assert body["id"] == "order-1"
            assert body["response"]["choices"][0]["message"]["content"] == said
        by_id = [
            (await client.get("/v1/requests/order-1", params=params)).json()["source"]
            for params in ({}, {"source": "/shop"}, {"source": "/stock"})
        ]
        other = await client.get("/v1/requests/order-1", params={"source": "/none"})
    assert by_id == ["/shop", "/shop", "/stock"]
    assert other.status_code == 404


async def test_the_ids_of_one_tenant_say_nothing_to_another(
    rig: Any, chat: Any, ended: Any
) -> None:
    rig.use(keys=ApiKeys.parse("a=key-a,b=key-b"))
    rig.worker.script = echo
    async with rig.client() as client:
        for who, text in ((A, "of a"), (B, "of b")):
            answer = await client.post("/", json=asking(chat, text), headers=event() | who)
            assert answer.status_code == 202
        for who, text in ((A, "of a"), (B, "of b")):
            body = await ended(client, "/v1/requests/order-1", headers=who)
            assert body["response"]["choices"][0]["message"]["content"] == text
        await client.post("/", json=chat, headers=event("only-a") | A)
        assert (await client.get("/v1/requests/only-a", headers=A)).status_code == 200
        assert (await client.get("/v1/requests/only-a", headers=B)).status_code == 404


async def test_an_event_that_is_sent_again_with_other_data_is_a_conflict(
    rig: Any, chat: Any
) -> None:
    async with rig.client() as client:
        first = await client.post("/", json=chat, headers=event())
        again = await client.post("/", json=chat, headers=event())
        other = await client.post("/", json=asking(chat, "other"), headers=event())
    assert again.headers["location"] == first.headers["location"]
    assert other.status_code == 409
    assert other.json()["error"]["code"] == "key_reused"
    assert len(rig.events_on("infer.requests")) == 1


async def test_an_event_whose_request_was_deleted_says_so_when_it_is_sent_again(
    rig: Any, chat: Any
) -> None:
    async with rig.client() as client:
        await client.post("/", json=chat, headers=event())
        assert (await client.delete("/v1/requests/order-1")).status_code == 200
        assert (await client.get("/v1/requests/order-1")).status_code == 404
        again = await client.post("/", json=chat, headers=event())
    assert again.status_code == 410
    assert len(rig.events_on("infer.requests")) == 1


@pytest.mark.parametrize("source", ["/ingress/test-0", "/batches"])
async def test_nobody_takes_another_request_by_calling_itself_one_of_us(
    rig: Any, chat: Any, ended: Any, source: str
) -> None:
    rig.use(keys=ApiKeys.parse("a=key-a,b=key-b"))
    rig.worker.script = echo
    background = {"prefer": "respond-async"}
    async with rig.client() as client:
        first = await client.post(
            "/v1/chat/completions", json=asking(chat, "mine"), headers=background | A
        )
        theirs = first.json()["id"]
        forged = event(theirs, source, requestid=theirs) | B
        answer = await client.post("/", json=asking(chat, "forged"), headers=forged)
        assert answer.status_code == 202
        assert answer.headers["location"] != first.headers["location"]
        body = await ended(client, first.headers["location"], headers=A)
        assert body["response"]["choices"][0]["message"]["content"] == "mine"


@pytest.mark.parametrize("event_id", ODD_IDS)
async def test_an_odd_id_is_found_at_its_location_and_by_its_quoted_name(
    rig: Any, chat: Any, live: Any, ended: Any, event_id: str
) -> None:
    async with live(rig) as client:
        answer = await client.post("/", json=chat, headers=event(event_id))
        assert answer.status_code == 202
        urls = [answer.headers["location"]]
        if event_id != "..":  # clients take that for a step up, quoted or not
            urls.append(f"/v1/requests/{quote(event_id, safe='')}")
        for url in urls:
            assert (await ended(client, url))["id"] == event_id
            assert "event: terminal" in (await client.get(f"{url}/events")).text
            assert (await client.get(f"{url}/feedback")).status_code == 200
            assert (await client.post(f"{url}/cancel")).json()["error"]["code"] == "not_cancellable"
        assert (await client.delete(urls[-1])).status_code == 200
        assert {(await client.get(url)).status_code for url in urls} == {404}


async def test_a_quoted_slash_in_the_name_of_a_model_is_still_one(rig: Any) -> None:
    async with rig.client() as client:
        assert (await client.get("/v1/models/org%2Fembed-1")).status_code == 200


@pytest.mark.parametrize(
    "name", ["order 12", "Zürich/7?x=1#y", "a" * 200, "100%25", "partition:0/offset:24"]
)
async def test_an_id_of_any_text_is_taken_and_found_again(
    rig: Any, chat: Any, ended: Any, name: str
) -> None:
    document = {
        "specversion": "1.0", "id": name, "source": "/shop/\u00e9t\u00e9", "data": chat,
        "type": "io.pickspin.inference.request.v1", "subject": "Bestellung 17 \u2013 Gr\u00fc\u00dfe",
    }  # fmt: skip
    async with rig.client() as client:
        answer = await client.post(
            "/", json=document, headers={"content-type": "application/cloudevents+json"}
        )
        assert answer.status_code == 202
        assert answer.json()["id"] == name
        found = await ended(client, answer.headers["location"])
        assert (found["id"], found["state"]) == (name, "completed")
        by_id = await client.get(f"/v1/requests/{quote(name, safe='')}")
        assert by_id.json()["urls"] == found["urls"]


@pytest.mark.parametrize(
    "content_type", [None, "application/vnd.shop.order+json", "application/json; charset=utf-8"]
)
async def test_any_json_and_none_is_a_content_type_in_binary_mode(
    rig: Any, chat: Any, content_type: str | None
) -> None:
    headers = {name: value for name, value in event().items() if name != "content-type"}
    if content_type is not None:
        headers["content-type"] = content_type
    body = json.dumps(chat).encode()
    async with rig.client() as client:
        assert (await client.post("/", content=body, headers=headers)).status_code == 202
        # Without a word of events it stays what a page of any site could send.
        assert (await client.post("/", content=body)).status_code == 415
