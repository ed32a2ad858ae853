"""`/v1/models` lists what is asleep too, and says when it wakes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace as replace_entry

from events.names import BreakerState, ReplicaState
from events.payloads import ServerInfo, StatusData
from functions.ingress.api_keys import ApiKeys
from router_model.catalogue.model import Backend, Cascade, Service
from router_model.service_registry import Registry

pytestmark = pytest.mark.anyio


def status(state: ReplicaState, **more: Any) -> StatusData:
    return StatusData(service="smol", replica="0", state=state, at=datetime.now(UTC), **more)


async def test_a_model_nobody_runs_is_listed_cold_with_an_estimate(rig: Any) -> None:
    async with rig.client() as client:
        body = (await client.get("/v1/models")).json()
    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]][:3] == ["smol", "org/embed-1", "big"]
    embed = body["data"][1]
    assert embed["object"] == "model"
    assert embed["pickspin"]["state"] == "cold"
    assert embed["pickspin"]["eta_s"] == 2.0
    assert embed["pickspin"]["services"][0]["service"] == "org-embed-1"
    assert body["data"][2]["pickspin"]["simulated"] is True
    assert body["data"][0]["pickspin"]["tier"] == "L1"


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (ReplicaState.STARTING, "starting"),
        (ReplicaState.LOADING, "loading"),
        (ReplicaState.WARMING, "warming"),
        (ReplicaState.READY, "warm"),
        (ReplicaState.FAILED, "failed"),
    ],
)
async def test_the_state_is_the_registrys(rig: Any, state: ReplicaState, shown: str) -> None:
    rig.registry[0] = Registry().apply(status(state, eta_s=3.2, progress=0.4))
    async with rig.client() as client:
        body = (await client.get("/v1/models/smol")).json()
    assert body["pickspin"]["state"] == shown
    if state is ReplicaState.READY:
        assert body["pickspin"]["eta_s"] == 0.0


async def test_a_breaker_and_why_it_is_open_are_shown(rig: Any) -> None:
    now = rig.deps.clock.now()
    resting = status(
        ReplicaState.READY,
        breaker=BreakerState.OPEN,
        retry_at=now + timedelta(seconds=60),
        message="most of its last calls failed",
    )
    rig.registry[0] = Registry().apply(resting)
    async with rig.client() as client:
        shown = (await client.get("/v1/models/smol")).json()["pickspin"]["services"][0]
    assert (shown["state"], shown["breaker"], shown["healthy"]) == ("warm", "open", False)
    assert 0 < shown["retry_in_s"] <= 60
    assert shown["message"] == "most of its last calls failed"
    rig.registry[0] = Registry().apply(status(ReplicaState.FAILED, failed_starts=2))
    async with rig.client() as client:
        shown = (await client.get("/v1/models/smol")).json()["pickspin"]["services"][0]
    assert (shown["breaker"], shown["healthy"], shown["failed_starts"]) == ("closed", False, 2)


async def test_what_its_server_says_of_itself_is_shown_and_counts_more(rig: Any) -> None:
    said = ServerInfo(kind="ollama", model="smol:latest", context_length=131_072, tools=False)
    rig.registry[0] = Registry().apply(status(ReplicaState.READY, server=said))
    async with rig.client() as client:
        shown = (await client.get("/v1/models/smol")).json()["pickspin"]
    assert shown["context_length"] == 131_072
    service = shown["services"][0]
    assert service["upstream_model"] == "smol:latest"
    assert (service["server"]["kind"], service["server"]["tools"]) == ("ollama", False)
    assert service["server"]["vision"] is None


async def test_an_id_with_a_slash_can_be_asked_for(rig: Any) -> None:
    async with rig.client() as client:
        assert (await client.get("/v1/models/org/embed-1")).json()["id"] == "org/embed-1"


async def test_an_unknown_model_is_404_in_openais_shape(rig: Any) -> None:
    async with rig.client() as client:
        answer = await client.get("/v1/models/none")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


async def test_every_name_that_can_be_asked_for_is_listed_and_is_itself(rig: Any) -> None:
    steps = Cascade(steps=("smol", "big"))
    rig.use(catalogue=replace_entry(rig.deps.catalogue, cascades={"careful": steps}))
    async with rig.client() as client:
        listed = (await client.get("/v1/models")).json()["data"]
        kinds = {model["id"]: model["pickspin"].get("virtual") for model in listed}
        assert kinds == {
            "smol": None, "org/embed-1": None, "big": None, "auto": "auto", "gpt-4o": "alias",
            "summarize": "task", "nightly": "task", "careful": "cascade",
        }  # fmt: skip
        for model in listed:
            assert {"id", "object", "created", "owned_by"} <= model.keys()
            again = (await client.get(f"/v1/models/{model['id']}")).json()
            assert (again["id"], again["object"]) == (model["id"], "model")


async def test_a_name_that_stands_for_models_says_which_and_how_they_are(rig: Any) -> None:
    rig.registry[0] = Registry().apply(status(ReplicaState.READY))
    async with rig.client() as client:
        found = (await client.get("/v1/models/auto")).json()["pickspin"]
        assert found["of"] == ["smol", "org/embed-1", "big"]
        assert (found["state"], found["eta_s"], found["simulated"]) == ("warm", 0.0, False)
        assert set(found["capabilities"]) == {"chat", "completions", "embeddings"}
        alias = (await client.get("/v1/models/gpt-4o")).json()
        assert alias["pickspin"]["of"] == ["smol"]


async def test_a_name_whose_models_are_all_off_is_not_listed(rig: Any) -> None:
    services = [
        replace_entry(service, enabled=service.model != "smol")
        for service in rig.deps.catalogue.services
    ]
    rig.use(catalogue=replace_entry(rig.deps.catalogue, services=tuple(services)))
    async with rig.client() as client:
        listed = [model["id"] for model in (await client.get("/v1/models")).json()["data"]]
        assert listed == ["org/embed-1", "big", "auto"]
        assert (await client.get("/v1/models/gpt-4o")).status_code == 404


async def test_what_the_server_itself_calls_the_model_is_shown(rig: Any) -> None:
    backend = Backend(kind="openai", args={"model": "SmolLM2-135M.Q8_0.gguf"})
    services = (Service(model="smol", slug="smol", backend=backend),)
    rig.use(catalogue=replace_entry(rig.deps.catalogue, services=services))
    async with rig.client() as client:
        shown = (await client.get("/v1/models/smol")).json()["pickspin"]["services"]
    assert shown[0]["upstream_model"] == "SmolLM2-135M.Q8_0.gguf"


async def test_a_tenant_sees_only_its_models(rig: Any) -> None:
    rig.deps = replace(rig.deps, keys=ApiKeys.parse("narrow=secret"))
    async with rig.client(authorization="Bearer secret") as client:
        body = (await client.get("/v1/models")).json()
        own, *virtual = body["data"]
        assert own["id"] == "smol"
        assert all(model["pickspin"]["of"] == ["smol"] for model in virtual)
        refused = await client.post(
            "/v1/chat/completions",
            json={"model": "big", "messages": [{"role": "user", "content": "x"}]},
        )
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "model_not_allowed"
