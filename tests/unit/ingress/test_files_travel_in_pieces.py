"""Files go in and out piece by piece, as fast as the other side lets them, and never through the whole memory."""

import asyncio
import contextlib
import io
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from functions.ingress.api_keys import ApiKeys
from functions.runtime.errors import BlobMissing
from functions.storage.blob_directory import PIECE_BYTES, BlobDirectory

HEAD = (
    b"POST /v1/files HTTP/1.1\r\nhost: t\r\nauthorization: Bearer k1\r\ncontent-length: 1000000\r\n"
    b"content-type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
)


async def upload(client: Any, data: bytes, **headers: str) -> Any:
    return await client.post(
        "/v1/files", files={"file": ("a", data)}, data={"purpose": "batch"}, headers=headers
    )


class Watched(BlobDirectory):
    """Blobs that count how many pieces were taken of them."""

    taken = 0

    def pieces(self, ref: str, *, limit_bytes: int) -> Generator[bytes, None, None]:
        for piece in super().pieces(ref, limit_bytes=limit_bytes):
            self.taken += 1
            yield piece


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, 3 * PIECE_BYTES + 1])
def test_a_file_is_the_same_in_one_or_many_pieces(tmp_path: Path, size: int) -> None:
    blobs, data = BlobDirectory(tmp_path), b"ab" * size
    source = io.BytesIO(data)
    source.seek(1)
    ref = blobs.put_file(source)
    assert ref.partition(":")[2] == blobs.put(data).partition(":")[2]
    assert b"".join(blobs.pieces(ref, limit_bytes=len(data))) == data
    assert blobs.get(ref, limit_bytes=len(data)) == data
    with pytest.raises(BlobMissing):
        next(blobs.pieces(ref, limit_bytes=len(data) - 1))


def given(blobs: BlobDirectory, ref: str, limit_bytes: int) -> int:
    """How many bytes came before it was seen that they are not those that were put."""
    size = 0
    try:
        for piece in blobs.pieces(ref, limit_bytes=limit_bytes):
            size += len(piece)
    except BlobMissing:
        return size
    raise AssertionError("nothing was noticed")


def test_bytes_that_have_changed_are_never_given_out_whole(tmp_path: Path) -> None:
    blobs, data = BlobDirectory(tmp_path), b"a" * (3 * PIECE_BYTES)
    ref = blobs.put(data)
    path = next(one for one in tmp_path.rglob("*") if one.is_file())
    path.write_bytes(b"b" * len(data))
    assert given(blobs, ref, len(data)) < len(data)
    path.unlink()
    assert given(blobs, ref, len(data)) == 0


@pytest.mark.anyio
async def test_a_large_file_comes_back_as_it_went(rig: Any, live: Any, tmp_path: Path) -> None:
    rig.use(blobs=BlobDirectory(tmp_path))
    data = bytes(range(256)) * 8 * 1024
    async with live(rig) as client:
        file = (await upload(client, data)).json()
        content = await client.get(f"/v1/files/{file['id']}/content")
        nothing = (await upload(client, b"")).json()
        empty = await client.get(f"/v1/files/{nothing['id']}/content")
    assert file["bytes"] == len(data)
    assert content.content == data
    assert content.headers["content-length"] == str(len(data))
    assert (empty.status_code, empty.content) == (200, b"")


@pytest.mark.anyio
async def test_a_reader_that_does_not_read_holds_little_of_a_file(
    rig: Any, live: Any, tmp_path: Path, eventually: Any
) -> None:
    blobs = Watched(tmp_path)
    rig.use(blobs=blobs)
    rig.configure(stream_idle_s=0.5)
    data = b"x" * (100 * PIECE_BYTES)
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        async with live(rig) as client:
            file = (await upload(client, data)).json()
            deaf.connect((client.base_url.host, client.base_url.port))
            deaf.sendall(
                b"GET /v1/files/%s/content HTTP/1.1\r\nhost: t\r\n\r\n" % file["id"].encode()
            )
            await eventually(lambda: blobs.taken)
            await eventually(lambda: not len(rig.deps.calls), 10.0)
    assert blobs.taken < 50


@pytest.mark.anyio
async def test_slow_uploads_of_one_tenant_leave_room_for_another(
    rig: Any, live: Any, eventually: Any
) -> None:
    rig.use(keys=ApiKeys.parse("greedy=k1,quiet=k2"))
    rig.configure(max_uploads=4)
    async with live(rig) as client:
        host, port = client.base_url.host, client.base_url.port
        held = [await asyncio.open_connection(host, port) for _ in range(6)]
        for _, writer in held:
            writer.write(HEAD)
        await eventually(lambda: len(rig.deps.calls) == 6)
        answer = await asyncio.wait_for(upload(client, b"x", authorization="Bearer k2"), 5.0)
        assert answer.status_code == 200
        for _, writer in held:
            writer.close()
        await eventually(lambda: not len(rig.deps.calls))
        assert (await upload(client, b"x", authorization="Bearer k1")).status_code == 200


@pytest.mark.anyio
async def test_an_upload_that_only_trickles_is_ended(rig: Any, live: Any) -> None:
    rig.configure(body_read_s=0.3, upload_bytes_s=1000.0)
    async with live(rig) as client:
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(HEAD)
        line = b""
        async with asyncio.timeout(10.0):
            while not (line or reader.at_eof()):
                writer.write(b"a")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):  # never as silent as a pause may be
                        line = await reader.readline()
        assert b" 400 " in line
        writer.close()
