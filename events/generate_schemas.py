"""JSON Schemas of every event's data, generated from the types by `python -m events.generate_schemas`.

A test fails when the files differ from the types. Nothing at run time reads them; they are for producers and readers.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from events import names, payloads
from events.openai import bodies

_BODIES: Final = (bodies.ChatBody, bodies.CompletionsBody, bodies.EmbeddingsBody)
DATA_TYPES: Final[Mapping[str, tuple[type[msgspec.Struct], ...]]] = MappingProxyType(
    {
        names.REQUEST: _BODIES,
        names.ROUTED: _BODIES,
        names.PROGRESS: (payloads.ProgressData,),
        names.CHUNK: (payloads.ChunkData,),
        names.COMPLETED: (payloads.CompletedData,),
        names.FAILED: (payloads.FailedData,),
        names.CANCEL: (payloads.CancelData,),
        names.CALLBACK_FAILED: (payloads.CallbackFailedData,),
        names.STATUS: (payloads.StatusData,),
        names.DECISION: (payloads.DecisionData,),
        names.REVISION: (payloads.RevisionData,),
        names.PROBE: (payloads.ProbeData,),
    }
)
"""What the data of each event type is; more than one: any of them."""
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_TYPE_PREFIX: Final = "io.pickspin."


def file_name(event_type: str) -> str:
    """The schema's file of an event type: `inference.request.v1.json`."""
    return f"{event_type.removeprefix(_TYPE_PREFIX)}.json"


def schema_text(event_type: str) -> str:
    """The JSON Schema (2020-12) of that event type's data, indented, ending in a newline."""
    kinds = DATA_TYPES[event_type]
    shapes, components = msgspec.json.schema_components(
        kinds, schema_hook=_any_schema, ref_template="#/$defs/{name}"
    )
    schema = {
        "$schema": _DIALECT,
        "title": f"Data of {event_type}",
        **(shapes[0] if len(shapes) == 1 else {"anyOf": list(shapes)}),
        "$defs": components,
    }
    text = msgspec.json.format(msgspec.json.encode(schema, order="deterministic"), indent=2)
    return f"{text.decode()}\n"


def _any_schema(kind: type) -> dict[str, object]:
    """`object` in a type means any JSON."""
    if kind is not object:
        raise NotImplementedError
    return {"description": "Any JSON."}


def main() -> None:
    """Writes every schema into this package."""
    folder = Path(__file__).parent / "schemas"
    folder.mkdir(exist_ok=True)
    for event_type in DATA_TYPES:
        (folder / file_name(event_type)).write_text(schema_text(event_type), encoding="utf-8")


if __name__ == "__main__":
    main()
