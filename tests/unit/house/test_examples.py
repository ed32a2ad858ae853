"""Every example request is one that the product accepts."""

import json
from pathlib import Path

import pytest

from events.codecs.http_codec import from_http
from events.codecs.json_codec import loads
from events.names import Operation
from events.openai.body_validation import check_body
from events.requests import parse_request

REQUESTS = Path(__file__).parents[3] / "examples" / "requests"
OPERATIONS = {"completions.json": Operation.COMPLETIONS, "embeddings.json": Operation.EMBEDDINGS}
BODIES = sorted(path for path in REQUESTS.glob("*.json") if path.name != "event.json")


@pytest.mark.parametrize("path", BODIES, ids=lambda path: path.name)
def test_a_body_is_accepted(path):
    body = loads(path.read_bytes())
    body.pop("callback", None)
    check_body(OPERATIONS.get(path.name, Operation.CHAT), body)


def test_the_event_is_a_request():
    raw = (REQUESTS / "event.json").read_bytes()
    event = from_http([("content-type", "application/cloudevents+json")], raw)
    request = parse_request(event, default_wait_s=60.0)
    assert request.operation is Operation.CHAT
    assert request.asked_model == "auto"


def test_the_batch_has_twenty_lines_with_ids_of_their_own():
    lines = [json.loads(line) for line in (REQUESTS / "batch.jsonl").read_text().splitlines()]
    assert len({line["custom_id"] for line in lines}) == 20
    for line in lines:
        assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
        check_body(Operation.CHAT, line["body"])
