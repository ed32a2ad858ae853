"""`/openapi.json`: every door in one document, made from the same types and tables that check the calls."""

from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from events.codecs.json_codec import dumps
from events.openai.bodies import ChatBody, CompletionsBody, EmbeddingsBody
from functions.ingress import list_pages
from functions.ingress.http_responses import answer
from functions.runtime.errors import CODES

_JSON: Final = "application/json"
_PAGE: Final = list_pages.QUERY
_SSE: Final = "text/event-stream"
_WAITING: Final = ("Prefer", "X-Pickspin-Deadline-S", "X-Pickspin-Callback")
_CALL_HEADERS: Final = (
    *_WAITING, "Idempotency-Key", "X-Pickspin-Session", "X-Pickspin-Profile", "X-Pickspin-Priority", "traceparent",
    "X-Pickspin-Max-Cost", "X-Pickspin-Max-Latency", "X-Pickspin-Min-Quality",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One line of the document. `takes` and `gives` name components; `statuses` are the good ones."""

    method: str
    path: str
    summary: str
    takes: str | None = None
    takes_type: str = _JSON
    gives: str = "Object"
    gives_types: tuple[str, ...] = (_JSON,)
    statuses: tuple[int, ...] = (200,)
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    is_open: bool = False
    """True: asks for no key."""


OPERATIONS: Final = (
    Operation(method="post", path="/v1/chat/completions", summary="Chat: in one piece, streamed, or in the background.",
              takes="ChatBody", gives_types=(_JSON, _SSE), statuses=(200, 202), headers=_CALL_HEADERS),
    Operation(method="post", path="/v1/completions", summary="Completions of a prompt.",
              takes="CompletionsBody", gives_types=(_JSON, _SSE), statuses=(200, 202), headers=_CALL_HEADERS),
    Operation(method="post", path="/v1/embeddings", summary="Embeddings of texts.",
              takes="EmbeddingsBody", statuses=(200, 202), headers=_CALL_HEADERS),
    Operation(method="get", path="/v1/models", summary="All names that can be asked for, with state and ETA.",
              gives="ModelList"),
    Operation(method="get", path="/v1/models/{model_id}", summary="One model.", gives="Model"),
    Operation(method="post", path="/v1/responses", summary="A response, in one piece or `background: true`.",
              takes="ResponseBody", gives="Response", statuses=(200, 202), headers=_CALL_HEADERS),
    Operation(method="get", path="/v1/responses/{request_id}", summary="A response by id.", gives="Response",
              headers=("Prefer",)),
    Operation(method="delete", path="/v1/responses/{request_id}", summary="Deletes a response.", gives="Deleted"),
    Operation(method="post", path="/v1/responses/{request_id}/cancel", summary="Cancels a response.",
              gives="Response"),
    Operation(method="get", path="/v1/responses/{request_id}/input_items", summary="What a response was asked with.",
              gives="ItemList", query=_PAGE),
    Operation(method="post", path="/v1/responses/input_tokens", summary="How many tokens an input has.",
              takes="ResponseBody", gives="InputTokens"),
    Operation(method="get", path="/v1/requests", summary="The newest requests of this key.", gives="RequestList",
              query=("state", *_PAGE)),
    Operation(method="get", path="/v1/requests/{request_id}", summary="What became of a request.", gives="Request",
              headers=("Prefer",)),
    Operation(method="delete", path="/v1/requests/{request_id}", summary="Deletes prompt, answer and events.",
              gives="Deleted"),
    Operation(method="get", path="/v1/requests/{request_id}/events", summary="States, chunks and the end, resumable.",
              gives_types=(_SSE,), query=("after",), headers=("Last-Event-ID",)),
    Operation(method="post", path="/v1/requests/{request_id}/cancel", summary="Cancels a request.", gives="Request"),
    Operation(method="post", path="/v1/requests/{request_id}/feedback", summary="Says how good an answer was.",
              takes="FeedbackBody", gives="Feedback"),
    Operation(method="get", path="/v1/requests/{request_id}/feedback", summary="What was said about an answer.",
              gives="FeedbackList"),
    Operation(method="post", path="/v1/files", summary="Uploads a file.", takes="Upload",
              takes_type="multipart/form-data", gives="File", headers=("Idempotency-Key",)),
    Operation(method="get", path="/v1/files", summary="Files of this key.", gives="FileList",
              query=("purpose", *_PAGE)),
    Operation(method="get", path="/v1/files/{file_id}", summary="One file.", gives="File"),
    Operation(method="delete", path="/v1/files/{file_id}", summary="Deletes a file.", gives="Deleted"),
    Operation(method="get", path="/v1/files/{file_id}/content", summary="The bytes of a file.",
              gives="Bytes", gives_types=("application/octet-stream",)),
    Operation(method="post", path="/v1/batches", summary="Runs the lines of a file.", takes="BatchBody",
              gives="Batch", headers=("Idempotency-Key",)),
    Operation(method="get", path="/v1/batches", summary="Batches of this key.", gives="BatchList", query=_PAGE),
    Operation(method="get", path="/v1/batches/{batch_id}", summary="One batch.", gives="Batch"),
    Operation(method="post", path="/v1/batches/{batch_id}/cancel", summary="Cancels a batch.", gives="Batch"),
    Operation(method="post", path="/v1/callbacks", summary="Registers a callback; shows its secret once.",
              takes="CallbackBody", gives="Callback", statuses=(201,), headers=("Idempotency-Key",)),
    Operation(method="get", path="/v1/callbacks", summary="Callbacks of this key that are enabled.",
              gives="CallbackList", query=_PAGE),
    Operation(method="get", path="/v1/callbacks/{target_id}", summary="One callback.", gives="Callback"),
    Operation(method="delete", path="/v1/callbacks/{target_id}", summary="Disables a callback.", gives="Deleted"),
    Operation(method="post", path="/", summary="A CloudEvent of type io.pickspin.inference.request.v1.",
              takes="CloudEvent", takes_type="application/cloudevents+json", gives="Request", statuses=(202,)),
    Operation(method="get", path="/", summary="What runs here and what to try, for a person.", gives="Text",
              gives_types=("text/html", "text/plain"), is_open=True),
    Operation(method="get", path="/healthz", summary="The process lives.", is_open=True),
    Operation(method="get", path="/health", summary="The same, where clients of model servers look.", is_open=True),
    Operation(method="get", path="/readyz", summary="A request can succeed now.", is_open=True),
    Operation(method="get", path="/metrics", summary="Prometheus metrics; PICKSPIN_INGRESS_METRICS may ask for a key.",
              gives="Text",
              gives_types=("text/plain",), is_open=True),
    Operation(method="get", path="/openapi.json", summary="This document.", is_open=True),
)  # fmt: skip


def routes() -> list[Route]:
    """The one path."""

    async def show(_: Request) -> Response:
        return answer(document())

    return [Route("/openapi.json", show, methods=["GET"])]


@cache
def document() -> bytes:
    """The document as JSON; it never changes while a process runs."""
    return dumps(build())


def build() -> dict[str, Any]:
    """The OpenAPI 3.1 document. Pure."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Pick and Spin", "version": _version(), "description": _DESCRIPTION},
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "responses": {"Error": _content("A refusal or failure.", "Error", (_JSON,))},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


