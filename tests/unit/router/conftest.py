"""What router tests stand on: a small fleet, a request maker, and a router on an in-memory log with a still clock."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest

from events import names
from events.event import Event, Outgoing
from events.names import Topics
from events.timestamps import to_rfc3339
from functions.router import handler
from functions.router.handler import RouterRules
from functions.router.publisher import RouterPublisher
from functions.router.router import Router, RouterDependencies
from functions.runtime.telemetry import Metrics
from functions.testing.fake_clock import FakeClock
from functions.testing.memory_broker import MemoryBlobs, MemoryLog
from router_model.catalogue.loader import load_catalogue
from router_model.catalogue.merge import with_demo_fleet
from router_model.catalogue.model import Catalogue
from router_model.classifier.keyword_rules import Classifier, KeywordClassifier
from router_model.routing.context import RoutingContext
from router_model.service_registry import Registry

BODY = b'{"model":"auto","messages":[{"role":"user","content":"hello there"}]}'
CATALOGUE = """
models:
  - {id: real, weights: {path: /m.gguf}}
  - {id: vectors, capabilities: [embeddings], weights: {path: /v.gguf}}
services:
  - {model: real}
  - {model: real, backend: {kind: vllm}, price_per_hour_usd: 2}
  - {model: vectors}
aliases: {nick: real}
tasks:
  nightly: {models: [real], priority: batch, timeout_s: 60}
"""


def handle(
    event: Event,
    catalogue: Catalogue,
    registry: Registry,
    now: datetime,
    *,
    rules: RouterRules,
    classifier: Classifier | None = None,
    body: bytes | None = None,
) -> tuple[Outgoing, ...]:
    """What the handler makes of an event, by the keyword rule unless told otherwise."""
    context = RoutingContext(
        catalogue=catalogue,
        registry=registry,
        now=now,
        classifier=classifier or KeywordClassifier(),
    )
    return handler.handle(event, context, rules=rules, body=body).outgoing


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return with_demo_fleet(load_catalogue(CATALOGUE))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def now(clock: FakeClock) -> datetime:
    return clock.now()


@pytest.fixture
def topics() -> Topics:
    return Topics("t.")


@pytest.fixture
def rules(topics: Topics) -> RouterRules:
    return RouterRules(topics=topics)


@pytest.fixture
def request_event(now: datetime, topics: Topics) -> Callable[..., Event]:
    """A valid request that waits on a reply partition; keyword arguments replace fields, `ext` adds attributes (None
    removes one), `model` sets the body's model.
    """

    def make(
        *, model: str | None = None, ext: dict[str, str | None] | None = None, **fields: object
    ) -> Event:
        extensions: dict[str, str | None] = {
            names.EXPIRY_TIME: to_rfc3339(now + timedelta(seconds=100)),
            names.REPLY_TOPIC: topics.replies,
            names.REPLY_PARTITION: "1",
            names.REPLY_EPOCH: "e1",
            names.TENANT: "acme",
            **(ext or {}),
        }
        event = Event(
            id="req_1",
            source="/ingress/0",
            type=names.REQUEST,
            subject="auto",
            time=to_rfc3339(now),
            data=BODY if model is None else BODY.replace(b"auto", model.encode()),
            extensions={name: value for name, value in extensions.items() if value is not None},
        )
        return replace(event, **fields)  # type: ignore[arg-type]

    return make


@dataclass
class Bench:
    """A router on an in-memory log. `registry` may be replaced between events."""

    log: MemoryLog
    blobs: MemoryBlobs
    metrics: Metrics
    topics: Topics
    registry: Registry
    router: Router
    publisher: RouterPublisher
    """What the source has of its own beside the router."""


@pytest.fixture
def make_bench(
    catalogue: Catalogue, clock: FakeClock, topics: Topics, rules: RouterRules
) -> Callable[[], Bench]:
    def make() -> Bench:
        log, blobs, metrics = MemoryLog(), MemoryBlobs(), Metrics()
        publisher = RouterPublisher(
            appender=log.appender(client="source"), rules=rules, clock=clock, metrics=metrics
        )
        bench = Bench(log, blobs, metrics, topics, Registry(), router=None, publisher=publisher)  # type: ignore[arg-type]
        bench.router = Router(
            RouterDependencies(
                context=RoutingContext(
                    catalogue=catalogue,
                    registry=bench.registry,
                    now=clock.now(),
                    classifier=KeywordClassifier(),
                ),
                registry=lambda: bench.registry,
                clock=clock,
                rules=rules,
                appender=log.appender(client="router"),
                blobs=blobs,
                metrics=metrics,
            )
        )
        return bench

    return make


@pytest.fixture
def bench(make_bench: Callable[[], Bench]) -> Bench:
    return make_bench()
