"""Probes tell the truth; the document of the doors lists them all."""

from concurrent.futures import Future
from typing import Any

import jsonschema
import msgspec
import pytest

from functions.ingress import background_tasks
from functions.ingress.api.openapi import build
from functions.ingress.api_keys import ApiKeys
from functions.ingress.app import ENDPOINTS
from functions.ingress.background_tasks import probe
from functions.ingress.readiness import Health, ReadinessCheck
from functions.runtime.errors import AppendFailed
from functions.testing.fake_clock import FakeClock

pytestmark = pytest.mark.anyio


async def test_ready_means_every_check_is_met(rig: Any) -> None:
    clock = FakeClock()
    caught_up = [False]
    rig.use(
        health=Health(clock, lambda: (ReadinessCheck("replies_followed", caught_up[0]),)),
        clock=clock,
    )
    async with rig.client() as client:
        for path in ("/healthz", "/health"):
            assert (await client.get(path)).status_code == 200
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "not_ready"
        assert answer.json()["checks"] == {
            "replies_followed": False,
            "broker_writable": False,
            "not_draining": True,
        }
        caught_up[0] = True
        await probe(rig.deps)
        assert (await client.get("/readyz")).status_code == 200
        clock.advance(11)
        assert (await client.get("/readyz")).status_code == 503
        await probe(rig.deps)
        rig.deps.health.drain()
        assert (await client.get("/readyz")).json()["checks"]["not_draining"] is False


async def test_a_failed_append_is_not_ready_until_one_succeeds(rig: Any, chat: Any) -> None:
    async with rig.client() as client:
        await probe(rig.deps)
        assert (await client.get("/readyz")).status_code == 200
        rig.log.fail_next("infer.requests", AppendFailed("down"))
        await client.post("/v1/chat/completions", json=chat)
        assert (await client.get("/readyz")).status_code == 503
        await probe(rig.deps)
        assert (await client.get("/readyz")).status_code == 200


async def test_while_the_cluster_is_down_nobody_waits_for_a_timeout(rig: Any, chat: Any) -> None:
    clock = FakeClock()
    rig.use(health=Health(clock, tuple))
    calls = ({}, {"prefer": "respond-async"}, {"idempotency-key": "k"})
    async with rig.client() as client:
        for headers in calls:
            answer = await client.post("/v1/chat/completions", json=chat, headers=headers)
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "not_accepted"
            assert int(answer.headers["retry-after"]) >= 1
        assert rig.log.records("infer.requests") == ()
        await probe(rig.deps)
        for headers in calls:
            answer = await client.post("/v1/chat/completions", json=chat, headers=headers)
            assert answer.is_success
        rig.deps.health.note_failure()
        assert not rig.deps.health.is_down()
        clock.advance(3)
        assert rig.deps.health.is_down()


async def test_a_probe_that_is_not_acknowledged_in_time_has_failed(
    rig: Any, monkeypatch: Any
) -> None:
    class Silent:
        def append(self, record: Any) -> Any:
            return Future()

    monkeypatch.setattr(background_tasks, "PROBE_ANSWER_S", 0.05)
    rig.use(appender=Silent())
    await probe(rig.deps)
    assert not rig.deps.health.is_ready()


async def test_the_probe_reaches_no_waiter_and_is_not_counted_as_dropped(
    rig: Any, chat: Any
) -> None:
    async with rig.client() as client:
        await probe(rig.deps)
        assert (await client.post("/v1/chat/completions", json=chat)).status_code == 200
    assert rig.dropped == []


async def test_metrics_count_requests_and_refusals(rig: Any, chat: Any) -> None:
    async with rig.client() as client:
        await client.post("/v1/chat/completions", json=chat)
        await client.post("/v1/chat/completions", json=chat | {"model": "none"})
        text = (await client.get("/metrics")).text
    assert 'pickspin_requests_total{door="sync",operation="chat",outcome="completed"} 1.0' in text
    assert 'pickspin_refusals_total{code="model_not_found"} 1.0' in text
    assert "pickspin_waiters 0.0" in text


async def test_the_document_lists_exactly_what_is_served(rig: Any) -> None:
    async with rig.client() as client:
        document = (await client.get("/openapi.json")).json()
    served = {
        (method.lower(), route.path.replace(":path", ""))
        for route in rig.app().routes
        for method in route.methods - {"HEAD"}
    }
    listed = {(method, path) for path, found in document["paths"].items() for method in found}
    assert listed == served
    ids = [found["operationId"] for path in document["paths"].values() for found in path.values()]
    assert len(ids) == len(set(ids))


async def test_every_reference_of_the_document_resolves() -> None:
    document = build(ENDPOINTS)
    schemas = document["components"]["schemas"]
    for name in schemas:
        jsonschema.Draft202012Validator.check_schema(schemas[name])

    def list_references(node: Any) -> Any:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            for child in node.values():
                yield from list_references(child)
        elif isinstance(node, list):
            for child in node:
                yield from list_references(child)

    for reference in set(list_references(document)):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


@pytest.mark.parametrize(
    ("host", "keys", "setting", "status"),
    [
        ("127.0.0.1", "me=secret", "auto", 200),
        ("0.0.0.0", "me=secret", "auto", 401),
        ("0.0.0.0", "me=secret", "open", 200),
        ("127.0.0.1", "me=secret", "key", 401),
        ("127.0.0.1", "", "key", 200),
    ],
)
async def test_metrics_ask_for_a_key_where_others_could_read_them(
    rig: Any, host: str, keys: str, setting: str, status: int
) -> None:
    ingress = msgspec.structs.replace(rig.deps.settings.ingress, host=host, metrics=setting)
    settings = msgspec.structs.replace(rig.deps.settings, ingress=ingress)
    rig.use(settings=settings, keys=ApiKeys.parse(keys))
    async with rig.client() as client:
        assert (await client.get("/metrics")).status_code == status
        headers = {"authorization": "Bearer secret"}
        found = await client.get("/metrics", headers=headers)
    assert found.status_code == 200
    assert "process_resident_memory_bytes" in found.text
    assert "process_cpu_seconds_total" in found.text
