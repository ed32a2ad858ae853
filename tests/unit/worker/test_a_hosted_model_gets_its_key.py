"""A server that others run gets its key and its own name of the model; the key is seen nowhere else."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from events.names import COMPLETED, ReplicaState, Topics
from functions.runtime.errors import StartupFailed
from functions.runtime.process_environment import read_backend_key, server_environ
from functions.runtime.settings import Settings, WorkerSettings
from functions.runtime.system_clock import SystemClock
from functions.worker.backend_client import open_http
from functions.worker.main import WorkerDependencies, build_worker
from router_model.catalogue.model import Backend, Catalogue, Model, Service, Weights
from router_model.catalogue.validation import check_catalogue

TOPICS = Topics()
KEY = "sk-planted-4711"
ANSWER = {
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


@dataclass
class Hosted:
    """A server that answers 401 without the key."""

    port: int = 0
    models: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                length = next(
                    (int(s[15:]) for s in head.split("\r\n") if s.startswith("content-length:")), 0
                )
                body = await reader.readexactly(length)
                is_known = f"authorization: bearer {KEY}" in head
                if is_known and body:
                    self.models.append(json.loads(body)["model"])
                said = json.dumps(ANSWER if is_known else {"error": {"message": KEY}}).encode()
                status = b"200 OK" if is_known else b"401 No"
                writer.write(
                    b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
                    % (status, len(said), said)
                )
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def hosted() -> AsyncIterator[Hosted]:
    found = Hosted()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    async with server:
        yield found


def catalogue(port: int, **backend: Any) -> Catalogue:
    given = {"kind": "openai", "key_env": "VENDOR_KEY", "args": {"model": "vendor/large-2"}}
    return Catalogue(
        models=(Model(id="small", weights=Weights(url=f"http://127.0.0.1:{port}/v1")),),
        services=(Service(model="small", slug="small", backend=Backend(**(given | backend))),),
    )


def everything_written(found: Any) -> str:
    topics = (TOPICS.status, TOPICS.responses, TOPICS.replies, TOPICS.progress, TOPICS.dlq)
    return repr([found.log.records(topic) for topic in topics])


def test_the_key_opens_the_server_and_is_seen_nowhere_else(
    stand: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("VENDOR_KEY", f" {KEY}\n")
    caplog.set_level(logging.DEBUG)

    async def scenario() -> None:
        async with stand() as found, hosted() as server:
            async with found.worker(catalogue(server.port)):
                event, data = await found.terminal(found.send())
                assert event.type == COMPLETED
                assert data["model"] == "small"
            assert set(server.models) == {"vendor/large-2"}
            assert KEY not in everything_written(found)

    asyncio.run(scenario())
    ours = [r for r in caplog.records if not r.name.startswith("httpcore")]
    assert KEY not in " ".join(f"{r.getMessage()} {vars(r)}" for r in ours)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "VENDOR_KEY (backend.key_env) is not set"),
        ("", "is not set"),
        ("a\tb", "holds no key"),
        ("wrong", "answers 401"),
    ],
)
def test_without_the_right_key_the_start_fails_and_says_so(
    stand: Any, monkeypatch: pytest.MonkeyPatch, value: str | None, words: str
) -> None:
    monkeypatch.delenv("VENDOR_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("VENDOR_KEY", value)

    async def scenario() -> None:
        async with stand() as found, hosted() as server:
            dependencies = WorkerDependencies(
                log=found.log, blobs=found.blobs, clock=SystemClock(), data_dir=found.data_dir
            )
            settings = Settings(
                worker=WorkerSettings(service="small", unreachable_s=0.1, failed_starts=1)
            )
            waiting = found.send(wait_s=60.0)
            worker = await build_worker(settings, catalogue(server.port), dependencies)
            assert await asyncio.wait_for(worker.run(), 20) == 1
            last = json.loads(found.events(TOPICS.status)[-1].data)
            assert last["state"] == ReplicaState.FAILED
            assert words in last["message"]
            assert await found.code(waiting) == "no_healthy_service"
            assert KEY not in everything_written(found)
            if value:
                assert value not in everything_written(found)

    asyncio.run(scenario())


def test_a_client_does_not_show_its_key() -> None:
    async def scenario() -> None:
        async with open_http("https://vendor.example", concurrency=1, key=KEY) as http:
            assert http.headers["authorization"] == f"Bearer {KEY}"
            assert KEY not in repr(http.headers)

    asyncio.run(scenario())


def test_servers_that_are_started_here_see_no_keys_of_others() -> None:
    environ = {"VENDOR_KEY": KEY, "PATH": "/bin", "PICKSPIN_PORT": "1"}
    assert server_environ({"A": "b"}, environ, hidden={"VENDOR_KEY"}) == {"PATH": "/bin", "A": "b"}


def test_a_key_that_is_not_there_is_named() -> None:
    assert read_backend_key("VENDOR_KEY", {"VENDOR_KEY": f"{KEY}\n"}) == KEY
    with pytest.raises(StartupFailed, match="OTHER"):
        read_backend_key("OTHER", {})


@pytest.mark.parametrize("name", ["sk-planted-4711", "vendor_key", "PICKSPIN_API_KEYS", "", "9A"])
def test_the_catalogue_takes_the_name_of_a_variable_and_no_key(name: str) -> None:
    (problem,) = check_catalogue(catalogue(80, key_env=name))
    assert problem.path == "services[0].backend.key_env"
    assert name == "" or name not in problem.message


def test_only_a_server_that_is_reached_by_url_has_a_key() -> None:
    local = Catalogue(
        models=(Model(id="small", weights=Weights(path="/m.gguf")),),
        services=(Service(model="small", slug="small", backend=Backend(key_env="VENDOR_KEY")),),
    )
    assert ["services[0].backend.key_env"] == [problem.path for problem in check_catalogue(local)]