_DESCRIPTION: Final = (
    "OpenAI-compatible inference over an event log. A cold model is woken by its first request."
)


def _operation(operation: Operation) -> dict[str, Any]:
    good = {
        str(s): _content("As asked.", operation.gives, operation.gives_types)
        for s in operation.statuses
    }
    found: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "summary": operation.summary,
        "parameters": _parameters(operation),
        "responses": {**good, "default": {"$ref": "#/components/responses/Error"}},
    }
    if operation.takes is not None:
        found["requestBody"] = {
            "required": True,
            "content": {operation.takes_type: {"schema": _ref(operation.takes)}},
        }
    if operation.is_open:
        found["security"] = []
    return found


def _operation_id(operation: Operation) -> str:
    words = operation.path.replace("{", "").replace("}", "").replace(".", "/").split("/")
    return "_".join([operation.method, *filter(None, words)])


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    text = {"type": "string"}
    in_path = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    return [
        *({"name": n, "in": "path", "required": True, "schema": text} for n in in_path),
        *({"name": n, "in": "query", "required": False, "schema": text} for n in operation.query),
        *(
            {"name": n, "in": "header", "required": False, "schema": text}
            for n in operation.headers
        ),
    ]


def _content(description: str, name: str, media_types: tuple[str, ...]) -> dict[str, Any]:
    text = {"type": "string"}
    shown = {kind: {"schema": _ref(name) if kind == _JSON else text} for kind in media_types}
    return {"description": description, "content": shown}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas() -> dict[str, Any]:
    _, bodies = msgspec.json.schema_components(
        [ChatBody, CompletionsBody, EmbeddingsBody],
        ref_template="#/components/schemas/{name}",
        schema_hook=lambda _: {"description": "Any JSON value."},
    )
    return {**bodies, **_HAND_WRITTEN, "Error": _error_schema()}


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
    "FeedbackBody": {
        **_object(
            score={"type": "number", "minimum": 0, "maximum": 1}, rating={"enum": ["up", "down"]},
            source={"enum": ["user", "judge"]}, judge=_TEXT, model=_TEXT, comment=_TEXT,
        ),
        "oneOf": [{"required": ["score"]}, {"required": ["rating"]}],
    },
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
