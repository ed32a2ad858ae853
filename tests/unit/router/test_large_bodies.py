"""Bodies behind a reference: as large as the ingress may take them, and few in memory at once."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from events import builders
from events.codecs.kafka_codec import from_record
from events.event import Event
from events.limits import MAX_BODY_BYTES
from functions.router.router import LARGE_AT_ONCE

Make = Callable[..., Event]
THREADS = 6


def large(bench: Any, request_event: Make, size: int, **more: Any) -> Event:
    messages = [{"role": "user", "content": "x" * size}]
    body = json.dumps({"model": "real", "messages": messages}).encode()
    return builders.by_reference(request_event(data=body, **more), bench.blobs.put(body))


def test_a_body_of_any_size_that_the_settings_allow_is_routed(
    bench: Any, request_event: Make
) -> None:
    event = large(bench, request_event, MAX_BODY_BYTES - 1000)
    bench.router.route(event).result(60)
    (routed,) = bench.log.records(bench.topics.model("real"))
    assert from_record(routed).get("dataref") == event.get("dataref")


def test_only_few_of_them_are_in_memory_at_once(bench: Any, request_event: Make) -> None:
    get, lock = bench.blobs.get, threading.Lock()
    inside, most = 0, 0
    both = threading.Barrier(LARGE_AT_ONCE)

    def counted(ref: str, *, limit_bytes: int) -> bytes:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        both.wait(30)
        found: bytes = get(ref, limit_bytes=limit_bytes)
        with lock:
            inside -= 1
        return found

    bench.blobs.get = counted
    events = [large(bench, request_event, 300_000 + n, id=f"r{n}") for n in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as threads:
        for future in list(threads.map(bench.router.route, events)):
            future.result(30)
    assert most == LARGE_AT_ONCE
    assert len(bench.log.records(bench.topics.model("real"))) == THREADS
