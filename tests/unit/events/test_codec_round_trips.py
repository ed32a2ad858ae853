"""What one codec writes every reader reads: ours, and the CloudEvents SDK's, in both directions."""

import contextlib
import json
import string
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings import http as sdk_http
from cloudevents.core.bindings import kafka as sdk_kafka
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from events import names
from events.codecs import http_codec, kafka_codec
from events.errors import EventRejected
from events.event import Event, Record
from events.timestamps import from_rfc3339, to_rfc3339

EVERY_TYPE = sorted(names.EVENT_TYPES)
VISIBLE = st.text([chr(c) for c in range(0x21, 0x7F)], min_size=1, max_size=128)
URI = st.text(
    string.ascii_letters + string.digits + "/:?#[]@!$&'()*+,;=._~-", min_size=1, max_size=60
)
VALUES = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Cn"]) | st.sampled_from('%"\\ é😀%41'),
    max_size=40,
)
NAMES = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=20).filter(
    lambda name: (
        name
        not in {
            "id",
            "source",
            "type",
            "specversion",
            "subject",
            "time",
            "datacontenttype",
            "dataschema",
            "data",
        }
    )
)
TIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(  # noqa: DTZ001 - made aware in the next line
    lambda naive: to_rfc3339(naive.replace(tzinfo=UTC))
)
TEXTS = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Cn"]) | st.sampled_from('%"\\ é😀%41/?#'),
    min_size=1,
    max_size=100,
)
IDS = VISIBLE | TEXTS.filter(lambda text: text == text.strip())
EVENTS = st.builds(
    Event,
    id=IDS,
    source=URI | st.sampled_from(["/département", "urn:x:ü"]),
    type=VISIBLE,
    subject=st.none() | VISIBLE | TEXTS,
    time=st.none() | TIMES,
    dataschema=st.none() | URI,
    datacontenttype=st.sampled_from([names.JSON, "text/plain", "application/octet-stream"]),
    data=st.none() | st.binary(min_size=1, max_size=100),
    extensions=st.dictionaries(NAMES, VALUES, max_size=6),
)
JSON_EVENTS = st.builds(
    Event,
    id=VISIBLE,
    source=URI,
    type=VISIBLE,
    time=st.none() | TIMES,
    data=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.integers(), max_size=4
    ).map(lambda found: json.dumps(found).encode()),
    extensions=st.dictionaries(NAMES, VALUES, max_size=6),
)


@given(EVENTS)
@settings(deadline=None)
def test_any_event_comes_back_identical_from_a_record(event: Event) -> None:
    record = kafka_codec.to_record(event, topic="t", key="k")
    assert kafka_codec.from_record(record) == event


@given(EVENTS)
@settings(deadline=None)
def test_any_event_comes_back_identical_from_http(event: Event) -> None:
    headers, body = http_codec.to_http(event)
    assert all(
        name.isascii() and value.isascii() and value.isprintable()
        for name, value in headers.items()
    )
    assert http_codec.from_http(headers.items(), body) == event


@given(JSON_EVENTS)
@settings(deadline=None)
def test_any_json_event_comes_back_identical_from_structured_http(event: Event) -> None:
    headers, body = http_codec.to_http_structured(event)
    assert http_codec.from_http(headers.items(), body) == event


@given(EVENTS)
@settings(deadline=None)
def test_data_that_is_not_json_travels_in_base64(event: Event) -> None:
    if event.datacontenttype == names.JSON:
        return
    headers, body = http_codec.to_http_structured(event)
    assert http_codec.from_http(headers.items(), body) == event


HEADER_NAMES = st.text(max_size=12) | st.sampled_from(
    [
        "ce_id",
        "ce_source",
        "ce_type",
        "ce_specversion",
        "ce_time",
        "ce_tenant",
        "content-type",
        "CE_ID",
        "ce_",
    ]
)
HEADER_VALUES = (
    st.none()
    | st.binary(max_size=20)
    | st.sampled_from(
        [
            b"1.0",
            b"/a",
            b"x",
            b"application/json",
            b"application/cloudevents+json",
            b"2026-11-21T12:00:00Z",
        ]
    )
)


@given(
    st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=10),
    st.none()
    | st.binary(max_size=60)
    | JSON_EVENTS.map(lambda e: http_codec.to_http_structured(e)[1]),
    st.none() | st.binary(max_size=5),
)
@settings(deadline=None, max_examples=300)
def test_no_record_raises_anything_but_a_rejection(
    headers: list[tuple[str, Any]], value: bytes | None, key: bytes | None
) -> None:
    record = Record(topic="t", value=value, key=key, headers=tuple(headers))
    try:
        event = kafka_codec.from_record(record)
    except EventRejected:
        return
    assert kafka_codec.from_record(kafka_codec.to_record(event, topic="t", key=None)) == event


@given(
    st.lists(
        st.tuples(
            st.text(max_size=8)
            | st.sampled_from(["ce-id", "Ce-Source", "ce-type", "ce-specversion", "Content-Type"]),
            st.text(max_size=12)
            | st.sampled_from(
                ["1.0", "/a", "x", "%", "%ff", '"a\\"', "application/cloudevents+json"]
            ),
        ),
        max_size=10,
    ),
    st.binary(max_size=60),
)
@settings(deadline=None, max_examples=300)
def test_no_http_message_raises_anything_but_a_rejection(
    headers: list[tuple[str, str]], body: bytes
) -> None:
    with contextlib.suppress(EventRejected):
        http_codec.from_http(headers, body)


