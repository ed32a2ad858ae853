"""Work for a service that never wakes ends `expired` soon after its deadline, cancelled work at once: at every door."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from examples.demo import Received, receiver
from examples.local_stack import LocalStack

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]
WAIT_S = 1.5
LINE_WAIT_S = 3.0
"""Of a batch's lines: they name no deadline and get the setting's."""
LATE_S = 2.0
AT_ONCE_S = 1.5
DEADLINE = {"x-pickspin-deadline-s": str(WAIT_S)}
HELLO = [{"role": "user", "content": "hello"}]
NEVER = {"model": "never", "messages": HELLO}
BATCH_ENDS = ("completed", "failed", "expired", "cancelled")


@pytest.fixture
def http(fake_stack: Callable[..., LocalStack]) -> Iterator[httpx.Client]:
    environ = {
        "PICKSPIN_INGRESS_BACKGROUND_WAIT_S": str(LINE_WAIT_S),
        "PICKSPIN_INGRESS_CALLBACK_ALLOW_HTTP": "true",
        "PICKSPIN_INGRESS_CALLBACK_ALLOW_PRIVATE": "true",
    }
    stack = fake_stack(environ=environ, never={"load_s": 600})
    with httpx.Client(base_url=stack.url, timeout=30.0) as client:
        yield client


@contextmanager
def receiving() -> Iterator[tuple[Received, str]]:
    """What a callback receiver on loopback got, and its URL."""
    found = Received()
    server = receiver(found)
    try:
        yield found, f"http://127.0.0.1:{server.server_address[1]}/hook"
    finally:
        server.shutdown()
        server.server_close()


def batch_of(http: httpx.Client, lines: int) -> str:
    """The place of a new batch of requests for the model that never wakes."""
    line = {"method": "POST", "url": "/v1/chat/completions", "body": NEVER}
    content = "\n".join(json.dumps({"custom_id": str(n), **line}) for n in range(lines)).encode()
    files = {"file": ("in.jsonl", content)}
    uploaded = http.post("/v1/files", files=files, data={"purpose": "batch"}).raise_for_status()
    asked = {
        "input_file_id": uploaded.json()["id"],
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    made = http.post("/v1/batches", json=asked).raise_for_status()
    return f"/v1/batches/{made.json()['id']}"


def until(http: httpx.Client, place: str, statuses: tuple[str, ...], timeout_s: float) -> Any:
    """The batch once it has one of the statuses."""
    began = time.monotonic()
    while (batch := http.get(place).raise_for_status().json())["status"] not in statuses:
        assert time.monotonic() - began < timeout_s, batch
        time.sleep(0.05)
    return batch


def ended(http: httpx.Client, place: str, timeout_s: float) -> tuple[str, float]:
    """The terminal state, and how long it took to be seen."""
    began = time.monotonic()
    while True:
        found = http.get(place).raise_for_status().json()
        if found["state"] in ("completed", "failed", "expired", "cancelled"):
            return found["state"], time.monotonic() - began
        assert time.monotonic() - began < timeout_s, found
        time.sleep(0.05)


def test_every_door_expires_in_time_and_cancels_at_once(http: httpx.Client) -> None:
    """One stack for all doors, which wait side by side: what is tested is the ending, and each door's own clock."""
    side_by_side(
        http,
        (
            answer_expires,
            stream_expires,
            poll_expires,
            callback_expires,
            batch_expires,
            event_expires,
        ),
    )
    side_by_side(http, (poll_cancels, response_cancels, batch_cancels, callback_cancels))


def side_by_side(http: httpx.Client, doors: Sequence[Callable[[httpx.Client], None]]) -> None:
    with ThreadPoolExecutor(len(doors)) as pool:
        for done in [pool.submit(door, http) for door in doors]:
            done.result()


def answer_expires(http: httpx.Client) -> None:
    began = time.monotonic()
    sync = http.post("/v1/chat/completions", json=NEVER, headers=DEADLINE)
    assert 504 == sync.status_code
    assert "deadline_exceeded" == sync.json()["error"]["code"]
    assert "false" == sync.headers["x-should-retry"]
    assert WAIT_S - 0.2 < time.monotonic() - began < WAIT_S + LATE_S


