"""A store that is locked, a disk that is full: every door says 503 and when to try again, and nothing is claimed."""

import json
from typing import Any, BinaryIO

import msgspec
import pytest

from functions.ports.store import KeyUse
from functions.runtime.errors import StoreFailed
from functions.storage.blob_directory import BlobDirectory
from functions.testing.memory_broker import MemoryBlobs

pytestmark = pytest.mark.anyio
KEY = {"idempotency-key": "k-1"}
CHAT = {"model": "smol", "messages": [{"role": "user", "content": "hi"}]}
EVENT = {
    "ce-specversion": "1.0",
    "ce-id": "order-1",
    "ce-source": "/shop",
    "ce-type": "io.pickspin.inference.request.v1",
}
BATCH = {"endpoint": "/v1/embeddings", "input_file_id": "file-1"}
CALLS: tuple[tuple[str, str, Any, dict[str, str]], ...] = (
    ("POST", "/v1/chat/completions", CHAT, KEY),
    ("POST", "/v1/chat/completions", CHAT | {"stream": True}, KEY),
    ("POST", "/v1/chat/completions", CHAT, {"prefer": "respond-async"}),
    ("POST", "/v1/chat/completions", CHAT | {"callback": "https://hooks.example.org/"}, {}),
    ("POST", "/v1/chat/completions", CHAT, {"prefer": "wait=1"}),
    ("POST", "/v1/completions", {"model": "smol", "prompt": "hi"}, KEY),
    ("POST", "/v1/embeddings", {"model": "org/embed-1", "input": "hi"}, KEY),
    ("POST", "/v1/responses", {"model": "smol", "input": "hi"}, {}),
    ("POST", "/v1/responses", {"model": "smol", "input": "hi", "background": True}, {}),
    ("GET", "/v1/responses/r", None, {}),
    ("DELETE", "/v1/responses/r", None, {}),
    ("POST", "/v1/responses/r/cancel", None, {}),
    ("GET", "/v1/requests", None, {}),
    ("GET", "/v1/requests/r", None, {}),
    ("DELETE", "/v1/requests/r", None, {}),
    ("POST", "/v1/requests/r/cancel", None, {}),
    ("GET", "/v1/requests/r/events", None, {}),
    ("GET", "/v1/requests/r/feedback", None, {}),
    ("POST", "/v1/requests/r/feedback", {"rating": "up"}, {}),
    ("GET", "/v1/files", None, {}),
    ("GET", "/v1/files/file-1", None, {}),
    ("GET", "/v1/files/file-1/content", None, {}),
    ("DELETE", "/v1/files/file-1", None, {}),
    ("GET", "/v1/batches", None, {}),
    ("POST", "/v1/batches", BATCH, {}),
    ("GET", "/v1/batches/batch_1", None, {}),
    ("POST", "/v1/batches/batch_1/cancel", None, {}),
    ("POST", "/v1/callbacks", {"url": "https://hooks.example.org/"}, {}),
    ("GET", "/v1/callbacks/cb_1", None, {}),
    ("DELETE", "/v1/callbacks/cb_1", None, {}),
    ("POST", "/", CHAT, EVENT),
)


class Locked:
    """A store that another process holds: every call fails as SQLite's do when their patience is over."""

    def __getattr__(self, name: str) -> Any:
        def fail(*_: Any, **__: Any) -> Any:
            raise StoreFailed("OperationalError", is_transient=True)

        return fail


class Full(MemoryBlobs):
    """Blobs on a disk without room."""

    def put(self, data: bytes) -> str:
        raise OSError(28, "No space left on device")

    def put_file(self, source: BinaryIO) -> str:
        return self.put(source.read())


def assert_try_again(answer: Any) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.json()["error"]["code"] == "storage_unavailable"
    assert answer.headers["x-should-retry"] == "true"
    assert 1 <= int(answer.headers["retry-after"]) <= 120


@pytest.mark.parametrize(("method", "path", "body", "headers"), CALLS)
async def test_every_door_says_when_to_try_a_locked_store_again(
    rig: Any, method: str, path: str, body: Any, headers: dict[str, str]
) -> None:
    rig.use(store=Locked())
    async with rig.client() as client:
        answer = await client.request(method, path, json=body, headers=headers)
    assert_try_again(answer)
    assert rig.events_on("infer.requests") == []


async def test_a_call_that_needs_no_store_is_answered_while_it_is_locked(rig: Any) -> None:
    rig.use(store=Locked())
    async with rig.client() as client:
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200


@pytest.mark.parametrize("more", [{}, {"prefer": "respond-async"}])
async def test_a_body_that_finds_no_room_on_the_disk_claims_nothing(
    rig: Any, more: dict[str, str]
) -> None:
    settings = rig.deps.settings
    broker = msgspec.structs.replace(settings.broker, inline_bytes=10)
    rig.use(settings=msgspec.structs.replace(settings, broker=broker), blobs=Full())
    async with rig.client() as client:
        assert_try_again(await client.post("/v1/chat/completions", json=CHAT, headers=KEY | more))
        assert_try_again(await client.post("/", json=CHAT, headers=EVENT))
        listed = (await client.get("/v1/requests")).json()["data"]
    use = KeyUse(tenant="default", key="k-1", body_hash="h", at=rig.deps.clock.now())
    assert rig.deps.store.find_claim(use) is None
    assert rig.events_on("infer.requests") == listed == []


async def test_a_file_that_finds_no_room_on_the_disk_claims_nothing(rig: Any) -> None:
    rig.use(blobs=Full())
    async with rig.client() as client:
        form = {"files": {"file": ("in.jsonl", b"{}")}, "data": {"purpose": "batch"}}
        assert_try_again(await client.post("/v1/files", **form, headers=KEY))
        assert (await client.get("/v1/files")).json()["data"] == []


async def test_a_stream_of_events_ends_in_an_error_when_the_store_is_lost(
    rig: Any, live: Any, eventually: Any
) -> None:
    class Losing:
        """A store that is lost while it is read."""

        def __init__(self, inner: Any) -> None:
            self.inner = inner
            self.is_lost = False

        def __getattr__(self, name: str) -> Any:
            return getattr(Locked() if self.is_lost else self.inner, name)

    store = Losing(rig.deps.store)
    rig.use(store=store)
    rig.worker.script = lambda worker, request: ()
    async with live(rig) as client:
        first = await client.post(
            "/v1/chat/completions", json=CHAT, headers={"prefer": "respond-async"}
        )
        async with client.stream("GET", f"{first.headers['location']}/events") as stream:
            lines = stream.aiter_lines()
            assert (await anext(lines)).startswith("id: ")
            store.is_lost = True
            rest = [line async for line in lines]
    last = next(line for line in reversed(rest) if line)
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "storage_unavailable"


def test_a_blob_that_could_not_be_written_leaves_nothing_behind(
    tmp_path: Any, monkeypatch: Any
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    blobs = BlobDirectory(tmp_path)
    monkeypatch.setattr("functions.storage.blob_directory.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        blobs.put(b"data")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
