"""Clients whose language has but one kind of number write `100.0` where an integer is meant."""

from datetime import UTC, datetime

import pytest

from events.codecs import json_codec
from events.errors import EventRejected
from events.event import Event
from events.names import REQUEST, Operation
from events.openai.body_validation import as_typed, check_body
from events.requests import parse_request

CHAT = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("operation", "body", "name"),
    [
        (Operation.CHAT, {**CHAT, "max_tokens": 100.0}, "max_tokens"),
        (Operation.CHAT, {**CHAT, "n": 2.0}, "n"),
        (Operation.CHAT, {**CHAT, "seed": -7.0}, "seed"),
        (Operation.CHAT, {**CHAT, "logprobs": True, "top_logprobs": 3.0}, "top_logprobs"),
        (Operation.COMPLETIONS, {"prompt": "a", "best_of": 4.0, "n": 1}, "best_of"),
        (Operation.COMPLETIONS, {"prompt": [1.0, 2.0]}, "prompt"),
        (Operation.EMBEDDINGS, {"input": [[1.0], [2.0, 3]]}, "input"),
        (Operation.EMBEDDINGS, {"input": "a", "dimensions": 128.0}, "dimensions"),
    ],
    ids=lambda found: found if isinstance(found, str) else "",
)
def test_a_whole_float_is_the_integer_it_says(
    operation: Operation, body: dict[str, object], name: str
) -> None:
    check_body(operation, body)
    assert "." not in json_codec.dumps(as_typed(operation, body)[name]).decode()


def test_what_may_be_a_float_stays_one() -> None:
    body = {**CHAT, "temperature": 1.0, "x_mine": 2.0, "logit_bias": {"5": 1.0}}
    assert json_codec.dumps(as_typed(Operation.CHAT, body)) == json_codec.dumps(body)


@pytest.mark.parametrize("value", [100.5, -1.0, 1e300, True, "100"])
def test_no_other_value_becomes_a_limit(value: object) -> None:
    with pytest.raises(EventRejected) as caught:
        check_body(Operation.CHAT, {**CHAT, "max_tokens": value})
    assert caught.value.attribute == "max_tokens"


def test_whoever_reads_a_request_sees_the_integer() -> None:
    event = Event(
        id="e", source="/s", type=REQUEST, data=json_codec.dumps({**CHAT, "max_tokens": 100.0})
    )
    found = parse_request(event, default_wait_s=5, received_at=datetime.now(UTC))
    assert type(found.body["max_tokens"]) is int
