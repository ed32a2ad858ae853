"""Reads a model server's own description when it warms up: its name of the model, its capabilities.

What a server does not report is not known, and assumed.
"""

from typing import Any, Final

import httpx

from events.codecs import json_codec
from events.payloads import ServerInfo
from functions.backends import server_info
from functions.backends.server_arguments import served_name
from functions.backends.server_info import GUESSES, MODELS_PATH, QUESTIONS, Question
from functions.worker import backend_response
from functions.worker.backend_errors import BadReply
from functions.worker.model_server import ModelServer, fetch
from router_model.catalogue.model import Model, Service
from router_model.routing.backend_fields import ServerKind

_ASK_S: Final = 5.0


async def find_model_name(
    server: ModelServer, http: httpx.AsyncClient, service: Service, model: Model
) -> str:
    """What the server calls the model; kept in `server.entries` is what it lists.

    Raises:
        StartupFailed: it has several models, none of ours.
    """
    server.entries = server_info.read_entries(await _ask(http, Question(MODELS_PATH), ""))
    return server_info.own_name(
        served_name(service, model),
        server.entries,
        is_ours=model.weights.url is None,
        is_configured="model" in service.backend.args,
    )


async def describe(
    server: ModelServer, http: httpx.AsyncClient, declared: ServerKind, name: str
) -> ServerInfo:
    """The description of a server that has answered a call."""
    kind = declared
    if declared == "openai":
        kind = server_info.guess_kind(server.entries) or await _guess_kind(http) or declared
    documents = {
        question.path: document
        for question in QUESTIONS[kind]
        if (document := await _ask(http, question, name)) is not None
    }
    return server_info.read_server_info(kind, name, server.entries, documents)


async def _guess_kind(http: httpx.AsyncClient) -> ServerKind | None:
    for kind, path, field in GUESSES:
        document = await _ask(http, Question(path), "")
        if document is not None and isinstance(document.get(field), str):
            return kind
    return None


async def _ask(http: httpx.AsyncClient, question: Question, name: str) -> dict[str, Any] | None:
    """The answer, or None where there is none that can be read."""
    request = http.build_request(
        "POST" if question.names_model else "GET",
        question.path,
        content=json_codec.dumps({"model": name}) if question.names_model else None,
        headers={"content-type": "application/json", "accept-encoding": "identity"},
        timeout=_ASK_S,
    )
    try:
        status, raw = await fetch(http, request)
        return backend_response.parse(raw) if status == 200 else None
    except (httpx.HTTPError, BadReply):
        return None
