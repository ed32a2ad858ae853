"""Feedback: what is accepted, what is refused, and that the last word counts."""

from dataclasses import replace
from typing import Any

import pytest

from functions.ingress.api import feedback
from functions.ingress.api_keys import ApiKeys

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "RECORDED_WAIT_S", 0.2)


async def answered(client: Any, chat: Any, **headers: str) -> str:
    reply = await client.post("/v1/chat/completions", json=chat, headers=headers)
    assert reply.status_code == 200
    return f"/v1/requests/{reply.headers['x-pickspin-request-id']}"


async def test_a_rating_right_after_the_answer_is_kept_and_shown(rig: Any, chat: Any) -> None:
    async with rig.client() as client:
        url = await answered(client, chat)
        said = await client.post(f"{url}/feedback", json={"rating": "up", "comment": "good"})
        listed = (await client.get(f"{url}/feedback")).json()
    assert said.status_code == 200
    assert said.json()["score"] == 1.0
    assert said.json()["model"] == "smol"
    assert said.json()["request_id"] == url.rpartition("/")[2]
    assert listed["data"] == [said.json()]


async def test_the_last_opinion_of_each_source_and_judge_counts(rig: Any, chat: Any) -> None:
    judge = {"source": "judge", "judge": "gpt", "score": 0.25}
    async with rig.client() as client:
        url = await answered(client, chat) + "/feedback"
        for body in (
            {"rating": "up"},
            {"rating": "down"},
            judge,
            judge | {"score": 0.5},
            judge | {"judge": "other", "score": 0.75},
            judge | {"model": "big", "score": 1},
        ):
            assert (await client.post(url, json=body)).status_code == 200
        found = (await client.get(url)).json()["data"]
    assert [(one["source"], one["judge"], one["model"], one["score"]) for one in found] == [
        ("user", None, "smol", 0.0),
        ("judge", "gpt", "smol", 0.5),
        ("judge", "other", "smol", 0.75),
        ("judge", "gpt", "big", 1.0),
    ]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "invalid_value", "score"),
        ({"score": 0.5, "rating": "up"}, "invalid_value", "score"),
        ({"score": True}, "invalid_value", "score"),
        ({"score": 1.01}, "invalid_value", "score"),
        ({"score": "1"}, "invalid_value", "score"),
        ({"rating": "meh"}, "invalid_value", "rating"),
        ({"rating": ["up"]}, "invalid_value", "rating"),
        ({"score": 1, "source": "me"}, "invalid_value", "source"),
        ({"score": 1, "source": ["user"]}, "invalid_value", "source"),
        ({"score": 1, "source": "judge"}, "invalid_value", "judge"),
        ({"score": 1, "judge": "j"}, "invalid_value", "judge"),
        ({"score": 1, "source": "judge", "judge": "two words"}, "invalid_value", "judge"),
        ({"score": 1, "model": "big"}, "invalid_value", "model"),
        ({"score": 1, "comment": "x" * 2001}, "invalid_value", "comment"),
        ({"score": 1, "stars": 5}, "unsupported_parameter", "stars"),
        ([], "invalid_body", None),
    ],
)
async def test_what_is_not_an_opinion_is_refused(
    rig: Any, body: Any, code: str, param: str | None
) -> None:
    async with rig.client() as client:
        reply = await client.post("/v1/requests/req_1/feedback", json=body)
    assert reply.status_code == 400
    assert (reply.json()["error"]["code"], reply.json()["error"]["param"]) == (code, param)


async def test_a_large_body_and_another_media_type_are_refused(rig: Any) -> None:
    async with rig.client() as client:
        url = "/v1/requests/req_1/feedback"
        large = await client.post(url, json={"score": 1, "comment": "x" * 20_000})
        text = await client.post(url, content=b"up", headers={"content-type": "text/plain"})
    assert (large.status_code, text.status_code) == (413, 415)


async def test_an_unknown_model_cannot_be_rated(rig: Any, chat: Any) -> None:
    async with rig.client() as client:
        url = await answered(client, chat) + "/feedback"
        body = {"source": "judge", "judge": "j", "score": 1, "model": "nobody"}
        reply = await client.post(url, json=body)
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] == "model_not_found"


async def test_unknown_and_foreign_requests_are_404(rig: Any, chat: Any) -> None:
    rig.deps = replace(rig.deps, keys=ApiKeys.parse("a=key-a,b=key-b"))
    mine, other = {"authorization": "Bearer key-a"}, {"authorization": "Bearer key-b"}
    async with rig.client() as client:
        url = await answered(client, chat, **mine) + "/feedback"
        assert (await client.post(url, json={"score": 1}, headers=other)).status_code == 404
        assert (await client.get(url, headers=other)).status_code == 404
        assert (await client.post(url, json={"score": 1})).status_code == 401
        unknown = "/v1/requests/req_unknown/feedback"
        assert (await client.post(unknown, json={"score": 1}, headers=mine)).status_code == 404
        assert (await client.post(url, json={"score": 1}, headers=mine)).status_code == 200


async def test_unfinished_failed_and_unstored_requests_cannot_be_rated(
    rig: Any, chat: Any, ended: Any
) -> None:
    scripts = {
        "going": lambda worker, request: worker.progress(request),
        "failed": lambda worker, request: worker.failed(request, "backend_failed"),
    }

    def script(worker: Any, request: Any) -> Any:
        return scripts.get(request.body.get("user"), complete)(worker, request)

    complete, rig.worker.script = rig.worker.script, script
    later = {"prefer": "respond-async"}
    async with rig.client() as client:
        going, failed = [
            (
                await client.post("/v1/chat/completions", json=chat | {"user": user}, headers=later)
            ).headers
            for user in scripts
        ]
        await ended(client, failed["location"])
        unstored = await answered(client, chat | {"store": False})
        found = [
            await client.post(f"{url}/feedback", json={"score": 1})
            for url in (going["location"], failed["location"], unstored)
        ]
    assert [reply.status_code for reply in found] == [409, 409, 409]
    assert [reply.json()["error"]["code"] for reply in found] == [
        "not_finished",
        "not_rateable",
        "not_rateable",
    ]
    assert [reply.headers["x-should-retry"] for reply in found] == ["true", "false", "false"]


async def test_opinions_of_one_request_are_bounded(
    rig: Any, chat: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "MAX_FEEDBACK", 2)
    async with rig.client() as client:
        url = await answered(client, chat) + "/feedback"
        judges = [{"source": "judge", "judge": f"j{i}", "score": 1} for i in (0, 1, 2, 0)]
        found = [(await client.post(url, json=body)).status_code for body in judges]
    assert found == [200, 200, 409, 200]


async def test_feedback_goes_with_its_request(rig: Any, chat: Any) -> None:
    async with rig.client() as client:
        url = await answered(client, chat)
        assert (await client.post(f"{url}/feedback", json={"score": 1})).status_code == 200
        assert (await client.delete(url)).status_code == 200
        assert (await client.get(f"{url}/feedback")).status_code == 404
    assert rig.deps.store.feedback(url.rpartition("/")[2]) == []
