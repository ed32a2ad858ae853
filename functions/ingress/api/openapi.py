"""`/openapi.json`: every API in one document, made from the tables that make the routes."""

from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from events.codecs.json_codec import dumps
from functions.ingress.dependencies import Dependencies
from functions.ingress.endpoint import JSON, Endpoint
from functions.ingress.http_responses import ANSWER_HEADERS, answer
from functions.ingress.parse_call import CALL_HEADERS
from functions.runtime.errors import CODES


async def show(deps: Dependencies, request: Request) -> Response:  # noqa: ARG001 - a handler
    """The document."""
    return answer(_document(request.app.state.endpoints))


ENDPOINTS: Final = (Endpoint("GET", "/openapi.json", show, "This document.", is_open=True),)


@cache
def _document(endpoints: tuple[Endpoint, ...]) -> bytes:
    """The document as JSON; it never changes while a process runs."""
    return dumps(build(endpoints))


def build(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these endpoints. Pure."""
    paths: dict[str, dict[str, Any]] = {}
    bodies: list[type[msgspec.Struct]] = []
    for endpoint in endpoints:
        path = endpoint.path.replace(":path", "")
        paths.setdefault(path, {})[endpoint.method.lower()] = _describe(endpoint, path)
        if isinstance(endpoint.takes, type):
            bodies.append(endpoint.takes)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Pick and Spin", "version": _version(), "description": _DESCRIPTION},
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": _schemas(bodies),
            "responses": {"Error": _content("A refusal or failure.", "Error", (JSON,))},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


_DESCRIPTION: Final = (
    "OpenAI-compatible inference over an event log. A cold model is woken by its first request."
)


def _describe(endpoint: Endpoint, path: str) -> dict[str, Any]:
    as_asked = _content("As asked.", endpoint.gives, endpoint.gives_types)
    if endpoint.headers == CALL_HEADERS:
        as_asked["headers"] = _answer_headers()
    good = {str(status): as_asked for status in endpoint.statuses}
    words = path.replace("{", "").replace("}", "").replace(".", "/").split("/")
    described: dict[str, Any] = {
        "operationId": "_".join([endpoint.method.lower(), *filter(None, words)]),
        "summary": endpoint.summary,
        "parameters": _parameters(endpoint, path),
        "responses": {**good, "default": {"$ref": "#/components/responses/Error"}},
    }
    takes = endpoint.takes
    if takes is not None:
        schema = _ref(takes if isinstance(takes, str) else takes.__name__)
        described["requestBody"] = {
            "required": True,
            "content": {endpoint.takes_type: {"schema": schema}},
        }
    if endpoint.is_open:
        described["security"] = []
    return described


def _parameters(endpoint: Endpoint, path: str) -> list[dict[str, Any]]:
    in_path = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    places = {"path": in_path, "query": endpoint.query, "header": endpoint.headers}
    return [
        {"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}}
        for place, names in places.items()
        for name in names
    ]


def _content(description: str, name: str, media_types: tuple[str, ...]) -> dict[str, Any]:
    text = {"type": "string"}
    shown = {kind: {"schema": _ref(name) if kind == JSON else text} for kind in media_types}
    return {"description": description, "content": shown}


def _answer_headers() -> dict[str, Any]:
    return {
        header.name: {"description": header.meaning, "schema": _TEXT} for header in ANSWER_HEADERS
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas(bodies: list[type[msgspec.Struct]]) -> dict[str, Any]:
    _, components = msgspec.json.schema_components(
        bodies,
        ref_template="#/components/schemas/{name}",
        schema_hook=lambda _: {"description": "Any JSON value."},
    )
    return {**components, **_HAND_WRITTEN, "Error": _error_schema()}


def _error_schema() -> dict[str, Any]:
    fields = {
        name: {"type": ["string", "null"]}
        for name in ("message", "type", "param", "src", "request_id")
    }
    code = {"type": "string", "enum": sorted(CODES)}
    error = {
        "type": "object",
        "required": ["message", "type", "code"],
        "properties": {**fields, "code": code},
    }
    return {"type": "object", "required": ["error"], "properties": {"error": error}}


def _object(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties}


def _list_of(name: str) -> dict[str, Any]:
    return _object(
        "object", "data", object={"const": "list"}, data={"type": "array", "items": _ref(name)}
    )


_TEXT: Final = {"type": "string"}
_HAND_WRITTEN: Final[dict[str, Any]] = {
    "Object": {"type": "object"},
    "Text": _TEXT,
    "Bytes": _TEXT,
    "Deleted": _object("id", "deleted", id=_TEXT, object=_TEXT, deleted={"type": "boolean"}),
    "Model": _object("id", "object", id=_TEXT, object={"const": "model"}, pickspin={"type": "object"}),
    "ModelList": _list_of("Model"),
    "Request": _object(
        "id", "state", id=_TEXT, object={"const": "request"}, state=_TEXT, response={}, error={}
    ),
    "RequestList": _list_of("Request"),
    "Feedback": _object(
        "object", "request_id", "source", "model", "score", object={"const": "request.feedback"}, request_id=_TEXT,
        source={"enum": ["user", "judge"]}, model=_TEXT, score={"type": "number"}, created_at=_TEXT,
        judge={"type": ["string", "null"]}, comment={"type": ["string", "null"]},
    ),
    "FeedbackList": _list_of("Feedback"),
    "ResponseBody": _object(
        "input", model=_TEXT, input={"type": ["string", "array"]}, instructions=_TEXT,
        background={"type": "boolean"}, max_output_tokens={"type": "integer"},
    ),
    "Response": _object("id", "object", "status", id=_TEXT, object={"const": "response"}, status=_TEXT),
    "Item": _object("id", "type", id=_TEXT, type=_TEXT),
    "ItemList": _list_of("Item"),
    "InputTokens": _object(
        "object", "input_tokens", object={"const": "response.input_tokens"}, input_tokens={"type": "integer"}
    ),
    "Upload": _object("file", "purpose", file={"type": "string", "format": "binary"}, purpose=_TEXT),
    "File": _object("id", "object", id=_TEXT, object={"const": "file"}, bytes={"type": "integer"}),
    "FileList": _list_of("File"),
    "BatchBody": _object("input_file_id", "endpoint", input_file_id=_TEXT, endpoint=_TEXT, completion_window=_TEXT),
    "Batch": _object("id", "object", "status", id=_TEXT, object={"const": "batch"}, status=_TEXT),
    "BatchList": _list_of("Batch"),
    "CallbackBody": _object("url", url={"type": "string", "format": "uri"}),
    "Callback": _object("id", "url", id=_TEXT, url=_TEXT, secret=_TEXT, enabled={"type": "boolean"}),
    "CallbackList": _list_of("Callback"),
    "CloudEvent": _object("specversion", "id", "source", "type", specversion={"const": "1.0"}, id=_TEXT),
}  # fmt: skip


def _version() -> str:
    try:
        return version("pick-and-spin")
    except PackageNotFoundError:
        return "0"