def stream_expires(http: httpx.Client) -> None:
    began = time.monotonic()
    with http.stream(
        "POST", "/v1/chat/completions", json={**NEVER, "stream": True}, headers=DEADLINE
    ) as answer:
        lines = list(answer.iter_lines())
    assert WAIT_S - 0.2 < time.monotonic() - began < WAIT_S + LATE_S
    errors = [json.loads(line[5:])["error"] for line in lines if line.startswith("data: {")]
    assert ["deadline_exceeded"] == [error["code"] for error in errors]


def poll_expires(http: httpx.Client) -> None:
    background = http.post(
        "/v1/chat/completions", json=NEVER, headers={**DEADLINE, "Prefer": "respond-async"}
    )
    assert 202 == background.status_code
    state, after_s = ended(http, background.headers["location"], WAIT_S + LATE_S + 1)
    assert "expired" == state
    assert after_s < WAIT_S + LATE_S


def callback_expires(http: httpx.Client) -> None:
    with receiving() as (posts, url):
        began = time.monotonic()
        called = http.post(
            "/v1/chat/completions", json=NEVER, headers={**DEADLINE, "x-pickspin-callback": url}
        )
        assert 202 == called.status_code, called.text
        assert posts.arrived.wait(max(0.0, began + WAIT_S + LATE_S - time.monotonic()))
        assert "inference.expired" == json.loads(posts.posts[0][1])["type"]


def batch_expires(http: httpx.Client) -> None:
    began = time.monotonic()
    batch = batch_of(http, lines=2)
    done = until(http, batch, BATCH_ENDS, LINE_WAIT_S + LATE_S + 1)
    assert LINE_WAIT_S - 0.2 < time.monotonic() - began < LINE_WAIT_S + LATE_S
    assert {"total": 2, "completed": 0, "failed": 2} == done["request_counts"]
    lines = http.get(f"/v1/files/{done['error_file_id']}/content").raise_for_status().text
    codes = [json.loads(line)["error"]["code"] for line in lines.splitlines()]
    assert ["batch_expired"] * 2 == codes


def event_expires(http: httpx.Client) -> None:
    event_id = f"never-{uuid.uuid4().hex[:8]}"
    event = {
        "specversion": "1.0",
        "id": event_id,
        "source": "/test",
        "type": "io.pickspin.inference.request.v1",
        "time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "expirytime": (datetime.now(UTC) + timedelta(seconds=WAIT_S))
        .isoformat()
        .replace("+00:00", "Z"),
        "data": NEVER,
    }
    made = http.post(
        "/", content=json.dumps(event), headers={"content-type": "application/cloudevents+json"}
    )
    assert 202 == made.status_code, made.text
    assert "expired" == ended(http, f"/v1/requests/{event_id}", WAIT_S + LATE_S + 1)[0]


def poll_cancels(http: httpx.Client) -> None:
    queued = http.post("/v1/chat/completions", json=NEVER, headers={"Prefer": "respond-async"})
    place = queued.headers["location"]
    http.post(f"{place}/cancel").raise_for_status()
    state, after_s = ended(http, place, 5.0)
    assert "cancelled" == state
    assert after_s < AT_ONCE_S


def response_cancels(http: httpx.Client) -> None:
    response = http.post("/v1/responses", json={"model": "never", "input": "x", "background": True})
    place = f"/v1/responses/{response.raise_for_status().json()['id']}"
    http.post(f"{place}/cancel").raise_for_status()
    began = time.monotonic()
    while http.get(place).json()["status"] != "cancelled":
        assert time.monotonic() - began < AT_ONCE_S
        time.sleep(0.05)


def batch_cancels(http: httpx.Client) -> None:
    batch = batch_of(http, lines=2)
    until(http, batch, ("in_progress",), LINE_WAIT_S)
    began = time.monotonic()
    http.post(f"{batch}/cancel").raise_for_status()
    assert "cancelled" == until(http, batch, BATCH_ENDS, LINE_WAIT_S)["status"]
    assert time.monotonic() - began < AT_ONCE_S


def callback_cancels(http: httpx.Client) -> None:
    with receiving() as (posts, url):
        called = http.post("/v1/chat/completions", json=NEVER, headers={"x-pickspin-callback": url})
        http.post(f"{called.headers['location']}/cancel").raise_for_status()
        assert posts.arrived.wait(AT_ONCE_S)
        assert "inference.cancelled" == json.loads(posts.posts[-1][1])["type"]
