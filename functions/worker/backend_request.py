"""Builds the body for the model server from a routed request. Pure."""

import base64
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from events import ids, names
from events.names import Operation
from events.openai.operations import OPERATIONS
from events.payloads import ServerInfo
from events.requests import RoutedRequest, without_nulls
from functions.backends.backend_kinds import BackendRow
from functions.backends.body_translation import translate_body
from functions.backends.server_arguments import served_name
from functions.runtime.errors import ApiError
from functions.worker.backend_response import Shape
from functions.worker.tool_calls import MAX_CALLS
from router_model.catalogue.model import Model, Service
from router_model.classifier.features import extract_features, extract_wants
from router_model.routing.backend_fields import parse_version
from router_model.routing.capabilities import find_kind, find_lack

_OURS: Final = frozenset(
    {"callback", "store", "metadata", "profile", "priority", "background", "pickspin"}
)
"""Fields for this product or its doors: no model server needs them, some refuse them."""
_LIMITS: Final = ("max_completion_tokens", "max_tokens")
_REQUEST_ID: Final = re.compile(r"req_([0-9a-f]{32})")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendRequest:
    """One request as its model server gets it."""

    request_id: str
    operation: Operation
    body: Mapping[str, Any]
    shape: Shape
    is_stream: bool
    has_usage: bool
    is_base64: bool
    max_tokens: int | None
    traceparent: str | None = None


def choose_model_name(service: Service, model: Model, info: ServerInfo | None) -> str:
    """The server's name of the model, else the catalogue's."""
    said = None if info is None else info.model
    return said or served_name(service, model)


def check_abilities(request: RoutedRequest, service: Service, info: ServerInfo | None) -> None:
    """Returns if the server can do what the request needs, as far as known.

    The router has checked it too, but perhaps before this server reported its capabilities.

    Raises:
        ApiError: `capability_missing`, `unsupported_parameter` or `context_length_exceeded`.
    """
    kind = find_kind(service.backend.kind, info)
    # Of the others each says itself what does not fit; Ollama cuts it off without a word.
    read = extract_features if kind == "ollama" else extract_wants
    lack = find_lack(kind, info, read(request.operation, request.body))
    if lack is not None:
        refused = lack.refusal()
        raise ApiError(refused.code, refused.message, param=refused.param, src="model")


def build_backend_request(
    request: RoutedRequest,
    model: Model,
    service: Service,
    row: BackendRow,
    info: ServerInfo | None = None,
) -> BackendRequest:
    """The call for a request. As sent, but for the model's name, nulls, our own fields, what the server has other names
    for, and the cap: the least of what the caller, the task and the model allow.

    Raises:
        ApiError: `invalid_value`: it wants more tokens than an answer may have.
    """
    asked = {key: value for key, value in without_nulls(request.body).items() if key not in _OURS}
    kind = find_kind(service.backend.kind, info)
    version = None if info is None else parse_version(info.version)
    body = translate_body(kind, asked, version)
    body["model"] = choose_model_name(service, model, info)
    is_generative = OPERATIONS[request.operation].is_generative
    has_usage = bool(_object(body.get("stream_options")).get("include_usage"))
    is_base64 = not is_generative and body.pop("encoding_format", "float") == "base64"
    cap = min(model.max_tokens, request.max_tokens or model.max_tokens)
    max_tokens = _cap_tokens(body, cap, row) if is_generative else None
    if max_tokens is not None and body.get("min_tokens", 0) > max_tokens:
        said = f"min_tokens: answers of this model have at most {max_tokens} tokens"
        raise ApiError("invalid_value", said, param="min_tokens")
    body.pop("stream", None)
    body.pop("stream_options", None)
    is_stream = request.stream and is_generative
    if is_stream:
        body["stream"] = True
        if row.has_stream_usage:
            body["stream_options"] = {"include_usage": True}
    return BackendRequest(
        request_id=request.request_id,
        operation=request.operation,
        body=body,
        shape=_shape(request, model, body),
        is_stream=is_stream,
        has_usage=has_usage,
        is_base64=is_base64,
        max_tokens=max_tokens,
        traceparent=request.event.get(names.TRACE_PARENT),
    )


def reply_id(request_id: str, operation: Operation) -> str:
    """The id of the OpenAI object: made from the request id, so that a replay repeats it."""
    known = _REQUEST_ID.fullmatch(request_id)
    text = known.group(1) if known else ids.derive(request_id, "reply").replace("-", "")
    return f"{OPERATIONS[operation].id_prefix}-{text}"


def check_dimensions(reply: Mapping[str, Any], wanted: Any) -> None:
    """Returns when the vectors have the length that was asked for (None: any).

    Raises:
        ApiError: `capability_missing`: the server took no notice.
    """
    for item in reply["data"]:
        vector = item["embedding"]
        if wanted is not None and isinstance(vector, list) and len(vector) != wanted:
            said = f"dimensions: the model's server gives {len(vector)} numbers, whatever is asked"
            raise ApiError("capability_missing", said, param="dimensions", src="model")


def to_base64(reply: dict[str, Any]) -> dict[str, Any]:
    """An embeddings reply with each vector as base64 of little-endian 32-bit floats, as OpenAI encodes it."""
    data = [item | {"embedding": _pack_vector(item["embedding"])} for item in reply["data"]]
    return reply | {"data": data}


def _pack_vector(vector: Any) -> str:
    if isinstance(vector, str):
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _cap_tokens(body: dict[str, Any], cap: int, row: BackendRow) -> int:
    asked = [(name, body.pop(name)) for name in _LIMITS if name in body]
    name, wanted = asked[0] if asked else ("max_tokens", cap)
    limit = min(wanted, cap) if isinstance(wanted, int) else cap
    body[row.limit_field or name] = limit
    return limit


def _shape(request: RoutedRequest, model: Model, body: Mapping[str, Any]) -> Shape:
    choices = body.get("n", 1)
    choices = choices if isinstance(choices, int) else 1
    if request.operation is Operation.COMPLETIONS:
        choices *= _inputs(body.get("prompt"))
    return Shape(
        operation=request.operation,
        reply_id=reply_id(request.request_id, request.operation),
        model=model.id,
        created=int(request.accepted_at.timestamp()),
        choices=choices,
        inputs=_inputs(body.get("input")),
        most_calls=1 if body.get("parallel_tool_calls") is False else MAX_CALLS,
    )


def _inputs(inputs: Any) -> int:
    """How many texts a `prompt` or `input` holds: a list of token numbers is one text."""
    if not isinstance(inputs, list) or all(isinstance(item, int) for item in inputs):
        return 1
    return len(inputs)


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
