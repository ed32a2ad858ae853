"""`grep <request id> logs/*.log` tells what became of a request; what it asked is in no log."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.local_stack import LocalStack

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]
SECRET = "what-nobody-else-is-to-read"


def story(logs: Path, request_id: str) -> dict[str, dict[str, Any]]:
    """Every line of a request, by what it says."""
    lines = [
        json.loads(line)
        for path in logs.glob("*.log")
        for line in path.read_text().splitlines()
        if request_id in line
    ]
    assert len({line["message"] for line in lines}) == len(lines), "one line each"
    return {line["message"]: line for line in lines}


def told(logs: Path, request_id: str, messages: set[str]) -> dict[str, dict[str, Any]]:
    """Its story, once it has all these lines."""
    deadline = time.monotonic() + 30.0
    while not messages <= (found := story(logs, request_id)).keys():
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


def chat(model: str) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": SECRET}]}


def test_an_answered_request(shared_fakes: LocalStack) -> None:
    reply = httpx.post(f"{shared_fakes.url}/v1/chat/completions", json=chat("warm"), timeout=60.0)
    assert reply.status_code == 200, reply.text
    logs = shared_fakes.data_dir / "logs"

    found = told(logs, reply.headers["x-pickspin-request-id"], {"ended"})

    assert sorted(found) == ["accepted", "ended", "routed", "started"]
    assert found["accepted"]["asked_model"] == "warm"
    assert (found["routed"]["service"], found["routed"]["reason"]) == ("warm", "explicit")
    assert found["started"]["service"] == "warm"
    ended = found["ended"]
    assert (ended["state"], ended["completion_tokens"]) == ("completed", 2)
    assert ended["cost_usd"] >= 0
    assert all(SECRET not in path.read_text() for path in logs.glob("*.log"))


def test_an_event_and_a_refusal_of_the_router(shared_fakes: LocalStack) -> None:
    headers = {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": "told-1",
        "ce-source": "/tests",
        "ce-type": "io.pickspin.inference.request.v1",
        "ce-minquality": "1",
    }
    url = shared_fakes.url
    reply = httpx.post(url, json=chat("auto"), headers=headers, timeout=60.0)
    assert reply.status_code == 202, reply.text

    found = told(
        shared_fakes.data_dir / "logs",
        reply.headers["x-pickspin-request-id"],
        {"accepted", "failed"},
    )

    assert found["accepted"]["asked_model"] == "auto"
    assert found["failed"]["code"] == "constraints_unmet"
