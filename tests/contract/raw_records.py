"""Record batches that no client library writes, put into a partition through the bare protocol (Produce version 3)."""

import socket
import struct
from typing import Final

import crc32c

_MAGIC: Final = 2
_PRODUCE: Final = 0
_TIMEOUT_S: Final = 10.0


def varint(number: int) -> bytes:
    zigzag = (number << 1) ^ (number >> 63)
    found = bytearray()
    while zigzag > 0x7F:
        found.append((zigzag & 0x7F) | 0x80)
        zigzag >>= 7
    found.append(zigzag)
    return bytes(found)


def record(
    value: bytes | None,
    *,
    delta: int = 0,
    headers: tuple[tuple[bytes, bytes | None], ...] = (),
    key: bytes | None = None,
) -> bytes:
    """One record of a batch."""
    body = b"\x00" + varint(0) + varint(delta) + _bytes(key) + _bytes(value)
    body += varint(len(headers))
    for name, content in headers:
        body += varint(len(name)) + name + _bytes(content)
    return varint(len(body)) + body


def _bytes(data: bytes | None) -> bytes:
    return varint(-1) if data is None else varint(len(data)) + data


def batch(
    records: bytes,
    *,
    count: int = 1,
    codec: int = 0,
    crc_error: int = 0,
    timestamp_ms: int = 1_700_000_000_000,
    magic: int = _MAGIC,
    length_error: int = 0,
) -> bytes:
    """A batch: `records` as they are to lie there, compressed or not; the errors are added to what is right."""
    tail = struct.pack(">hiqqqhii", codec, count - 1, timestamp_ms, timestamp_ms, -1, -1, -1, count)
    tail += records
    crc = (crc32c.crc32c(tail) + crc_error) & 0xFFFFFFFF
    head = struct.pack(">ibI", -1, magic, crc)
    return struct.pack(">qi", 0, len(head) + len(tail) + length_error) + head + tail


def produce(bootstrap: str, topic: str, partition: int, data: bytes) -> int:
    """Appends a batch as it is; returns the broker's error code (0: it lies there)."""
    host, port = bootstrap.split(",", maxsplit=1)[0].rsplit(":", 1)
    name = topic.encode()
    body = struct.pack(">hhi", -1, 1, 5000) + struct.pack(">i", 1)
    body += struct.pack(">h", len(name)) + name + struct.pack(">i", 1)
    body += struct.pack(">i", partition) + struct.pack(">i", len(data)) + data
    header = struct.pack(">hhi", _PRODUCE, 3, 1) + struct.pack(">h", 3) + b"raw"
    with socket.create_connection((host, int(port)), timeout=_TIMEOUT_S) as broker:
        broker.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
        size = struct.unpack(">i", _exactly(broker, 4))[0]
        answer = _exactly(broker, size)
    at = 4 + 4 + 2 + len(name) + 4 + 4
    return int(struct.unpack(">h", answer[at : at + 2])[0])


def _exactly(broker: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = broker.recv(size - len(found))
        if not part:
            raise ConnectionError("the broker closed the connection")
        found += part
    return found
