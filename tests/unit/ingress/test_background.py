"""Work that nobody waits for: accepted, asked for, followed, cancelled, deleted."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from events.timestamps import from_rfc3339
from functions.ingress.api_keys import ApiKeys
from functions.runtime.errors import AppendFailed

pytestmark = pytest.mark.anyio
ASYNC = {"prefer": "respond-async"}


async def test_background_work_is_accepted_at_once_and_found_at_once(rig: Any, chat: Any) -> None:
    rig.worker.script = lambda worker, request: ()
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=chat, headers=ASYNC)
        assert answer.status_code == 202
        body = answer.json()
        assert body["state"] == "accepted"
        assert answer.headers["location"] == f"/v1/requests/{body['id']}"
        assert answer.headers["preference-applied"] == "respond-async"
        found = await client.get(answer.headers["location"])
    assert found.status_code == 200
    assert found.json()["id"] == body["id"]
    assert found.json()["state"] == "accepted"
    assert found.headers["retry-after"] == "1"


async def test_the_event_of_background_work_names_no_reply_partition(rig: Any, chat: Any) -> None:
    async with rig.client() as client:
        await client.post("/v1/chat/completions", json=chat, headers=ASYNC)
    event = rig.events_on("infer.requests")[0]
    assert event.get("replytopic") is None
    wait = from_rfc3339(event.get("expirytime")) - from_rfc3339(event.time)
    assert wait == timedelta(seconds=3600)


async def test_a_poll_shows_the_answer_as_the_sync_door_would(
    rig: Any, chat: Any, ended: Any
) -> None:
    async with rig.client() as client:
        url = (await client.post("/v1/chat/completions", json=chat, headers=ASYNC)).headers[
            "location"
        ]
        body = await ended(client, url)
    assert body["state"] == "completed"
    assert body["status"] == 200
    assert body["response"]["choices"][0]["message"]["content"] == "hello"
    assert body["model"] == "smol"
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 1}
    assert body["error"] is None


async def test_a_poll_of_failed_work_shows_the_error(rig: Any, chat: Any, ended: Any) -> None:
    rig.worker.script = lambda worker, request: worker.failed(request, "backend_failed")
    async with rig.client() as client:
        url = (await client.post("/v1/chat/completions", json=chat, headers=ASYNC)).headers[
            "location"
        ]
        body = await ended(client, url)
    assert body["state"] == "failed"
    assert body["error"]["code"] == "backend_failed"
    assert body["response"] is None


async def test_loading_is_shown_while_no_replica_is_ready(rig: Any, chat: Any) -> None:
    rig.worker.script = lambda worker, request: worker.progress(request)
    async with rig.client() as client:
        url = (await client.post("/v1/chat/completions", json=chat, headers=ASYNC)).headers[
            "location"
        ]
        async with asyncio.timeout(5):
            body = (await client.get(url)).json()
            while body["state"] == "accepted":
                await asyncio.sleep(0.01)
                body = (await client.get(url)).json()
    assert body["state"] == "loading"
    assert body["service"] == "smol"


async def test_a_poll_may_wait(rig: Any, chat: Any) -> None:
    async with rig.client() as client:
        url = (await client.post("/v1/chat/completions", json=chat, headers=ASYNC)).headers[
            "location"
        ]
        body = (await client.get(url, headers={"prefer": "wait=5"})).json()
    assert body["state"] == "completed"


async def test_prefer_wait_answers_202_when_it_runs_out_and_cancels_nothing(
    rig: Any, chat: Any, ended: Any, eventually: Any
) -> None:
    held = rig.worker.hold()
    async with rig.client() as client:
        answer = await client.post(
            "/v1/chat/completions", json=chat, headers={"prefer": "wait=0.1"}
        )
        assert answer.status_code == 202
        assert answer.headers["preference-applied"] == "wait=0.1"
        await eventually(lambda: held)
        rig.worker.send(*rig.worker.completed(held[0], "late"))
        body = await ended(client, answer.headers["location"])
    assert body["response"]["choices"][0]["message"]["content"] == "late"
    assert rig.events_on("infer.control") == []


async def test_prefer_wait_is_a_plain_answer_when_it_is_enough(rig: Any, chat: Any) -> None:
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=chat, headers={"prefer": "wait=5"})
    assert answer.status_code == 200
    assert answer.json()["object"] == "chat.completion"


async def test_events_come_from_the_cursor_on_and_end_with_the_terminal(
    rig: Any, chat: Any, live: Any, ended: Any
) -> None:
    async with live(rig) as client:
        url = (
            await client.post("/v1/chat/completions", json=chat | {"stream": True}, headers=ASYNC)
        ).headers["location"]
        await ended(client, url)
        whole = (await client.get(f"{url}/events")).text
        frames = [frame.split("\n") for frame in whole.split("\n\n") if frame and frame[0] != ":"]
        kinds = [frame[1].removeprefix("event: ") for frame in frames]
        assert kinds[0] == "state"
        assert kinds.count("chunk") == 2
        assert kinds[-1] == "terminal"
        assert json.loads(frames[-1][2].removeprefix("data: "))["choices"]
        cursor = frames[-2][0].removeprefix("id: ")
        rest = (await client.get(f"{url}/events", params={"after": cursor})).text
        assert rest.count("event: ") == 1
        again = (await client.get(f"{url}/events", headers={"last-event-id": cursor})).text
        assert again == rest
        over = frames[-1][0].removeprefix("id: ")
        assert "event: " not in (await client.get(f"{url}/events?after={over}")).text


async def test_events_follow_running_work(rig: Any, chat: Any, live: Any) -> None:
    held = rig.worker.hold(lambda worker, request: worker.progress(request))
    async with live(rig) as client:
        url = (await client.post("/v1/chat/completions", json=chat, headers=ASYNC)).headers[
            "location"
        ]
        seen: list[str] = []
        async with client.stream("GET", f"{url}/events") as answer:
            async for line in answer.aiter_lines():
                seen.append(line)
                if line.startswith(": pickspin state=loading") and held:
                    rig.worker.send(*rig.worker.completed(held.pop()))
    assert "event: terminal" in seen


async def test_cancelling_queued_work_ends_it_as_cancelled(rig: Any, chat: Any) -> None:
    rig.worker.script = lambda worker, request: ()
    async with rig.client() as client:
        url = (await client.post("/v1/chat/completions", json=chat, headers=ASYNC)).headers[
            "location"
        ]
        answer = await client.post(f"{url}/cancel")
        assert answer.status_code == 200
        assert answer.json()["state"] == "cancelled"
        again = await client.post(f"{url}/cancel")
        assert again.json()["state"] == "cancelled"
    assert b"client" in rig.events_on("infer.control")[0].data


async def test_finished_work_cannot_be_cancelled(rig: Any, chat: Any, ended: Any) -> None:
    async with rig.client() as client:
        url = (await client.post("/v1/chat/completions", json=chat, headers=ASYNC)).headers[
            "location"
        ]
        await ended(client, url)
        answer = await client.post(f"{url}/cancel")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "not_cancellable"


async def test_cancelling_from_elsewhere_ends_a_waiting_call(
    rig: Any, chat: Any, eventually: Any
) -> None:
    rig.worker.script = lambda worker, request: ()
    async with rig.client() as client:
        waiting = asyncio.ensure_future(client.post("/v1/chat/completions", json=chat))
        event = (await eventually(lambda: rig.worker.seen))[0]
        await eventually(lambda: rig.deps.store.request(event.id))
        await client.post(f"/v1/requests/{event.id}/cancel")
        answer = await waiting
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "cancelled"


async def test_a_deleted_request_is_gone(rig: Any, chat: Any, ended: Any) -> None:
    async with rig.client() as client:
        url = (await client.post("/v1/chat/completions", json=chat, headers=ASYNC)).headers[
            "location"
        ]
        await ended(client, url)
        assert (await client.delete(url)).json()["deleted"] is True
        assert (await client.get(url)).status_code == 404
        assert (await client.delete(url)).status_code == 404


async def test_store_false_keeps_the_answer_until_it_was_fetched(
    rig: Any, chat: Any, ended: Any
) -> None:
    async with rig.client() as client:
        url = (
            await client.post("/v1/chat/completions", json=chat | {"store": False}, headers=ASYNC)
        ).headers["location"]
        body = await ended(client, url)
        assert body["response"] is not None
        assert (await client.get(url)).status_code == 404


async def test_requests_are_listed_by_state(rig: Any, chat: Any, ended: Any) -> None:
    async with rig.client() as client:
        url = (await client.post("/v1/chat/completions", json=chat, headers=ASYNC)).headers[
            "location"
        ]
        await ended(client, url)
        assert len((await client.get("/v1/requests?state=completed,failed")).json()["data"]) == 1
        assert (await client.get("/v1/requests?state=running")).json()["data"] == []
        assert (await client.get("/v1/requests?state=nonsense")).status_code == 400
        assert (await client.get("/v1/requests?limit=0")).status_code == 400


async def test_a_foreign_id_is_404_and_a_foreign_list_is_empty(rig: Any, chat: Any) -> None:
    rig.deps = replace(rig.deps, keys=ApiKeys.parse("a=key-a,b=key-b"))
    async with rig.client() as client:
        mine, other = {"authorization": "Bearer key-a"}, {"authorization": "Bearer key-b"}
        url = (await client.post("/v1/chat/completions", json=chat, headers=ASYNC | mine)).headers[
            "location"
        ]
        for method, path in (
            ("GET", url),
            ("DELETE", url),
            ("POST", f"{url}/cancel"),
            ("GET", f"{url}/events"),
        ):
            answer = await client.request(method, path, headers=other)
            assert answer.status_code == 404, method
            assert answer.json()["error"]["code"] == "not_found"
        assert (await client.get("/v1/requests", headers=other)).json()["data"] == []
        assert (await client.get(url, headers=mine)).status_code == 200


async def test_background_work_that_could_not_be_written_is_refused_and_not_listed(
    rig: Any, chat: Any
) -> None:
    rig.log.fail_next("infer.requests", AppendFailed("down"))
    async with rig.client() as client:
        answer = await client.post("/v1/chat/completions", json=chat, headers=ASYNC)
        assert answer.status_code == 503
        assert (await client.get("/v1/requests")).json()["data"] == []


async def test_unfinished_work_of_a_tenant_is_bounded_over_all_replicas(
    rig: Any, chat: Any
) -> None:
    rig.deps = replace(rig.deps, keys=ApiKeys.parse("narrow=k"))
    rig.worker.script = lambda worker, request: ()
    async with rig.client(authorization="Bearer k") as client:
        codes = [
            (await client.post("/v1/chat/completions", json=chat, headers=ASYNC)).status_code
            for _ in range(3)
        ]
    assert codes == [202, 202, 429]
