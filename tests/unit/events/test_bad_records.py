"""Rows K1-K35 of the bad-input catalogue: what a foreign producer may put on a topic, and what becomes of it here.

A record is refused by the codec, refused by the parser of requests, or accepted; never anything else. Rows K36-K39
(late replies, aborted transactions, compressed bombs) belong to readers and the broker and have no record of their own.
"""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from events import names
from events.codecs import kafka_codec
from events.dead_letters import dead_letter_record
from events.errors import EventRejected
from events.event import Record
from events.limits import DEFAULT_LIMITS
from events.requests import InferenceRequest, parse_request

BODY = b'{"messages":[{"role":"user","content":"hi"}]}'
HEADERS: dict[str, bytes] = {
    "ce_specversion": b"1.0",
    "ce_id": b"req-1",
    "ce_source": b"/producer",
    "ce_type": names.REQUEST.encode(),
    "ce_time": b"2026-11-21T12:00:00Z",
    "content-type": b"application/json",
}
RECEIVED = datetime(2026, 11, 21, 12, 0, 5, tzinfo=UTC)


def record(
    value: bytes | None = BODY, *, without: str = "", key: bytes | None = None, **headers: object
) -> Record:
    """A valid request but for what is asked; headers by their attribute, None for a header without value."""
    found: dict[str, object] = {k: v for k, v in HEADERS.items() if k != f"ce_{without}"}
    for name, given in headers.items():
        found["content-type" if name == "content_type" else f"ce_{name}"] = given
    return Record(topic="infer.requests", value=value, key=key, headers=tuple(found.items()))  # type: ignore[arg-type]


def more(*headers: tuple[str, bytes | None], **others: object) -> Record:
    found = record(**others)  # type: ignore[arg-type]
    return replace(found, headers=(*found.headers, *headers))  # type: ignore[arg-type]


def untyped(found: Record) -> Record:
    """Without its content type."""
    kept = tuple(header for header in found.headers if header[0] != "content-type")
    return replace(found, headers=kept)


def structured(document: object, content_type: bytes = b"application/cloudevents+json") -> Record:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Record(topic="infer.requests", value=raw, headers=(("content-type", content_type),))


def event_document(**members: object) -> dict[str, object]:
    found: dict[str, object] = {
        "specversion": "1.0",
        "id": "req-1",
        "source": "/producer",
        "type": names.REQUEST,
        "time": "2026-11-21T12:00:00Z",
        "data": json.loads(BODY),
    }
    return {**found, **members}


def duplicate_id() -> Record:
    return more(("ce_id", b"req-2"))


@dataclass(frozen=True)
class Row:
    name: str
    record: Record
    attribute: str | None = None
    code: str = "invalid_event"


