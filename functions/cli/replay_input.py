"""Requests to decide again out of a file: outcome rows, batch lines or bare bodies, one JSON object a line."""

import gzip
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from events.codecs.json_codec import loads_object
from events.errors import EventRejected
from events.names import Operation
from events.openai.body_validation import check_body
from events.openai.operations import BY_PATH, infer_operation
from functions.runtime.errors import PickspinError
from router_model.classifier.features import extract_features
from router_model.replay.outcome_dataset import OutcomeRow
from router_model.replay.replayed_decisions import Figures, Measurement, RecordedRequest
from router_model.routing.context import RouteRequest
from router_model.routing.model_names import AUTO

MAX_LINE_BYTES: Final = 4 * 1024 * 1024


class _Readable(Protocol):
    def readline(self, size: int, /) -> bytes: ...


class BadRecording(PickspinError):
    """A line cannot be replayed; the message names file and line."""


def read_recorded_file(path: Path) -> Iterator[RecordedRequest]:
    """One request a line; empty lines are skipped. A name that ends in `.gz` is decompressed.

    Raises:
        BadRecording: with the number of the first line that is neither outcome row, batch line nor body.
    """
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(_lines(file), 1):
                if line.strip():
                    yield read_recorded_line(line, f"line-{number}")
    except (EventRejected, msgspec.ValidationError, ValueError) as error:
        reason = error.message if isinstance(error, EventRejected) else str(error)
        raise BadRecording(f"{path}, line {number}: {reason}") from error
    except (OSError, EOFError) as error:
        raise BadRecording(f"{path} cannot be read after line {number}: {error}") from error


def read_recorded_line(line: bytes, name: str) -> RecordedRequest:
    """The request of one line; `name` is its id where it has none.

    Raises:
        EventRejected, ValueError: what it is not.
    """
    parsed = loads_object(line)
    if "outcomes" in parsed:
        return parse_outcome(msgspec.convert(parsed, OutcomeRow))
    body = parsed.get("body", parsed)
    if not isinstance(body, dict):
        raise ValueError("body is not a JSON object")  # noqa: TRY004 - of the file, not of a caller
    operation = _operation(parsed.get("url"), body)
    check_body(operation, body)
    asked = body.get("model")
    custom_id = parsed.get("custom_id")
    return RecordedRequest(
        id=custom_id if isinstance(custom_id, str) else name,
        request=RouteRequest(
            model=asked if isinstance(asked, str) else AUTO,
            features=extract_features(operation, body),
        ),
    )


def parse_outcome(row: OutcomeRow) -> RecordedRequest:
    """An outcome row as a chat that names no model; nothing was chosen, all models' outcomes are known."""
    body = {"messages": [{"role": "user", "content": row.prompt}]}
    models = {*row.outcomes, *row.cost, *row.latency_ms}
    return RecordedRequest(
        id=row.id,
        request=RouteRequest(model=AUTO, features=extract_features(Operation.CHAT, body)),
        seen={model: Measurement(figures=_figures(row, model)) for model in models},
    )


def _figures(row: OutcomeRow, model: str) -> Figures:
    latency_ms = row.latency_ms.get(model)
    return Figures(
        cost_usd=row.cost.get(model),
        seconds=None if latency_ms is None else latency_ms / 1000,
        answered=row.outcomes.get(model),
    )


def _operation(url: object, body: Mapping[str, Any]) -> Operation:
    if url is not None:
        operation = BY_PATH.get(str(url))
        if operation is None:
            raise ValueError(f"url is not one of {', '.join(BY_PATH)}")
        return operation
    return infer_operation(body) or Operation.COMPLETIONS


def _lines(file: _Readable) -> Iterable[bytes]:
    while line := file.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise ValueError(f"a line is longer than {MAX_LINE_BYTES} bytes")
        yield line
