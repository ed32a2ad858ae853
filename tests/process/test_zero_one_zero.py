"""A model that nobody asks for has no process; the first request wakes it; idle, it is gone; Ctrl-C leaves nothing."""

import json
import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from examples.local_stack import LocalStack, local_stack

pytestmark = [pytest.mark.process, pytest.mark.model, pytest.mark.timeout(180)]
MODEL = "smollm2-135m-instruct"


def state(http: httpx.Client, model: str = MODEL) -> str:
    found = http.get(f"/v1/models/{model}").raise_for_status().json()
    return str(found["pickspin"]["state"])


def await_state(http: httpx.Client, wanted: str, timeout_s: float) -> float:
    began = time.monotonic()
    while state(http) != wanted:
        assert time.monotonic() - began < timeout_s, f"not {wanted} but {state(http)}"
        time.sleep(0.1)
    return time.monotonic() - began


def test_the_model_wakes_on_the_first_request_sleeps_when_idle_and_leaves_nothing_behind(
    broker: str, tmp_path: Path
) -> None:
    with (
        local_stack(
            "--broker", broker, environ={"PICKSPIN_IDLE_S": "3"}, data_dir=tmp_path
        ) as stack,
        httpx.Client(base_url=stack.url, timeout=60.0) as http,
    ):
        assert "cold" == state(http)
        before = set(stack.descendants())
        body = {
            "model": "auto",
            "messages": [{"role": "user", "content": "Say hello."}],
            "max_tokens": 8,
            "stream": True,
        }
        began = time.monotonic()
        comments: list[tuple[float, str]] = []
        first_token_s = None
        with http.stream("POST", "/v1/chat/completions", json=body) as answer:
            for line in answer.iter_lines():
                if line.startswith(":"):
                    comments.append((time.monotonic() - began, line))
                elif line.startswith("data: {") and first_token_s is None:
                    delta = json.loads(line[6:])["choices"][0]["delta"]
                    if delta.get("content"):
                        first_token_s = time.monotonic() - began
        assert first_token_s is not None
        assert comments[0][0] < 1.5, "the first comment comes within a second"
        assert any("eta_s=" in comment for _, comment in comments)
        await_state(http, "warm", 2.0)
        woken = set(stack.descendants()) - before
        assert woken
        await_state(http, "cold", 30.0)
        deadline = time.monotonic() + 10.0
        while woken & set(stack.descendants()):
            assert time.monotonic() < deadline, "its processes are still there"
            time.sleep(0.1)
        ctrl_c_leaves_no_process_behind(stack, http)


def ctrl_c_leaves_no_process_behind(stack: LocalStack, http: httpx.Client) -> None:
    """Not even of a model that was woken a second time."""
    http.post(
        "/v1/completions", json={"model": MODEL, "prompt": "The sky", "max_tokens": 2}
    ).raise_for_status()
    pids = stack.descendants()
    assert len(pids) > 6
    assert 0 == stack.stop(signal.SIGINT)
    left = [pid for pid in pids if _is_alive(pid)]
    assert [] == left


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
