"""Work for a service that never wakes ends `expired` soon after its deadline, cancelled work at once: at every door."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from examples.local_stack import LocalStack

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]
WAIT_S = 3.0
LATE_S = 2.0
HELLO = [{"role": "user", "content": "hello"}]
NEVER = {"model": "never", "messages": HELLO}


@pytest.fixture
def http(fake_stack: Callable[..., LocalStack]) -> Iterator[httpx.Client]:
    stack = fake_stack(never={"load_s": 600})
    with httpx.Client(base_url=stack.url, timeout=30.0) as client:
        yield client


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
    """One stack for all doors: what is tested is the ending, and each door's own clock."""
    deadline = {"x-pickspin-deadline-s": str(WAIT_S)}

    began = time.monotonic()
    sync = http.post("/v1/chat/completions", json=NEVER, headers=deadline)
    assert 504 == sync.status_code
    assert "deadline_exceeded" == sync.json()["error"]["code"]
    assert "false" == sync.headers["x-should-retry"]
    assert WAIT_S - 0.2 < time.monotonic() - began < WAIT_S + LATE_S

    began = time.monotonic()
    with http.stream(
        "POST", "/v1/chat/completions", json={**NEVER, "stream": True}, headers=deadline
    ) as answer:
        lines = list(answer.iter_lines())
    assert WAIT_S - 0.2 < time.monotonic() - began < WAIT_S + LATE_S
    errors = [json.loads(line[5:])["error"] for line in lines if line.startswith("data: {")]
    assert ["deadline_exceeded"] == [error["code"] for error in errors]

    background = http.post(
        "/v1/chat/completions", json=NEVER, headers={**deadline, "Prefer": "respond-async"}
    )
    assert 202 == background.status_code
    state, after_s = ended(http, background.headers["location"], WAIT_S + LATE_S + 1)
    assert "expired" == state
    assert after_s < WAIT_S + LATE_S

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

    queued = http.post("/v1/chat/completions", json=NEVER, headers={"Prefer": "respond-async"})
    place = queued.headers["location"]
    http.post(f"{place}/cancel").raise_for_status()
    state, after_s = ended(http, place, 5.0)
    assert "cancelled" == state
    assert after_s < 1.5

    response = http.post("/v1/responses", json={"model": "never", "input": "x", "background": True})
    place = f"/v1/responses/{response.raise_for_status().json()['id']}"
    http.post(f"{place}/cancel").raise_for_status()
    began = time.monotonic()
    while http.get(place).json()["status"] != "cancelled":
        assert time.monotonic() - began < 1.5
        time.sleep(0.05)