NOT_AN_EVENT = [
    Row("K1-no-id", record(without="id"), "id"),
    Row(
        "K1-no-id-structured",
        structured({k: v for k, v in event_document().items() if k != "id"}),
        "id",
    ),
    Row("K1-null-id-structured", structured(event_document(id=None)), "id"),
    Row("K2-empty-id", record(id=b""), "id"),
    Row("K2-10-KB-id", record(id=b"x" * 10_000), "id"),
    Row("K2-id-ends-in-space", record(id=b"a "), "id"),
    Row("K2-id-with-line-end", record(id=b"a\nb"), "id"),
    Row("K2-id-too-long", record(id=b"a" * 257), "id"),
    Row("K2-subject-empty", record(subject=b""), "subject"),
    Row("K2-subject-with-tab", record(subject=b"a\tb"), "subject"),
    Row("K2-subject-too-long", record(subject="ü".encode() * 513), "subject"),
    Row("K3-no-source", record(without="source"), "source"),
    Row("K3-empty-source", record(source=b""), "source"),
    Row("K3-source-is-no-URI", record(source=b"not a uri"), "source"),
    Row("K3-source-with-bad-percent", record(source=b"/a%zz"), "source"),
    Row("K4-no-type", record(without="type"), "type"),
    Row("K4-empty-type", record(type=b""), "type"),
    Row("K5-no-specversion", record(without="specversion"), "specversion"),
    Row("K5-specversion-0.3", record(specversion=b"0.3"), "specversion"),
    Row("K5-specversion-2.0", record(specversion=b"2.0"), "specversion"),
    Row(
        "K5-specversion-number-structured",
        structured(event_document(specversion=1.0)),
        "specversion",
    ),
    Row("K6-value-None", record(subject=None), "subject"),
    Row("K6-content-type-None", record(content_type=None), "datacontenttype"),
    Row("K7-not-UTF-8", record(tenant=b"\xff\xfe"), "tenant"),
    Row("K7-content-type-not-UTF-8", record(content_type=b"\xff"), "datacontenttype"),
    Row("K8-duplicate-id", duplicate_id(), "id"),
    Row("K8-duplicate-id-same-value", more(("ce_id", b"req-1")), "id"),
    Row("K8-duplicate-content-type", more(("Content-Type", b"text/plain")), "datacontenttype"),
    Row("K8-duplicate-key-structured", structured(b'{"id":"a","id":"b"}'), None, "invalid_body"),
    Row("K9-upper-case-prefix", more(("CE_ID", b"req-1"), without="id")),
    Row("K9-upper-case-beside", more(("CE_ID", b"req-2"))),
    Row("K9-upper-case-name", more(("ce_Tenant", b"a"))),
    Row("K10-empty-name", more(("ce_", b"a"))),
    Row("K10-newline-in-name", more(("ce_tenant\n", b"a"))),
    Row("K10-underscore-in-name", more(("ce_reply_topic", b"a"))),
    Row("K10-41-characters", more(("ce_" + "a" * 41, b"a"))),
    Row("K10-reserved-data", more(("ce_data", b"a"))),
    Row(
        "K10-another-datacontenttype",
        more(("ce_datacontenttype", b"text/plain")),
        "datacontenttype",
    ),
    Row(
        "K10-only-datacontenttype",
        untyped(record(datacontenttype=b"application/json")),
        "datacontenttype",
    ),
    Row("K10-underscore-structured", structured(event_document(reply_topic="a"))),
    Row("K11-CR-LF", record(tenant=b"a\r\nx-forged: 1"), "tenant"),
    Row("K11-NUL", record(tenant=b"a\x00"), "tenant"),
    Row("K11-NUL-in-id", record(id=b"a\x00"), "id"),
    Row("K11-C1-control", record(tenant="a\x85b".encode()), "tenant"),
    Row("K11-noncharacter", record(tenant="a\ufffe".encode()), "tenant"),
    Row("K11-LF-structured", structured(event_document(tenant="a\n")), "tenant"),
    Row("K12-1000-headers", more(*((f"x{n}", b"") for n in range(1000))), None, "header_too_large"),
    Row("K12-1-MB-of-headers", more(("x", b"a" * 1_000_000)), None, "header_too_large"),
    Row(
        "K12-1000-attributes-structured",
        structured(event_document(**{f"a{n}": "" for n in range(1000)})),
        None,
        "header_too_large",
    ),
    Row(
        "K14-batch",
        structured([event_document()], b"application/cloudevents-batch+json"),
        "datacontenttype",
        "unsupported_media_type",
    ),
    Row(
        "K14-another-format",
        structured(b"\x00", b"application/cloudevents+avro"),
        "datacontenttype",
        "unsupported_media_type",
    ),
    Row(
        "K14-latin-1",
        structured(event_document(), b"application/cloudevents+json; charset=latin-1"),
        "datacontenttype",
        "unsupported_media_type",
    ),
    Row("K15-tombstone-structured", replace(structured({}), value=None)),
    Row("K16-empty-structured", structured(b""), None, "invalid_body"),
    Row("K17-gzip-structured", structured(gzip.compress(b"{}")), None, "invalid_body"),
    Row("K18-array-structured", structured([1]), None, "invalid_body"),
    Row("K19-truncated-structured", structured(b'{"id": "a'), None, "invalid_body"),
    Row("K20-deep-structured", structured(b"[" * 100_000), None, "invalid_body"),
    Row("K21-NaN-structured", structured(b'{"data": NaN}'), None, "invalid_body"),
    Row("K22-data-and-data_base64", structured(event_document(data_base64="e30=")), "data"),
    Row(
        "K22-bad-base64", structured(event_document(data=None, data_base64="e3!0=")), "data_base64"
    ),
    Row("K22-base64-number", structured(event_document(data=None, data_base64=5)), "data_base64"),
    Row("K22-object-as-text", structured(event_document(datacontenttype="text/plain")), "data"),
    Row(
        "K22-content-type-number", structured(event_document(datacontenttype=5)), "datacontenttype"
    ),
    Row("K23-BOM-structured", structured(b"\xef\xbb\xbf{}"), None, "invalid_body"),
    Row("K23-UTF-16-structured", structured("{}".encode("utf-16")), None, "invalid_body"),
    Row("K24-time-invalid", record(time=b"yesterday"), "time"),
    Row("K24-time-naive", record(time=b"2026-11-21T12:00:00"), "time"),
    Row("K24-time-31-April", record(time=b"2026-04-31T12:00:00Z"), "time"),
    Row("K24-time-after-year-9999", record(time=b"9999-12-31T23:59:59-01:00"), "time"),
    Row(
        "K32-limit-plus-1", record(b"x" * (DEFAULT_LIMITS.max_bytes + 1)), None, "request_too_large"
    ),
    Row("K26-key-1-MB", record(key=b"k" * 1_000_000), None, "request_too_large"),
]

