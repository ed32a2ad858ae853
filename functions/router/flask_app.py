"""The HTTP binding: a Flask function that takes one CloudEvent a call, as KafkaSource sends them.

The statuses are for that source. 204: handled (invalid events too, which are dead letters).
503: send it again. An event is never answered with 4xx.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from flask import Flask, Response, request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.exceptions import HTTPException

from events.codecs.http_codec import from_http
from events.errors import EventRejected
from events.event import Record
from events.limits import DEFAULT_LIMITS
from functions.router.router import Router
from functions.runtime.errors import AppendFailed
from functions.runtime.telemetry import Metrics

log = logging.getLogger(__name__)

HANDLED: Final = 204
AGAIN: Final = 503
_CE: Final = "ce-"
_CONTENT_TYPE: Final = "content-type"


def create_app(
    router: Router,
    *,
    is_ready: Callable[[], bool],
    metrics: Metrics,
    append_wait_s: float,
    requests_topic: str,
) -> Flask:
    """The Flask application.

    Args:
        router: does the work.
        is_ready: whether an event could be routed now (the registry is read).
        metrics: shown at `/metrics`.
        append_wait_s: longest wait for the records to be durable; then 503.
        requests_topic: the topic written into dead letters of what never was an event.
    """
    app = Flask("pickspin-router", static_folder=None)

    @app.post("/")
    def take_event() -> Response:
        if not is_ready():
            # Without the registry a replay could not be recognised.
            return Response(status=AGAIN, headers={"Retry-After": "1"})
        try:
            _start(router, requests_topic).result(append_wait_s)
        except (AppendFailed, TimeoutError) as error:
            log.warning("records not appended", extra={"reason": type(error).__name__})
            return Response(status=AGAIN, headers={"Retry-After": "1"})
        return Response(status=HANDLED)

    _add_probes(app, is_ready, metrics)
    app.register_error_handler(HTTPException, _refuse)
    return app


def _add_probes(app: Flask, is_ready: Callable[[], bool], metrics: Metrics) -> None:
    @app.get("/healthz")
    def healthz() -> Response:
        return Response("ok\n", mimetype="text/plain")

    @app.get("/readyz")
    def readyz() -> Response:
        if is_ready():
            return Response("ready\n", mimetype="text/plain")
        return Response("the registry is not read yet\n", AGAIN, mimetype="text/plain")

    @app.get("/metrics")
    def show_metrics() -> Response:
        return Response(generate_latest(metrics.registry), content_type=CONTENT_TYPE_LATEST)


def _refuse(error: HTTPException) -> Response:
    body = f'{{"error":{{"message":"{error.name}","code":{error.code}}}}}\n'
    return Response(body, error.code, mimetype="application/json")


def _start(router: Router, requests_topic: str) -> "Future[None]":
    """Begins what an HTTP request asks for: routing an event, or keeping what is not one as a dead letter."""
    headers = [(name.lower(), value) for name, value in request.headers.items()]
    relevant = [(n, v) for n, v in headers if n == _CONTENT_TYPE or n.startswith(_CE)]
    limit = DEFAULT_LIMITS.max_bytes
    body = request.stream.read(limit + 1)
    try:
        # Beyond the limit only the attributes are read: who asks for too much still gets a reply.
        event = from_http(relevant, body if len(body) <= limit else b"")
    except EventRejected as error:
        return router.reject(_as_record(relevant, body, requests_topic), error)
    if len(body) > limit:
        return router.refuse(event, EventRejected("request_too_large", "the event is too large"))
    return router.route(event)


def _as_record(headers: list[tuple[str, str]], body: bytes, topic: str) -> Record:
    """What came over HTTP in the form in which Kafka would have brought it."""
    named = (
        (name if name == _CONTENT_TYPE else f"ce_{name.removeprefix(_CE)}", value)
        for name, value in headers
    )
    kept = tuple((name, value.encode("utf-8", "replace")) for name, value in named)
    return Record(topic=topic, value=body, headers=kept)
