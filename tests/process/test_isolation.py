"""A model that takes for ever to load holds up nobody but those who wait for it."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from examples.local_stack import LocalStack

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]
HELLO = [{"role": "user", "content": "hello"}]


def test_a_warm_model_answers_while_another_is_loading_behind_a_long_queue(
    shared_fakes: LocalStack,
) -> None:
    with httpx.Client(base_url=shared_fakes.url, timeout=60.0) as http:
        warm = {"model": "warm", "messages": HELLO}
        http.post("/v1/chat/completions", json=warm).raise_for_status()

        def enqueue(_: int) -> int:
            answer = http.post(
                "/v1/chat/completions",
                json={"model": "loading", "messages": HELLO},
                headers={"Prefer": "respond-async"},
            )
            return answer.status_code

        with ThreadPoolExecutor(8) as pool:
            assert {202} == set(pool.map(enqueue, range(200)))
        began = time.monotonic()
        for _ in range(20):
            http.post("/v1/chat/completions", json=warm).raise_for_status()
        assert time.monotonic() - began < 20 * 0.5
        listed = http.get("/v1/models/loading").json()["pickspin"]
        assert listed["state"] in ("starting", "loading")