NOT_A_REQUEST = [
    Row("K4-unknown-type", record(type=b"com.example.other"), "type"),
    Row(
        "K4-type-of-another-version",
        record(type=names.REQUEST.replace("v1", "v2").encode()),
        "type",
    ),
    Row("K15-tombstone", record(None), None, "invalid_body"),
    Row("K16-empty-value", record(b""), None, "invalid_body"),
    Row(
        "K17-plain-text",
        record(b"hello", content_type=b"text/plain"),
        "datacontenttype",
        "unsupported_media_type",
    ),
    Row("K17-plain-text-called-JSON", record(b"hello"), None, "invalid_body"),
    Row("K17-protobuf", record(b"\x0a\x03abc"), None, "invalid_body"),
    Row("K17-gzip", record(gzip.compress(BODY)), None, "invalid_body"),
    Row("K18-array", record(b"[1]"), None, "invalid_body"),
    Row("K18-string", record(b'"x"'), None, "invalid_body"),
    Row("K18-number", record(b"5"), None, "invalid_body"),
    Row("K18-null", record(b"null"), None, "invalid_body"),
    Row("K19-truncated", record(BODY[:-3]), None, "invalid_body"),
    Row(
        "K20-deep", record(b'{"messages":' + b"[" * 2000 + b"]" * 2000 + b"}"), None, "invalid_body"
    ),
    Row(
        "K20-100-deep",
        record(b'{"messages":' + b"[" * 100 + b"]" * 100 + b"}"),
        None,
        "invalid_body",
    ),
    Row("K21-NaN", record(b'{"messages":[],"temperature":NaN}'), None, "invalid_body"),
    Row("K21-1e400", record(b'{"messages":[],"temperature":1e400}'), None, "invalid_body"),
    Row(
        "K21-huge-integer",
        record(b'{"messages":[],"seed":' + b"1" * 5000 + b"}"),
        None,
        "invalid_body",
    ),
    Row("K21-duplicate-keys", record(b'{"model":"a","model":"b"}'), None, "invalid_body"),
    Row("K23-BOM", record(b"\xef\xbb\xbf" + BODY), None, "invalid_body"),
    Row("K23-UTF-16", record(BODY.decode().encode("utf-16")), None, "invalid_body"),
    Row("K23-UTF-16-no-BOM", record(BODY.decode().encode("utf-16-le")), None, "invalid_body"),
    Row("K25-expirytime-malformed", record(expirytime=b"soon"), "expirytime"),
    Row("K25-expirytime-empty", record(expirytime=b""), "expirytime"),
    Row("K27-internal-topic", record(replytopic=b"__consumer_offsets"), "replytopic"),
    Row("K27-no-topic-name", record(replytopic=b"a/b"), "replytopic"),
    Row(
        "K28-partition-minus-1",
        record(replytopic=b"infer.replies", replypartition=b"-1"),
        "replypartition",
    ),
    Row(
        "K28-partition-1e9",
        record(replytopic=b"infer.replies", replypartition=b"1000000000"),
        "replypartition",
    ),
    Row(
        "K28-partition-x",
        record(replytopic=b"infer.replies", replypartition=b"x"),
        "replypartition",
    ),
    Row(
        "K28-partition-other-digits",
        record(replytopic=b"infer.replies", replypartition="٣".encode()),
        "replypartition",
    ),
    Row("K31-file", record(None, dataref=b"file:///etc/passwd"), "dataref"),
    Row("K31-internal-host", record(None, dataref=b"http://169.254.169.254/x"), "dataref"),
    Row("K31-path-in-a-hash", record(None, dataref=b"blob:../../etc/passwd"), "dataref"),
    Row("K31-not-resolved", record(None, dataref=b"blob:" + b"0" * 64), "dataref"),
    Row("K31-hash-malformed", record(BODY, datahash=b"xyz"), "datahash"),
    Row("K34-hops-malformed", record(hops=b"-1"), "hops"),
    Row("operation-unknown", record(operation=b"images"), "operation"),
    Row("priority-unknown", record(priority=b"urgent"), "priority"),
    Row("tenant-with-space", record(tenant=b"a b"), "tenant"),
]


