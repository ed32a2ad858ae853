"""From nothing to ready and back: the local model server, its failures, the probes, the status events."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from events.codecs import kafka_codec
from events.names import ReplicaState, Topics
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import Settings, WorkerSettings
from functions.runtime.system_clock import SystemClock
from functions.testing.memory_broker import MemoryBlobs, MemoryLog
from functions.worker.main import WorkerDependencies, build_worker, find_service, own_catalogue
from functions.worker.replica import Worker, expected_cold_start_s, remember_cold_start
from router_model.catalogue.model import Backend, Catalogue, Model, Service

TOPICS = Topics()


def catalogue(start_timeout_s: float = 10.0, **args: float) -> Catalogue:
    return Catalogue(
        models=(Model(id="m", simulated=True),),
        services=(
            Service(
                model="m",
                slug="m",
                backend=Backend(kind="fake", args=args),
                start_timeout_s=start_timeout_s,
                cold_start_s=1.0,
            ),
        ),
    )


async def build(log: MemoryLog, tmp_path: Path, found: Catalogue) -> Worker:
    dependencies = WorkerDependencies(
        log=log, blobs=MemoryBlobs(), clock=SystemClock(), data_dir=tmp_path
    )
    settings = Settings(worker=WorkerSettings(service="m", replica="7", drain_s=1.0))
    return await build_worker(settings, found, dependencies)


def statuses(log: MemoryLog) -> list[dict[str, Any]]:
    return [
        json.loads(kafka_codec.from_record(record).data or b"null")
        for record in log.records(TOPICS.status)
    ]


def test_a_local_model_goes_from_starting_to_ready_to_stopped(
    tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    async def scenario() -> None:
        log = MemoryLog()
        worker = await build(log, tmp_path, catalogue(load_s=0.3))
        running = asyncio.create_task(worker.run())
        await wait_until(lambda: worker.port)
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{worker.port}", trust_env=False
        ) as http:
            assert (await http.get("/readyz")).status_code == 503
            assert (await http.get("/healthz")).status_code == 200
            await wait_until(worker.is_ready)
            assert (await http.get("/readyz")).status_code == 200
            assert "pickspin_in_flight" in (await http.get("/metrics")).text
            assert (await http.get("/other")).status_code == 404
            assert (await http.post("/readyz")).status_code == 405
        worker.stop()
        assert await running == 0
        said = statuses(log)
        states = [entry["state"] for entry in said]
        assert states[0] == "starting"
        assert [s for i, s in enumerate(states) if i == 0 or states[i - 1] != s] == [
            "starting",
            "loading",
            "warming",
            "ready",
            "draining",
            "stopped",
        ]
        assert {(entry["service"], entry["replica"]) for entry in said} == {("m", "7")}
        progress = [entry["progress"] for entry in said if entry["state"] == "loading"]
        assert progress == sorted(progress)
        assert all(entry["eta_s"] is not None for entry in said if entry["state"] == "loading")
        assert {record.key for record in log.records(TOPICS.status)} == {b"m/7"}

    asyncio.run(scenario())


def test_a_model_server_that_dies_takes_its_worker_out_of_the_group(
    tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    async def scenario() -> None:
        log = MemoryLog()
        worker = await build(log, tmp_path, catalogue())
        running = asyncio.create_task(worker.run())
        await wait_until(worker.is_ready)
        process = worker._parts.server._process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        assert await asyncio.wait_for(running, 10) == 1
        assert statuses(log)[-1]["state"] == ReplicaState.FAILED
        assert "model server" in statuses(log)[-1]["message"]
        assert log.groups[TOPICS.worker_group("m")].topics == {}

    asyncio.run(scenario())


@pytest.mark.parametrize("args", [{"load_s": 60.0}, {"no_such_flag": 1.0}])
def test_a_model_that_does_not_come_up_fails_the_worker(
    tmp_path: Path, args: dict[str, float]
) -> None:
    async def scenario() -> None:
        log = MemoryLog()
        worker = await build(log, tmp_path, catalogue(1.0, **args))
        assert await asyncio.wait_for(worker.run(), 15) == 1
        assert statuses(log)[-1]["state"] == ReplicaState.FAILED
        assert (
            TOPICS.worker_group("m") not in log.groups
            or not log.groups[TOPICS.worker_group("m")].commits
        )

    asyncio.run(scenario())


def test_a_stop_while_loading_ends_at_once(tmp_path: Path, wait_until: Callable[..., Any]) -> None:
    async def scenario() -> None:
        log = MemoryLog()
        worker = await build(log, tmp_path, catalogue(load_s=60.0))
        running = asyncio.create_task(worker.run())
        await wait_until(lambda: statuses(log)[-1]["state"] == "loading")
        worker.stop()
        assert await asyncio.wait_for(running, 5) == 0
        assert statuses(log)[-1]["state"] == "stopped"

    asyncio.run(scenario())


def test_an_unknown_service_says_what_there_is() -> None:
    with pytest.raises(StartupFailed, match="it has: m"):
        find_service(catalogue(), "other")


def test_what_is_pinned_is_served_and_what_cannot_be_read_stops_the_start() -> None:
    pinned = {"model": {"id": "m", "simulated": True}, "service": {"model": "m", "concurrency": 9}}
    settings = Settings(worker=WorkerSettings(service="m", pinned=json.dumps(pinned)))
    service, model = find_service(own_catalogue(settings), "m")
    assert (service.concurrency, model.simulated) == (9, True)
    broken = Settings(worker=WorkerSettings(service="m", pinned="{"))
    with pytest.raises(StartupFailed, match="PICKSPIN_WORKER_PINNED"):
        own_catalogue(broken)


def test_the_measured_cold_start_replaces_the_prior(tmp_path: Path) -> None:
    path = tmp_path / "cold_start" / "m.json"
    assert expected_cold_start_s(path, 5.0) == 5.0
    remember_cold_start(path, 2.25)
    assert expected_cold_start_s(path, 5.0) == 2.25
    path.write_text('{"seconds": "x"}')
    assert expected_cold_start_s(path, 5.0) == 5.0
