"""The Flask function: 204 for everything handled, 503 for bring it again, never 404 for an event."""

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from events import names
from events.codecs.http_codec import to_http, to_http_structured
from events.codecs.kafka_codec import from_record
from events.event import Event
from functions.router.flask_app import create_app
from functions.runtime.errors import AppendFailed

Make = Callable[..., Event]


def client_of(bench: Any, *, is_ready: bool = True, wait_s: float = 5.0) -> FlaskClient:
    app = create_app(
        bench.router,
        is_ready=lambda: is_ready,
        metrics=bench.metrics,
        append_wait_s=wait_s,
        requests_topic=bench.topics.requests,
    )
    return app.test_client()


def post(client: FlaskClient, event: Event) -> int:
    headers, body = to_http(event)
    return client.post("/", headers=headers, data=body).status_code


def test_a_binary_event_is_routed(bench: Any, request_event: Make) -> None:
    assert post(client_of(bench), request_event(model="real")) == 204
    assert len(bench.log.records(bench.topics.model("real"))) == 1


def test_a_structured_event_is_routed_to_the_same_bytes(
    make_bench: Any, request_event: Make
) -> None:
    event = request_event(model="real")
    found = []
    for encode in (to_http, to_http_structured):
        bench = make_bench()
        headers, body = encode(event)
        assert client_of(bench).post("/", headers=headers, data=body).status_code == 204
        records = bench.log.records(bench.topics.model("real"))
        found.append([(record.key, record.headers, record.value) for record in records])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b""),
        ({"content-type": "text/plain"}, b"hello"),
        ({"content-type": "application/cloudevents+json"}, b"{"),
        ({"content-type": "application/cloudevents+json"}, b'{"specversion":"1.0"}'),
        ({"content-type": "application/cloudevents-batch+json"}, b"[]"),
        ({"ce-specversion": "1.0", "ce-id": "a"}, b"{}"),
        ({"ce-specversion": "0.3", "ce-id": "a", "ce-source": "/x", "ce-type": "t"}, b"{}"),
        ({"ce-specversion": "1.0", "ce-id": "a", "ce-source": "/x", "ce-type": "t"}, b"{}"),
        ({"ce-specversion": "1.0", "ce-id": " ", "ce-source": "/x", "ce-type": "t"}, b"{}"),
        ({"ce-specversion": "1.0", "ce-id": "a%0Ab", "ce-source": "/x", "ce-type": "t"}, b"{}"),
        (
            {"ce-specversion": "1.0", "ce-id": "a", "ce-source": "/x", "ce-type": names.REQUEST},
            b"[",
        ),
        ({f"ce-x{n}": "1" for n in range(100)}, b"{}"),
        ({"ce-id": "a", "content-type": "application/json"}, b"x" * 1_000_000),
    ],
)
def test_what_is_malformed_is_handled_and_kept(
    bench: Any, headers: dict[str, str], body: bytes
) -> None:
    answer = client_of(bench).post("/", headers=headers, data=body)
    assert answer.status_code == 204
    assert len(bench.log.records(bench.topics.dlq)) == 1


def test_too_large_an_event_is_answered_through_the_reply_path(
    bench: Any, request_event: Make
) -> None:
    headers, _ = to_http(request_event())
    assert client_of(bench).post("/", headers=headers, data=b" " * 950_000).status_code == 204
    event = from_record(bench.log.records(bench.topics.responses)[0])
    assert b"request_too_large" in (event.data or b"")


def test_an_unknown_model_is_no_404(bench: Any, request_event: Make) -> None:
    assert post(client_of(bench), request_event(model="nobody")) == 204
    assert len(bench.log.records(bench.topics.replies)) == 1


def test_a_failed_append_asks_for_the_event_again(bench: Any, request_event: Make) -> None:
    client = client_of(bench)
    bench.log.fail_next(bench.topics.model("real"), AppendFailed("down", is_unknown=True))
    assert post(client, request_event(model="real")) == 503
    assert post(client, request_event(model="real")) == 204


def test_any_of_the_records_failing_asks_for_the_event_again(
    bench: Any, request_event: Make
) -> None:
    bench.log.fail_next(bench.topics.status, AppendFailed("down"))
    assert post(client_of(bench), request_event(model="real")) == 503


def test_a_failed_dead_letter_asks_for_the_event_again(bench: Any) -> None:
    bench.log.fail_next(bench.topics.dlq, AppendFailed("down"))
    assert client_of(bench).post("/", data=b"x").status_code == 503


def test_a_record_too_large_for_the_broker_ends_the_request(
    bench: Any, request_event: Make
) -> None:
    bench.log.fail_next(bench.topics.model("real"), AppendFailed("size", is_too_large=True))
    assert post(client_of(bench), request_event(model="real")) == 204
    event = from_record(bench.log.records(bench.topics.responses)[0])
    assert b"request_too_large" in (event.data or b"")


def test_a_fault_of_our_own_ends_the_request_as_internal(bench: Any, request_event: Make) -> None:
    bench.registry = None
    assert post(client_of(bench), request_event(model="real")) == 204
    assert b'"internal"' in (from_record(bench.log.records(bench.topics.responses)[0]).data or b"")
    letter = from_record(bench.log.records(bench.topics.dlq)[0])
    assert letter.get(names.DEAD_LETTER_REASON) == "internal:AttributeError"


def test_before_the_registry_is_read_events_are_to_come_again(
    bench: Any, request_event: Make
) -> None:
    client = client_of(bench, is_ready=False)
    assert post(client, request_event()) == 503
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200


def test_probes_and_metrics_answer(bench: Any, request_event: Make) -> None:
    client = client_of(bench)
    post(client, request_event(model="real"))
    assert client.get("/readyz").status_code == 200
    text = client.get("/metrics").get_data(as_text=True)
    assert (
        'pickspin_decisions_total{reason="explicit",route_class="medium",service="real"} 1.0'
        in text
    )


def test_other_paths_and_methods_are_refused_as_json(bench: Any) -> None:
    client = client_of(bench)
    for answer in (client.get("/nothing"), client.get("/"), client.post("/healthz")):
        assert answer.status_code in {404, 405}
        assert answer.is_json


def test_a_blob_is_resolved_before_deciding(bench: Any, request_event: Make) -> None:
    ref = bench.blobs.put(request_event(model="real").data)
    event = request_event(data=None, ext={names.DATA_REF: ref})
    assert post(client_of(bench), event) == 204
    assert len(bench.log.records(bench.topics.model("real"))) == 1


def test_a_missing_blob_fails_the_request(bench: Any, request_event: Make) -> None:
    event = request_event(data=None, ext={names.DATA_REF: "blob:" + "0" * 64})
    assert post(client_of(bench), event) == 204
    assert len(bench.log.records(bench.topics.responses)) == 1