@pytest.mark.parametrize("row", NOT_AN_EVENT, ids=lambda row: row.name)
def test_a_record_that_is_not_one_valid_event_is_refused(row: Row) -> None:
    with pytest.raises(EventRejected) as caught:
        kafka_codec.from_record(row.record)
    assert (caught.value.code, caught.value.attribute) == (row.code, row.attribute)


@pytest.mark.parametrize("row", NOT_A_REQUEST, ids=lambda row: row.name)
def test_an_event_that_is_not_a_valid_request_is_refused_by_the_parser(row: Row) -> None:
    event = kafka_codec.from_record(row.record)
    with pytest.raises(EventRejected) as caught:
        parse_request(event, default_wait_s=60)
    assert (caught.value.code, caught.value.attribute) == (row.code, row.attribute)


def parsed(found: Record) -> InferenceRequest:
    return parse_request(kafka_codec.from_record(found), default_wait_s=60)


@pytest.mark.parametrize(
    ("found", "holds"),
    [
        pytest.param(record(), lambda r: r.origin.correlation_id == "req-1", id="a-valid-request"),
        pytest.param(
            record(without="time", time=b"2026-11-21T13:00:00+01:00"),
            lambda r: r.event.time == "2026-11-21T12:00:00.000Z",
            id="K24-time-with-offset-becomes-UTC",
        ),
        pytest.param(
            record(time=b"2026-11-21T12:00:00.123456789Z"),
            lambda r: r.accepted_at.microsecond == 123_456,
            id="K24-nanoseconds",
        ),
        pytest.param(
            record(time=b"2026-11-21T13:00:00Z"),
            lambda r: r.accepted_at > RECEIVED,
            id="K24-future-by-1-h-is-the-readers-to-clamp",
        ),
        pytest.param(
            record(time=b"9999-12-31T00:00:00Z"),
            lambda r: r.accepted_at.year == 9999,
            id="K24-year-9999",
        ),
        pytest.param(
            record(expirytime=b"2020-01-01T00:00:00Z"),
            lambda r: r.deadline.year == 2020,
            id="K25-past-deadline-is-kept",
        ),
        pytest.param(
            record(),
            lambda r: (r.deadline - r.accepted_at).total_seconds() == 60,
            id="K25-absent-deadline-is-the-default",
        ),
        pytest.param(record(key=None), lambda r: r.key == r.request_id, id="K26-key-None"),
        pytest.param(
            record(key=b"\xff\xfe"),
            lambda r: r.key == r.request_id,
            id="K26-key-not-UTF-8-is-not-read",
        ),
        pytest.param(
            record(key=b"a", partitionkey=b"b"),
            lambda r: (r.key, r.session) == ("b", "b"),
            id="K26-partitionkey-wins",
        ),
        pytest.param(
            record(correlationid=b"foreign"),
            lambda r: r.origin.correlation_id == "req-1",
            id="K29-foreign-correlationid-is-ignored",
        ),
        pytest.param(record(hops=b"7"), lambda r: r.hops == 7, id="K34-hops-are-counted"),
        pytest.param(
            more(("x-trace", b"\xff"), ("other", None)),
            lambda r: r.origin.correlation_id == "req-1",
            id="foreign-headers-are-ignored",
        ),
        pytest.param(
            record(content_type=b"application/json; charset=UTF-8"),
            lambda r: r.origin.correlation_id == "req-1",
            id="charset-utf-8",
        ),
        pytest.param(
            replace(record(), headers=tuple(h for h in record().headers if h[0] != "content-type")),
            lambda r: r.event.datacontenttype == names.JSON,
            id="no-content-type-is-JSON",
        ),
        pytest.param(
            structured(event_document(sequence=5, isurgent=True)),
            lambda r: (r.event.get("sequence"), r.event.get("isurgent")) == ("5", "true"),
            id="structured-integers-and-booleans-become-text",
        ),
        pytest.param(
            structured(event_document(data=None, data_base64="eyJwcm9tcHQiOiJoaSJ9")),
            lambda r: r.body == {"prompt": "hi"},
            id="K22-base64-data",
        ),
        pytest.param(
            record(BODY, operation=b"chat", dataschema=b"https://example.com/s"),
            lambda r: r.event.dataschema == "https://example.com/s",
            id="dataschema",
        ),
        pytest.param(
            record(futureattribute=b"x"),
            lambda r: r.event.get("futureattribute") == "x",
            id="unknown-attributes-are-kept",
        ),
    ],
)
def test_what_is_unusual_but_valid_is_read(
    found: Record, holds: Callable[[InferenceRequest], bool]
) -> None:
    assert holds(parsed(found))


