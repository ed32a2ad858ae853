"""When a model server has warmed up the worker knows its name of the model, what it is and what it can do."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from events.names import FAILED, STATUS, Topics
from router_model.catalogue.model import Backend, Catalogue, Model, Service, Weights

pytestmark = pytest.mark.anyio

CHOICE = {
    "index": 0,
    "message": {"role": "assistant", "content": "yes"},
    "finish_reason": "stop",
}


class Server:
    """A model server on loopback: the documents that it has, and the bodies of the calls that it got."""

    def __init__(self, documents: dict[str, Any], known: set[str] | None = None) -> None:
        self.documents, self.known, self.calls = documents, known, []  # type: ignore[var-annotated]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                path = head.split(" ", 2)[1]
                length = [line for line in head.lower().split("\r\n") if "content-length:" in line]
                size = int(length[0].split(":")[1]) if length else 0
                status, found = self.reply(path, await reader.readexactly(size))
                raw = json.dumps(found).encode()
                writer.write(
                    b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(raw), raw)
                )
                await writer.drain()
        writer.close()

    def reply(self, path: str, raw: bytes) -> tuple[int, Any]:
        if path == "/v1/chat/completions":
            body = json.loads(raw)
            self.calls.append(body)
            if self.known is not None and body["model"] not in self.known:
                return 404, {"error": {"message": "no such model", "code": 404}}
            return 200, {"choices": [CHOICE], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
        found = self.documents.get(path)
        return (404, {}) if found is None else (200, found)


@contextlib.asynccontextmanager
async def serving(server: Server) -> AsyncIterator[str]:
    listening = await asyncio.start_server(server.answer, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
        listening.close()


def catalogue(url: str, **args: str) -> Catalogue:
    backend = Backend(kind="openai", args=args)
    return Catalogue(
        models=(Model(id="small", weights=Weights(url=url)),),
        services=(Service(model="small", slug="small", backend=backend, start_timeout_s=5.0),),
    )


def models(*names: str, owner: str = "someone") -> dict[str, Any]:
    return {"/v1/models": {"data": [{"id": name, "owned_by": owner} for name in names]}}


def last_status(on: Any) -> dict[str, Any]:
    found = [event for event in on.events(Topics().status) if event.type == STATUS]
    return msgspec.json.decode(found[-1].data)  # type: ignore[no-any-return]


async def test_the_only_model_is_asked_by_its_own_name(stand: Any) -> None:
    server = Server(models("org/some-70b"), known={"org/some-70b"})
    async with stand() as on, serving(server) as url, on.worker(catalogue(url)):
        await on.terminal(on.send())
        assert {call["model"] for call in server.calls} == {"org/some-70b"}
        assert last_status(on)["server"]["model"] == "org/some-70b"


async def test_several_models_are_named_in_the_status_and_nothing_is_called(stand: Any) -> None:
    server = Server(models("first", "second"))
    async with stand() as on, serving(server) as url, on.worker(catalogue(url)):
        assert "it has: first, second" in last_status(on)["message"]
    assert server.calls == []


async def test_a_configured_name_that_is_unknown_is_told_with_those_that_are(stand: Any) -> None:
    server = Server(models("first", "second"), known={"first"})
    async with (
        stand() as on,
        serving(server) as url,
        on.worker(catalogue(url, model="third")),
    ):
        message = last_status(on)["message"]
    assert "no model 'third'" in message
    assert "first, second" in message


async def test_what_an_unknown_server_is_and_can_is_read_and_holds(stand: Any) -> None:
    documents = {
        **models("small:latest", owner="library"),
        "/api/version": {"version": "0.12.6"},
        "/api/show": {"capabilities": ["completion"]},
    }
    server = Server(documents)
    async with stand() as on, serving(server) as url, on.worker(catalogue(url)):
        said = last_status(on)["server"]
        assert (said["kind"], said["version"], said["tools"]) == ("ollama", "0.12.6", False)
        warm_up = len(server.calls)
        body = {
            "messages": [{"role": "user", "content": "hi"}],
            "tools": [{"type": "function", "function": {"name": "f"}}],
        }
        terminal, found = await on.terminal(on.send(body=body))
        error = found["error"]
        assert (terminal.type, error["code"], error["param"]) == (
            FAILED,
            "capability_missing",
            "tools",
        )
        body = {"messages": body["messages"], "top_k": 3}
        _, found = await on.terminal(on.send(body=body))
        error = found["error"]
        assert (error["code"], error["param"]) == ("unsupported_parameter", "top_k")
        assert len(server.calls) == warm_up
