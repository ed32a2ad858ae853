"""Events over HTTP: the rules of the record codec, and what only headers can do wrong."""

import pytest

from events import names
from events.codecs import http_codec
from events.errors import EventRejected
from events.limits import Limits

HEADERS = [
    ("Ce-SpecVersion", "1.0"),
    ("ce-id", "1"),
    ("CE-Source", "/a"),
    ("ce-type", "t"),
    ("Content-Type", "application/json"),
]


def refused(
    headers: list[tuple[str, str]], body: bytes = b"{}", limits: Limits | None = None
) -> EventRejected:
    with pytest.raises(EventRejected) as caught:
        http_codec.from_http(headers, body, limits or Limits())
    return caught.value


def test_header_names_are_read_in_any_case() -> None:
    event = http_codec.from_http(HEADERS, b"{}")
    assert (event.id, event.source, event.type, event.data) == ("1", "/a", "t", b"{}")


def test_what_knatives_kafka_source_adds_is_taken() -> None:
    added = [("ce-knativekafkaoffset", "7"), ("ce-knativekafkapartition", "3")]
    event = http_codec.from_http([*HEADERS, *added], b"{}")
    assert event.get("knativekafkapartition") == "3"


def test_an_empty_body_is_no_data() -> None:
    assert http_codec.from_http(HEADERS, b"").data is None


@pytest.mark.parametrize(
    ("header", "attribute"),
    [
        (("ce-id", "2"), "id"),
        (("CE-ID", "1"), "id"),
        (("content-type", "application/json"), "datacontenttype"),
        (("ce-tenant", "a%0d%0ax-forged:%201"), "tenant"),
        (("ce-tenant", "%00"), "tenant"),
        (("ce-tenant", "100%"), "tenant"),
        (("ce-tenant", "%ff"), "tenant"),
        (("ce-reply_topic", "a"), None),
        (("ce-", "a"), None),
        (("ce-datacontenttype", "a"), "datacontenttype"),
    ],
)
def test_a_bad_header_is_refused(header: tuple[str, str], attribute: str | None) -> None:
    assert refused([*HEADERS, header]).attribute == attribute


def test_percent_encoding_and_quoting_are_undone_once() -> None:
    found = http_codec.from_http(
        [*HEADERS, ("ce-a", "caf%C3%A9%20%2541"), ("ce-b", ' "say \\"x\\"" ')], b""
    )
    assert (found.get("a"), found.get("b")) == ("café %41", 'say "x"')


def test_a_batch_is_refused() -> None:
    found = refused([("content-type", "application/cloudevents-batch+json")], b"[]")
    assert found.code == "unsupported_media_type"


def test_structured_content_wins_over_ce_headers() -> None:
    body = b'{"specversion":"1.0","id":"inner","source":"/b","type":"t"}'
    headers = [*HEADERS[:-1], ("content-type", "application/cloudevents+json; charset=utf-8")]
    assert http_codec.from_http(headers, body).id == "inner"


def test_too_many_or_too_large_headers_and_bodies_are_refused() -> None:
    assert refused([(f"x{n}", "") for n in range(65)]).code == "header_too_large"
    assert refused([("x", "a" * 20_000)]).code == "header_too_large"
    assert refused(HEADERS, b"x" * 11, Limits(max_bytes=10)).code == "request_too_large"


def test_nothing_is_invented() -> None:
    for missing in ("ce-id", "ce-source", "ce-type", "ce-specversion"):
        headers = [(n, v) for n, v in HEADERS if n.lower() != missing]
        assert refused(headers).attribute == missing.removeprefix("ce-")


def test_time_stays_absent_in_structured_form() -> None:
    event = http_codec.from_http(HEADERS, b"{}")
    headers, body = http_codec.to_http_structured(event)
    assert b'"time"' not in body
    assert headers["content-type"].startswith(names.STRUCTURED_JSON)


@pytest.mark.parametrize(
    "sent", ["Gr\u00fc\u00dfe", "Grüße".encode().decode("latin-1"), "Gr%C3%BC%C3%9Fe"]
)
def test_a_value_that_was_not_encoded_is_read_as_it_was_meant(sent: str) -> None:
    assert http_codec.from_http([*HEADERS, ("ce-subject", sent)], b"{}").subject == "Grüße"


def test_a_content_type_that_is_said_twice_is_the_same_event() -> None:
    said = ("ce-datacontenttype", "application/json; charset=utf-8")
    assert http_codec.from_http([*HEADERS, said], b"{}") == http_codec.from_http(HEADERS, b"{}")
