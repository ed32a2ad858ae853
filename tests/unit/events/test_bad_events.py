"""Rows K27-K35 of the bad-input catalogue that are about an event's meaning rather than its record."""

from dataclasses import replace

import pytest

from events import names
from events.errors import EventRejected
from events.event import Event
from events.parsers import parse_chunk, parse_terminal
from events.requests import is_reply_topic_allowed, parse_routed


@pytest.mark.parametrize(
    ("topic", "is_allowed"),
    [
        ("infer.replies", True),
        ("infer.responses", True),
        ("partner.replies", True),
        ("infer.requests", False),
        ("infer.model.a", False),
        ("infer.dlq", False),
        ("other.tenant.replies", False),
    ],
)
def test_row_k27_replies_go_to_listed_topics_only(topic: str, is_allowed: bool) -> None:
    found = is_reply_topic_allowed(topic, names.Topics(), {"partner.replies"})
    assert found is is_allowed


def test_row_k29_a_routed_event_without_correlationid_is_refused(samples: dict[str, Event]) -> None:
    event = samples[names.ROUTED]
    extensions = {k: v for k, v in event.extensions.items() if k != names.CORRELATION_ID}
    with pytest.raises(EventRejected) as caught:
        parse_routed(replace(event, extensions=extensions))
    assert caught.value.attribute == names.CORRELATION_ID


@pytest.mark.parametrize("attempt", ["0", "-1", "one", "", "9999999999", "\u0663"])
def test_row_k30_an_impossible_attempt_of_a_chunk_is_refused(
    attempt: str, samples: dict[str, Event]
) -> None:
    event = samples[names.CHUNK]
    with pytest.raises(EventRejected) as caught:
        parse_chunk(replace(event, extensions={**event.extensions, names.ATTEMPT: attempt}))
    assert caught.value.attribute == names.ATTEMPT


@pytest.mark.parametrize("attempt", ["-1", "one"])
def test_row_k30_an_impossible_attempt_of_a_terminal_is_refused(
    attempt: str, samples: dict[str, Event]
) -> None:
    event = samples[names.COMPLETED]
    with pytest.raises(EventRejected):
        parse_terminal(replace(event, extensions={**event.extensions, names.ATTEMPT: attempt}))


def test_row_k35_a_routed_event_names_its_service_for_the_reader_to_compare(
    samples: dict[str, Event],
) -> None:
    assert parse_routed(samples[names.ROUTED]).service == "smollm2-135m"
