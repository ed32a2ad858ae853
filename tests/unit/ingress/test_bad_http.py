"""Broken HTTP on a real socket: what never reaches the application is refused in the same shape, and closed."""

import asyncio
import json
from typing import Any

import pytest

from functions.ingress import uvicorn_protocol

pytestmark = pytest.mark.anyio
BODY = b'{"messages":[{"role":"user","content":"hi"}]}'
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\n"


async def exchange(client: Any, *parts: bytes, timeout_s: float = 5.0) -> tuple[bytes, bool]:
    """Sends the parts; what came back until the server closed (True) or fell silent (False)."""
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    received, is_closed = b"", False
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        async with asyncio.timeout(timeout_s):
            while data := await reader.read(65_536):
                received += data
        is_closed = True
    except ConnectionError:
        is_closed = True
    except TimeoutError:
        pass
    finally:
        writer.close()
    return received, is_closed


def first_answer(received: bytes) -> tuple[int, Any]:
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body.partition(b"HTTP/1.1")[0])


def assert_refused(received: bytes, statuses: set[int]) -> None:
    status, body = first_answer(received)
    assert status in statuses, received
    assert set(body["error"]) == {"message", "type", "code", "param", "src", "request_id"}


async def test_an_honest_length_over_the_limit_is_refused_at_once_and_closed(
    rig: Any, live: Any
) -> None:
    """H16: the answer comes before the body."""
    async with live(rig) as client:
        received, is_closed = await exchange(client, HEAD + b"content-length: 99000000\r\n\r\n")
    assert is_closed
    assert_refused(received, {413})


async def test_a_chunked_body_over_the_limit_is_cut(rig: Any, live: Any) -> None:
    """H17."""
    rig.configure(max_body_bytes=700_000)
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    async with live(rig) as client:
        received, is_closed = await exchange(
            client, HEAD + b"transfer-encoding: chunked\r\n\r\n", *[chunk] * 14
        )
    assert is_closed
    if received:  # a reset may overtake the answer: we close while the client still sends
        assert_refused(received, {413})
    assert rig.events_on("infer.requests") == []


@pytest.mark.parametrize(
    "lengths",
    [
        pytest.param(b"content-length: -5\r\n", id="H18-negative"),
        pytest.param(b"content-length: 45\r\ncontent-length: 46\r\n", id="H18-twice"),
        pytest.param(b"content-length: 45, 45\r\n", id="H18-list"),
        pytest.param(b"content-length: 0x2d\r\n", id="H18-hex"),
        pytest.param(b"content-length: 45\r\ntransfer-encoding: chunked\r\n", id="H44-cl-te"),
        pytest.param(b"transfer-encoding: chunked\r\ncontent-length: 45\r\n", id="H44-te-cl"),
        pytest.param(
            b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", id="H44-te-te"
        ),
        pytest.param(b"transfer-encoding: xchunked\r\n", id="H44-te-unknown"),
        pytest.param(b"transfer-encoding : chunked\r\n", id="H44-space"),
        pytest.param(b" folded: x\r\n", id="H44-folded"),
        pytest.param(b"bad header\r\n", id="no-colon"),
        pytest.param(b"x: a\x00b\r\n", id="nul"),
    ],
)
async def test_a_length_that_can_be_read_in_two_ways_is_refused_and_closed(
    rig: Any, live: Any, lengths: bytes
) -> None:
    async with live(rig) as client:
        received, is_closed = await exchange(client, HEAD + lengths + b"\r\n" + BODY)
    assert is_closed
    assert_refused(received, {400})
    assert received.count(b"HTTP/1.1") == 1
    assert rig.events_on("infer.requests") == []


async def test_a_body_shorter_than_its_length_is_cut_off_in_time(rig: Any, live: Any) -> None:
    """H18: the length lies (long)."""
    rig.configure(body_read_s=0.2)
    async with live(rig) as client:
        received, is_closed = await exchange(client, HEAD + b"content-length: 450\r\n\r\n" + BODY)
    assert is_closed
    assert_refused(received, {400})
    assert rig.events_on("infer.requests") == []


async def test_a_body_longer_than_its_length_never_becomes_a_second_request(
    rig: Any, live: Any
) -> None:
    """H18: the length lies (short): the rest is garbage, and the connection closes."""
    smuggled = b"GET /v1/models HTTP/1.1 x\r\n\r\n"
    async with live(rig) as client:
        received, is_closed = await exchange(
            client, HEAD + b"content-length: %d\r\n\r\n" % (len(BODY) - 10) + BODY + smuggled
        )
    assert is_closed
    assert_refused(received, {400})


async def test_a_client_that_leaves_inside_its_body_is_forgotten(rig: Any, live: Any) -> None:
    async with live(rig) as client:
        _, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(HEAD + b"content-length: 450\r\n\r\n" + BODY)
        await writer.drain()
        writer.close()
        assert (await client.get("/healthz")).status_code == 200
    assert rig.events_on("infer.requests") == []


async def test_a_head_without_end_is_431(rig: Any, live: Any) -> None:
    """H19."""
    async with live(rig) as client:
        received, is_closed = await exchange(
            client, HEAD, *[b"x-pad: " + b"x" * 8000 + b"\r\n"] * 8
        )
    assert is_closed
    if received:
        assert_refused(received, {431})


CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
ONE_CHUNK = b"%x\r\n" % len(BODY) + BODY + b"\r\n"


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([CHUNKED, ONE_CHUNK, b"0\r\nx: "], id="trailer-without-end"),
        pytest.param([CHUNKED, b"0\r\nx: "], id="trailer-of-no-body"),
        pytest.param([CHUNKED, b"2;x="], id="extension-without-end"),
        pytest.param([CHUNKED, ONE_CHUNK, b"1;x="], id="extension-of-a-later-chunk"),
        pytest.param([HEAD, b"x: "], id="header-without-end"),
    ],
)
async def test_what_surrounds_a_body_is_bounded_as_a_head(
    rig: Any, live: Any, parts: list[bytes]
) -> None:
    async with live(rig) as client:
        received, is_closed = await exchange(client, *parts, *[b"x" * 8000] * 80)
    assert is_closed
    if received:  # a reset may overtake the answer
        assert_refused(received, {431})
    assert rig.events_on("infer.requests") == []


@pytest.mark.parametrize("ends", [b"\r\n", b"\n", b"\r\n\r\n"])
async def test_line_ends_before_a_request_are_bounded_too(rig: Any, live: Any, ends: bytes) -> None:
    async with live(rig) as client:
        received, is_closed = await exchange(client, *[ends * 4000] * 80)
    assert is_closed
    if received:
        assert_refused(received, {400, 431})


async def test_many_small_extensions_are_bounded_in_sum(rig: Any, live: Any) -> None:
    chunk = b"1;x=" + b"x" * 4000 + b"\r\n \r\n"
    async with live(rig) as client:
        received, is_closed = await exchange(client, CHUNKED, *[chunk] * 160)
    assert is_closed
    if received:
        assert_refused(received, {431})


async def test_an_honest_body_in_the_smallest_chunks_is_taken(rig: Any, live: Any) -> None:
    body = BODY.replace(b"hi", b"x" * 30_000)
    pieces = [b"1\r\n%c\r\n" % byte for byte in body]
    last = b"0\r\nx-sum: 1\r\n\r\n"
    async with live(rig) as client:
        head = HEAD + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
        received, _ = await exchange(client, head, b"".join(pieces), last)
    assert first_answer(received)[0] == 200


async def test_a_trailer_is_no_header(rig: Any, live: Any) -> None:
    """Else whoever stands behind a proxy that checks heads could name a key, or a second length, after the fact."""
    last = b"0\r\nidempotency-key: smuggled\r\nprefer: respond-async\r\n\r\n"
    head = HEAD + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    async with live(rig) as client:
        received, _ = await exchange(client, head, ONE_CHUNK, last)
    assert first_answer(received)[0] == 200


async def test_a_query_of_a_megabyte_is_refused(rig: Any, live: Any) -> None:
    """H48."""
    async with live(rig) as client:
        received, is_closed = await exchange(client, b"GET /v1/models?" + b"a" * 1_000_000)
    assert is_closed
    if received:
        assert_refused(received, {431})


async def test_a_head_that_takes_too_long_is_cut(rig: Any, live: Any, monkeypatch: Any) -> None:
    """A connection that says nothing, or says it byte by byte, is closed."""
    monkeypatch.setattr(uvicorn_protocol, "HEAD_S", 0.2)
    async with live(rig) as client:
        for parts in ((), (b"P", b"O", b"S", b"T")):
            _, is_closed = await exchange(client, *parts)
            assert is_closed


@pytest.mark.parametrize(
    "line",
    [
        b"GARBAGE\r\n\r\n",
        b"FOO /v1/models HTTP/1.1\r\nhost: t\r\n\r\n",
        b"GET /v1/models HTTP/9.9\r\nhost: t\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"CONNECT inside:80 HTTP/1.1\r\nhost: t\r\n\r\n",
        b"GET http://inside/nothing HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_refused(rig: Any, live: Any, line: bytes) -> None:
    """H45 too."""
    async with live(rig) as client:
        received, is_closed = await exchange(client, line)
    assert is_closed
    assert_refused(received, {400, 404, 405})


async def test_an_upgrade_is_not_taken(rig: Any, live: Any) -> None:
    async with live(rig) as client:
        answer = await client.get(
            "/v1/models", headers={"connection": "upgrade", "upgrade": "websocket"}
        )
    assert answer.status_code == 200


async def test_two_good_requests_on_one_connection_are_both_answered(rig: Any, live: Any) -> None:
    one = HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
    last = HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
    async with live(rig) as client:
        received, _ = await exchange(client, one + last)
    assert received.count(b"HTTP/1.1 200") == 2


OLD = b"POST /v1/chat/completions HTTP/1.0\r\ncontent-type: application/json\r\n"


async def test_a_client_of_http_1_0_gets_its_answer_and_the_connection_ends(
    rig: Any, live: Any
) -> None:
    async with live(rig) as client:
        received, is_closed = await exchange(
            client, OLD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
        )
    status, body = first_answer(received)
    assert (status, is_closed) == (200, True)
    assert body["choices"][0]["message"]["content"] == "hello"


async def test_a_stream_to_a_client_of_http_1_0_has_no_chunks_and_ends_with_the_connection(
    rig: Any, live: Any
) -> None:
    body = BODY[:-1] + b', "stream": true}'
    async with live(rig) as client:
        received, is_closed = await exchange(
            client, OLD + b"content-length: %d\r\n\r\n" % len(body) + body
        )
    head, _, events = received.partition(b"\r\n\r\n")
    assert is_closed
    assert b"transfer-encoding" not in head.lower()
    assert b"connection: close" in head.lower()
    assert events.endswith(b"data: [DONE]\n\n")
    lines = [line for line in events.split(b"\n") if line]
    assert all(line.startswith((b":", b"data: ")) for line in lines)
