"""Records of every released version stay readable: golden files of what was once written.

`tests/golden/events/v1/<type>.json` holds one record of each type. They are never edited; a new form of the wire gets
a new folder. The newest folder is also exactly what today's code writes.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import jsonschema
import pytest

from events import names, parsers, requests
from events.codecs import kafka_codec
from events.event import Event, Record
from events.generate_schemas import DATA_TYPES, file_name, schema_text

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "events"
VERSIONS = sorted(folder.name for folder in GOLDEN.iterdir() if folder.is_dir())
EVERY_TYPE = sorted(names.EVENT_TYPES)

READERS: Mapping[str, Callable[[Event], object]] = {
    names.REQUEST: lambda event: requests.parse_request(event, default_wait_s=60),
    names.ROUTED: requests.parse_routed,
    names.PROGRESS: parsers.parse_progress,
    names.CHUNK: parsers.parse_chunk,
    names.COMPLETED: parsers.parse_terminal,
    names.FAILED: parsers.parse_terminal,
    names.CANCEL: parsers.parse_cancel,
    names.STATUS: parsers.parse_status,
    names.DECISION: parsers.parse_decision,
    names.REVISION: parsers.parse_revision,
    names.PROBE: lambda event: event.data,
    names.CALLBACK_FAILED: requests.Origin.of,
    names.PROBE: lambda event: event.data,
}


def golden(version: str, event_type: str) -> Record:
    found = json.loads((GOLDEN / version / file_name(event_type)).read_text(encoding="utf-8"))
    headers = tuple((name, value.encode()) for name, value in found["headers"])
    return Record(topic="any", value=found["value"].encode(), headers=headers)


def as_golden(record: Record) -> str:
    """The text of a golden file."""
    headers = [[name, value.decode()] for name, value in record.headers]
    found = {"headers": headers, "value": (record.value or b"").decode()}
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("event_type", EVERY_TYPE)
@pytest.mark.parametrize("version", VERSIONS)
def test_records_of_every_version_are_read(version: str, event_type: str) -> None:
    event = kafka_codec.from_record(golden(version, event_type))
    assert event.type == event_type
    assert READERS[event_type](event) is not None


@pytest.mark.parametrize("event_type", EVERY_TYPE)
def test_todays_records_are_the_newest_golden_ones(
    event_type: str, samples: Mapping[str, Event]
) -> None:
    record = kafka_codec.to_record(samples[event_type], topic="any", key=None)
    text = (GOLDEN / VERSIONS[-1] / file_name(event_type)).read_text(encoding="utf-8")
    assert as_golden(record) == text


@pytest.mark.parametrize("event_type", EVERY_TYPE)
@pytest.mark.parametrize("version", VERSIONS)
def test_golden_data_satisfies_todays_schema(version: str, event_type: str) -> None:
    schema = json.loads(schema_text(event_type))
    jsonschema.Draft202012Validator.check_schema(schema)
    data = json.loads(golden(version, event_type).value or b"null")
    jsonschema.Draft202012Validator(schema).validate(data)


@pytest.mark.parametrize("event_type", EVERY_TYPE)
def test_checked_in_schemas_are_what_the_types_say(event_type: str) -> None:
    text = (ROOT / "events" / "schemas" / file_name(event_type)).read_text(encoding="utf-8")
    assert text == schema_text(event_type), "run: python -m events.generate_schemas"


def test_every_event_type_has_a_schema_and_no_file_is_left_over() -> None:
    assert set(DATA_TYPES) == names.EVENT_TYPES
    found = {path.name for path in (ROOT / "events" / "schemas").iterdir()}
    assert found == {file_name(event_type) for event_type in DATA_TYPES}


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"messages": []},
        {"messages": [{"role": "x", "content": "a"}]},
        {"input": "a", "dimensions": 0},
    ],
)
def test_the_request_schema_refuses_what_the_checks_refuse(bad: object) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(schema_text(names.REQUEST)))
    assert not validator.is_valid(bad)
