"""/healthz, /readyz and /metrics of a process: what they say, and a /readyz that waits a moment for it."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest
from prometheus_client import CollectorRegistry

from functions.runtime import probe_server
from functions.runtime.errors import StartupFailed
from functions.runtime.probe_server import ProbeServer
from functions.worker.early_listener import open_listener


class Process:
    """What is probed."""

    def __init__(self) -> None:
        self.is_up = False
        self.asked = asyncio.Event()

    def is_ready(self) -> bool:
        self.asked.set()
        return self.is_up


def probed(check: Callable[[Process, httpx.AsyncClient], Awaitable[None]]) -> None:
    async def run() -> None:
        process = Process()
        server = ProbeServer(
            is_ready=process.is_ready, is_live=lambda: True, registry=CollectorRegistry()
        )
        port = await server.start("127.0.0.1", 0)
        root = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=root, trust_env=False) as http:
            await check(process, http)
        await server.close()

    asyncio.run(run())


def test_ready_says_what_is_so_at_once() -> None:
    async def check(process: Process, http: httpx.AsyncClient) -> None:
        assert (await http.get("/readyz")).status_code == 503
        process.is_up = True
        assert (await http.get("/readyz")).status_code == 200
        assert (await http.get("/healthz")).status_code == 200
        assert (await http.get("/metrics")).status_code == 200
        assert (await http.get("/else")).status_code == 404
        assert (await http.post("/readyz")).status_code == 405
        for earlier in ("/live", "/ready", "/ready/wait"):
            assert (await http.get(earlier)).status_code == 200

    probed(check)


def test_a_ready_that_waits_is_answered_when_it_becomes_so() -> None:
    async def check(process: Process, http: httpx.AsyncClient) -> None:
        waiting = asyncio.create_task(http.get("/readyz/wait"))
        await process.asked.wait()
        assert not waiting.done()
        process.is_up = True
        assert (await waiting).status_code == 200

    probed(check)


def test_a_ready_that_waits_in_vain_says_so_before_the_probe_gives_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert probe_server._HOLD_S < 1.0
    monkeypatch.setattr(probe_server, "_HOLD_S", 0.05)

    async def check(_process: Process, http: httpx.AsyncClient) -> None:
        assert (await http.get("/readyz/wait")).status_code == 503

    probed(check)


def test_a_probe_that_comes_before_the_server_is_there_is_answered_by_it() -> None:
    async def run() -> None:
        with open_listener("127.0.0.1", 0) as listener:
            port = listener.getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /readyz/wait HTTP/1.1\r\nhost: x\r\n\r\n")
            process = Process()
            server = ProbeServer(
                is_ready=process.is_ready, is_live=lambda: True, registry=CollectorRegistry()
            )
            assert await server.start("ignored", 1, listener) == port
            await process.asked.wait()
            process.is_up = True
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            writer.close()
            await server.close()

    asyncio.run(run())


def test_a_port_that_is_taken_is_said_by_its_setting() -> None:
    with (
        open_listener("127.0.0.1", 0) as taken,
        pytest.raises(StartupFailed, match="PICKSPIN_WORKER_PORT"),
    ):
        open_listener("127.0.0.1", taken.getsockname()[1])