def sdk_attributes(event: Event) -> dict[str, Any]:
    """The attributes as the SDK holds them."""
    found: dict[str, Any] = {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "datacontenttype": event.datacontenttype,
        **event.extensions,
    }
    if event.subject is not None:
        found["subject"] = event.subject
    if event.time is not None:
        found["time"] = from_rfc3339(event.time)
    return found


def same(found: Event, event: Event) -> bool:
    """Equal but for the spelling of `time`: the SDK writes microseconds."""
    times = [e.time and from_rfc3339(e.time) for e in (found, event)]
    rest = [{f: getattr(e, f) for f in Event.__slots__ if f != "time"} for e in (found, event)]
    return times[0] == times[1] and rest[0] == rest[1]


@pytest.mark.parametrize("event_type", EVERY_TYPE)
def test_the_sdk_reads_our_records(event_type: str, samples: Mapping[str, Event]) -> None:
    event = samples[event_type]
    record = kafka_codec.to_record(event, topic="t", key=None)
    message = sdk_kafka.KafkaMessage(
        headers=dict(record.headers), key=None, value=record.value or b""
    )
    found = sdk_kafka.from_kafka(message, JSONFormat())
    assert found.get_attributes() == sdk_attributes(event)
    assert found.get_data() == json.loads(event.data or b"null")


@pytest.mark.parametrize("event_type", EVERY_TYPE)
@pytest.mark.parametrize("is_structured", [False, True], ids=["binary", "structured"])
def test_we_read_the_records_of_the_sdk(
    event_type: str, is_structured: bool, samples: Mapping[str, Event]
) -> None:
    event = samples[event_type]
    sdk_event = CloudEvent(sdk_attributes(event), event.data)
    write = sdk_kafka.to_structured if is_structured else sdk_kafka.to_binary
    message = write(sdk_event, JSONFormat())
    record = Record(topic="t", value=message.value, headers=tuple(message.headers.items()))
    assert same(kafka_codec.from_record(record), event)


@pytest.mark.parametrize("event_type", EVERY_TYPE)
@pytest.mark.parametrize("is_structured", [False, True], ids=["binary", "structured"])
def test_the_sdk_reads_our_http(
    event_type: str, is_structured: bool, samples: Mapping[str, Event]
) -> None:
    event = samples[event_type]
    headers, body = (http_codec.to_http_structured if is_structured else http_codec.to_http)(event)
    found = sdk_http.from_http(sdk_http.HTTPMessage(headers=headers, body=body), JSONFormat())
    assert found.get_attributes() == sdk_attributes(event)
    assert found.get_data() == json.loads(event.data or b"null")


@pytest.mark.parametrize("event_type", EVERY_TYPE)
@pytest.mark.parametrize("is_structured", [False, True], ids=["binary", "structured"])
def test_we_read_the_http_of_the_sdk(
    event_type: str, is_structured: bool, samples: Mapping[str, Event]
) -> None:
    event = samples[event_type]
    write = sdk_http.to_structured if is_structured else sdk_http.to_binary
    message = write(CloudEvent(sdk_attributes(event), event.data), JSONFormat())
    assert same(http_codec.from_http(message.headers.items(), message.body), event)


@pytest.mark.parametrize("event_type", EVERY_TYPE)
def test_every_type_comes_back_identical_through_every_form(
    event_type: str, samples: Mapping[str, Event]
) -> None:
    event = samples[event_type]
    assert kafka_codec.from_record(kafka_codec.to_record(event, topic="t", key=None)) == event
    for headers, body in (http_codec.to_http(event), http_codec.to_http_structured(event)):
        assert http_codec.from_http(headers.items(), body) == event


def test_data_of_a_structured_event_keeps_its_bytes_even_under_an_escaped_name() -> None:
    head = b'{"specversion":"1.0","id":"a","source":"/a","type":"t",'
    for name in (b'"data"', b'"d\\u0061ta"'):
        body = head + name + b' : {"a" : 1e5} }'
        event = http_codec.from_http([("content-type", names.STRUCTURED_JSON)], body)
        assert event.data == b'{"a" : 1e5}'


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ""),
        ("id", "a\nb"),
        ("source", "no uri"),
        ("type", ""),
        ("subject", ""),
        ("subject", "a\nb"),
        ("id", " a"),
        ("time", "yesterday"),
        ("datacontenttype", "text/plain\r\nx: y"),
        ("extensions", {"Bad": "x"}),
        ("extensions", {"tenant": "a\r\nb"}),
        ("extensions", {"id": "other"}),
        ("extensions", {"data": "x"}),
    ],
)
def test_an_event_that_could_not_be_read_is_not_written(field: str, value: object) -> None:
    fields: dict[str, Any] = {"id": "a", "source": "/a", "type": "t", field: value}
    for write in (http_codec.to_http, http_codec.to_http_structured):
        with pytest.raises(EventRejected):
            write(Event(**fields))
    with pytest.raises(EventRejected):
        kafka_codec.to_record(Event(**fields), topic="t", key=None)


def test_a_tombstone_keeps_its_attributes_and_has_no_value() -> None:
    event = Event(id="a", source="/a", type="t")
    record = kafka_codec.to_record(event, topic="t", key="k", partition=3)
    assert (record.value, record.key, record.partition) == (None, b"k", 3)
    assert kafka_codec.from_record(record) == event
