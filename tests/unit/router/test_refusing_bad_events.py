"""Bad events never raise: a failed reply where somebody can be told, a dead letter where something is worth keeping."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events import ids
from events import names as types
from events.builders import parse_terminal
from events.codecs.kafka_codec import from_record, outgoing_record
from events.event import Event
from events.limits import MAX_BODY_BYTES
from events.names import State, Topics
from functions.router.handler import RouterRules
from router_model.catalogue.model import Catalogue
from router_model.classifier.features import MAX_CLASSIFIED_CHARS, TAIL_CHARS, PromptFeatures
from router_model.classifier.keyword_rules import Classification, Classifier, KeywordClassifier
from router_model.service_registry import Registry
from tests.unit.router.conftest import handle

Make = Callable[..., Event]


@pytest.mark.parametrize(
    ("fields", "ext"),
    [
        ({"data": None}, {}),
        ({"data": b""}, {}),
        ({"data": b"hello"}, {}),
        ({"data": b"[]"}, {}),
        ({"data": b"5"}, {}),
        ({"data": b'{"model":'}, {}),
        ({"data": b'{"a":NaN}'}, {}),
        ({"data": b'{"model":"a","model":"b"}'}, {}),
        ({"data": b"[" * 3000}, {}),
        ({"data": b"\xff\xfe{\x00}\x00"}, {}),
        ({"data": b"{}"}, {}),
        ({"datacontenttype": "application/protobuf"}, {}),
        ({"time": "yesterday"}, {}),
        ({}, {types.EXPIRY_TIME: "soon"}),
        ({}, {types.REPLY_TOPIC: "__consumer_offsets"}),
        ({}, {types.REPLY_TOPIC: "t.infer.requests"}),
        ({}, {types.REPLY_TOPIC: "t.infer.dlq"}),
        ({}, {types.REPLY_TOPIC: "t.infer.model.real"}),
        ({}, {types.REPLY_PARTITION: "-1"}),
        ({}, {types.REPLY_PARTITION: "1000000000"}),
        ({}, {types.REPLY_PARTITION: "x"}),
        ({}, {types.PRIORITY: "urgent"}),
        ({}, {types.OPERATION: "painting"}),
        ({}, {types.HOPS: "5"}),
        ({}, {types.HOPS: "many"}),
        ({"data": None}, {types.DATA_REF: "file:///etc/passwd"}),
        ({"data": None}, {types.DATA_REF: "blob:" + "0" * 64}),
        ({}, {f"extra{n}": "x" for n in range(55)}),
        ({}, {f"extra{n}": "x" * 1500 for n in range(10)}),
    ],
)
def test_a_malformed_request_fails_and_is_kept(
    request_event: Make,
    catalogue: Catalogue,
    now: datetime,
    rules: RouterRules,
    topics: Topics,
    fields: dict[str, object],
    ext: dict[str, str],
) -> None:
    event = request_event(ext=ext, **fields)
    out = handle(event, catalogue, Registry(), now, rules=rules)
    terminal = parse_terminal(out[0].event)
    assert out[0].topic == topics.responses
    assert (terminal.request_id, terminal.state) == ("req_1", State.FAILED)
    assert 400 <= terminal.status < 500
    letter = out[-1]
    assert letter.topic == topics.dlq
    assert letter.event.data == event.data
    assert letter.event.get(types.DEAD_LETTER_REASON)
    allowed = {topics.responses, topics.dlq, topics.replies}
    assert {found.topic for found in out} <= allowed
    if types.REPLY_TOPIC in ext or types.REPLY_PARTITION in ext:
        assert topics.replies not in {found.topic for found in out}


def test_a_bad_field_is_told_and_not_kept(
    request_event: Make, catalogue: Catalogue, now: datetime, rules: RouterRules, topics: Topics
) -> None:
    body = b'{"messages":[{"role":"user","content":"x"}],"temperature":99}'
    out = handle(request_event(data=body), catalogue, Registry(), now, rules=rules)
    assert [found.topic for found in out] == [topics.responses, topics.replies]
    error = json.loads(out[0].event.data or b"")["error"]
    assert (error["code"], error["param"]) == ("invalid_value", "temperature")


@pytest.mark.parametrize(
    "kind", [types.ROUTED, types.COMPLETED, "com.example.other.v1", types.STATUS]
)
def test_what_is_no_request_is_only_kept(
    request_event: Make,
    catalogue: Catalogue,
    now: datetime,
    rules: RouterRules,
    topics: Topics,
    kind: str,
) -> None:
    out = handle(request_event(type=kind), catalogue, Registry(), now, rules=rules)
    assert [found.topic for found in out] == [topics.dlq]


def test_a_failed_reply_can_be_read_whatever_the_request_held(
    request_event: Make, catalogue: Catalogue, now: datetime, rules: RouterRules
) -> None:
    ext = {types.OPERATION: "painting", types.CALLBACK_ID: "a b", types.TENANT: "two words"}
    out = handle(request_event(ext=ext), catalogue, Registry(), now, rules=rules)
    terminal = parse_terminal(from_record(outgoing_record(out[0])))
    assert (terminal.operation, terminal.callback_id) == (None, None)


def test_a_request_that_no_longer_fits_is_refused_and_kept_without_its_data(
    request_event: Make, catalogue: Catalogue, now: datetime, rules: RouterRules
) -> None:
    body = b'{"prompt":"%s"}' % (b"x " * 5000)
    small = replace(rules, max_record_bytes=len(body) + 200)
    out = handle(request_event(data=body), catalogue, Registry(), now, rules=small)
    assert parse_terminal(out[0].event).status == 413
    assert out[-1].event.data is None


def test_prompts_never_show_in_a_refusal(
    request_event: Make, catalogue: Catalogue, now: datetime, rules: RouterRules
) -> None:
    body = b'{"messages":[{"role":"user","content":"SECRET"}],"n":"SECRET"}'
    out = handle(request_event(data=body), catalogue, Registry(), now, rules=rules)
    assert b"SECRET" not in (out[0].event.data or b"")


names = st.sampled_from(
    [types.EXPIRY_TIME, types.REPLY_TOPIC, types.REPLY_PARTITION, types.TENANT, types.HOPS,
     types.PRIORITY, types.PROFILE, types.PARTITION_KEY, types.DATA_REF, types.OPERATION]
)  # fmt: skip
values = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=30)


@given(ext=st.dictionaries(names, values), data=st.none() | st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_raises_and_a_request_always_ends_or_is_routed(
    request_event: Make,
    catalogue: Catalogue,
    now: datetime,
    rules: RouterRules,
    ext: dict[str, str],
    data: bytes | None,
) -> None:
    out = handle(request_event(data=data, ext=ext), catalogue, Registry(), now, rules=rules)
    kinds = [found.event.type for found in out]
    assert types.FAILED in kinds or types.ROUTED in kinds


def refusal_of(
    event: Event,
    catalogue: Catalogue,
    now: datetime,
    rules: RouterRules,
    classifier: Classifier | None = None,
) -> tuple[int, str]:
    """Status and code of the one terminal."""
    out = handle(event, catalogue, Registry(), now, rules=rules, classifier=classifier)
    terminal = parse_terminal(out[0].event)
    return terminal.status, json.loads(terminal.data or b"")["error"]["code"]


def chat_of(content: str, **fields: object) -> bytes:
    messages = [{"role": "user", "content": content}]
    return json.dumps({"model": "auto", "messages": messages} | fields).encode()


def test_an_empty_catalogue_has_no_model(
    request_event: Make, now: datetime, rules: RouterRules
) -> None:
    empty = Catalogue(models=(), services=())
    for model in ("auto", "real", "coding"):
        found = refusal_of(request_event(model=model), empty, now, rules)
        assert found == (404, "model_not_found")


def test_what_is_above_every_limit_is_refused_and_of_large_ones_only_the_ends_are_read(
    request_event: Make, catalogue: Catalogue, now: datetime, rules: RouterRules
) -> None:
    read: list[int] = []

    class Reading(KeywordClassifier):
        def classify(self, features: PromptFeatures, models: Sequence[str] = ()) -> Classification:
            read.append(len(features.text) + len(features.tail))
            return super().classify(features, models)

    reading = Reading()
    too_large = request_event(data=chat_of("x" * MAX_BODY_BYTES))
    assert refusal_of(too_large, catalogue, now, rules, reading) == (413, "request_too_large")
    words = request_event(data=chat_of("word " * 2_000_000, model="real"))
    assert refusal_of(words, catalogue, now, rules, reading) == (400, "context_length_exceeded")
    one_word = chat_of("x" * 10_000_000)
    ext = {
        types.DATA_REF: f"blob:{ids.content_hash(one_word)}",
        types.DATA_HASH: ids.content_hash(one_word),
    }
    out = handle(
        request_event(data=None, ext=ext),
        catalogue,
        Registry(),
        now,
        rules=rules,
        classifier=reading,
        body=one_word,
    )
    assert out[0].event.type == types.ROUTED
    assert read
    assert max(read) <= MAX_CLASSIFIED_CHARS + TAIL_CHARS


def test_a_prompt_with_control_characters_is_text_like_any_other(
    request_event: Make, catalogue: Catalogue, now: datetime, rules: RouterRules
) -> None:
    data = chat_of("".join(chr(code) for code in range(256)) + "\x00\ufffe\U0010ffff" * 50)
    made = handle(request_event(data=data), catalogue, Registry(), now, rules=rules)[0].event
    assert made.type == types.ROUTED
    assert made.data == data


@pytest.mark.parametrize(
    "data",
    [
        bytes(range(256)) * 16,
        b'{"model":"auto","messages":[{"role":"user","content":"\xff\xfe\x00"}]}',
        b'{"model":"auto","messages":[{"role":"user","content":"\x00"}]}',
        chat_of("\ud800 alone"),
        chat_of("alone \udfff"),
    ],
)
def test_bytes_that_are_no_text_are_refused(
    request_event: Make, catalogue: Catalogue, now: datetime, rules: RouterRules, data: bytes
) -> None:
    assert refusal_of(request_event(data=data), catalogue, now, rules) == (400, "invalid_body")


def test_an_unknown_fallback_is_refused(
    request_event: Make, catalogue: Catalogue, now: datetime, rules: RouterRules
) -> None:
    event = request_event(ext={types.FALLBACK: "maybe"})
    assert refusal_of(event, catalogue, now, rules) == (400, "invalid_event")