def test_row_k13_structured_content_wins_over_ce_headers_that_disagree() -> None:
    found = structured(event_document(id="inner"))
    found = replace(
        found, headers=(*found.headers, ("ce_id", b"outer"), ("ce_tenant", b"forged\n"))
    )
    event = kafka_codec.from_record(found)
    assert event.id == "inner"
    assert event.get("tenant") is None


def test_row_k15_a_tombstone_with_attributes_is_an_event_without_data() -> None:
    assert kafka_codec.from_record(record(None)).data is None


def test_row_k16_an_empty_value_is_not_a_tombstone() -> None:
    assert kafka_codec.from_record(record(b"")).data == b""


def test_row_k31_a_resolved_reference_with_another_hash_is_refused() -> None:
    event = kafka_codec.from_record(record(None, dataref=b"blob:" + b"0" * 64, datahash=b"0" * 64))
    with pytest.raises(EventRejected) as caught:
        parse_request(event, default_wait_s=60, body=BODY)
    assert caught.value.attribute == names.DATA_HASH


@pytest.mark.parametrize("missing", [1, 0])
def test_row_k32_a_record_up_to_the_limit_is_read(missing: int) -> None:
    empty = record(b"", content_type=b"text/plain")
    size = DEFAULT_LIMITS.max_bytes - empty.size_bytes - missing
    found = replace(empty, value=b"x" * size)
    assert found.size_bytes == DEFAULT_LIMITS.max_bytes - missing
    assert kafka_codec.from_record(found).data == found.value


def test_row_k33_the_same_id_with_other_data_has_another_content_hash() -> None:
    first, second = record(BODY), record(BODY + b" ")
    events = [kafka_codec.from_record(found) for found in (first, second)]
    assert events[0].id == events[1].id
    assert events[0].data != events[1].data


def test_a_request_without_time_takes_the_time_of_its_record() -> None:
    event = kafka_codec.from_record(record(without="time"))
    assert parse_request(event, default_wait_s=60, received_at=RECEIVED).accepted_at == RECEIVED
    with pytest.raises(EventRejected) as caught:
        parse_request(event, default_wait_s=60)
    assert caught.value.attribute == "time"


def test_a_dead_letter_is_the_record_as_it_was_and_its_reason() -> None:
    poison = more(("ce_deadletterreason", b"old"), ("ce_id", b"again"), key=b"\xff")
    found = dead_letter_record(poison, "invalid_event:id\r\nforged", topic="infer.dlq")
    assert (found.topic, found.key, found.value) == ("infer.dlq", b"\xff", poison.value)
    assert dict(found.headers)["ce_deadletterreason"] == b"invalid_event:id??forged"
    assert [n for n, _ in found.headers].count("ce_deadletterreason") == 1
    assert [n for n, _ in found.headers].count("ce_id") == 2


def test_a_rejection_never_repeats_what_it_refuses() -> None:
    with pytest.raises(EventRejected) as caught:
        kafka_codec.from_record(more(("ce_secret_name_of_mine", b"secret value")))
    assert "secret" not in f"{caught.value}{caught.value.reason}"


@pytest.mark.parametrize("said", [b"application/json", b"Application/JSON; charset=utf-8"])
def test_a_content_type_that_is_said_twice_is_the_same_event(said: bytes) -> None:
    plain, twice = record(), more(("ce_datacontenttype", said))
    assert kafka_codec.from_record(twice) == kafka_codec.from_record(plain)
