"""`kill -9` of each process under load: every accepted request ends in exactly one final answer."""

import json
import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Self

import httpx
import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError

from examples.local_stack import LocalStack

pytestmark = [pytest.mark.process, pytest.mark.timeout(280)]
HELLO = [{"role": "user", "content": "hello"}]
TERMINAL = ("completed", "failed", "expired", "cancelled")
LOAD_S = 0.7
"""Under load before a kill, and again after the restart."""
SETTLE_S = 60.0


class Load:
    """Background requests over HTTP and records over Kafka, until told to stop; remembers what was accepted."""

    def __init__(self, stack: LocalStack, broker: str) -> None:
        self.accepted: list[str] = []
        self._stop = threading.Event()
        self._url, self._bootstrap = stack.url, stack.bootstrap
        self._options = {"api_version": (2, 3)} if broker == "embedded" else {}
        self._threads = [
            threading.Thread(target=self._over_http, daemon=True),
            threading.Thread(target=self._over_kafka, daemon=True),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _over_http(self) -> None:
        with httpx.Client(base_url=self._url, timeout=10.0) as http:
            while not self._stop.wait(0.05):
                body = {"model": "steady", "messages": HELLO}
                try:
                    made = http.post(
                        "/v1/chat/completions", json=body, headers={"Prefer": "respond-async"}
                    )
                except httpx.HTTPError:
                    continue
                if made.status_code == 202:
                    self.accepted.append(made.headers["x-pickspin-request-id"])

    def _over_kafka(self) -> None:
        producer = KafkaProducer(
            bootstrap_servers=self._bootstrap,
            delivery_timeout_ms=20_000,
            request_timeout_ms=5_000,
            **self._options,
        )
        while not self._stop.wait(0.05):
            request_id = f"kill-{uuid.uuid4().hex[:12]}"
            headers = {
                "ce_specversion": "1.0",
                "ce_id": request_id,
                "ce_source": "/kill-test",
                "ce_type": "io.pickspin.inference.request.v1",
                "ce_time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
                "content-type": "application/json",
            }
            try:
                producer.send(
                    "infer.requests",
                    key=request_id.encode(),
                    value=json.dumps({"model": "steady", "messages": HELLO}).encode(),
                    headers=[(name, value.encode()) for name, value in headers.items()],
                ).get(25)
            except KafkaError:
                continue
            self.accepted.append(request_id)
        producer.close(timeout=2)


def await_settled(http: httpx.Client, accepted: list[str]) -> Counter[str]:
    """The final state of every accepted request, once all have one."""
    open_ids, states = set(accepted), Counter[str]()
    deadline = time.monotonic() + SETTLE_S
    while open_ids:
        for request_id in list(open_ids):
            try:
                found = http.get(f"/v1/requests/{request_id}")
            except httpx.HTTPError:
                break
            if found.status_code == 200 and found.json()["state"] in TERMINAL:
                states[found.json()["state"]] += 1
                open_ids.discard(request_id)
        assert time.monotonic() < deadline, f"{len(open_ids)} of {len(accepted)} never ended"
        time.sleep(0.2)
    return states


def seen_on_the_log(stack: LocalStack, broker: str, wanted: set[str]) -> dict[str, set[Any]]:
    """The distinct final event ids that `infer.responses` holds for each request."""
    options = {"api_version": (2, 3)} if broker == "embedded" else {}
    consumer = KafkaConsumer(
        bootstrap_servers=stack.bootstrap, auto_offset_reset="earliest", **options
    )
    consumer.subscribe(["infer.responses"])
    consumer.topics()  # kafka-python may miss a subscription made while it still fetches its first metadata
    found: dict[str, set[Any]] = {}
    deadline = time.monotonic() + 30.0
    while wanted - found.keys() and time.monotonic() < deadline:
        for records in consumer.poll(timeout_ms=300).values():
            for record in records:
                headers = {name: value.decode() for name, value in record.headers}
                found.setdefault(headers["ce_subject"], set()).add(headers["ce_id"])
    consumer.close()
    return found


@pytest.fixture
def stack(fake_stack: Callable[..., LocalStack]) -> LocalStack:
    """Its one replica is ready: to kill it while it starts would be a failed start, and the service unhealthy."""
    found = fake_stack(steady={"ttft_s": 0.05, "tokens": 4, "concurrency": 4, "min_warm": 1})
    found.await_change(lambda c: (c["name"], c["state"]) == ("steady", "ready"), 30.0)
    return found


def kill(stack: LocalStack, name: str) -> None:
    os.kill(stack.pid(name), signal.SIGKILL)


def restarted(stack: LocalStack, name: str, after: int) -> None:
    stack.await_change(
        lambda change: change["name"].split("/")[0] == name and bool(change.get("pid")),
        45.0,
        after=after,
    )


def test_every_accepted_request_ends_exactly_once_whoever_is_killed(
    stack: LocalStack, broker: str
) -> None:
    victims = ["steady", "router", "ingress", "recorder", "source"]
    if broker == "kafka":
        victims.append("kafka")
    with httpx.Client(base_url=stack.url, timeout=10.0) as http:
        with Load(stack, broker) as load:
            for victim in victims:
                time.sleep(LOAD_S)
                before = len(stack.changes)
                kill(stack, victim)
                restarted(stack, victim, before)
                time.sleep(LOAD_S)
        accepted = list(load.accepted)
        assert len(accepted) > 50
        states = await_settled(http, accepted)
    # Background work outlives every kill: nothing may have failed, expired or been cancelled.
    assert {"completed": len(accepted)} == states
    on_the_log = seen_on_the_log(stack, broker, set(accepted))
    assert set(accepted) <= on_the_log.keys()
    assert all(len(ids) == 1 for ids in on_the_log.values())
