"""What a model server says of itself, read from its own documents: what it is, what it calls the model, what it can do.

Pure, and lenient: what is absent or odd is not known. Sources: llama.cpp tools/server/README.md (`/props`); vLLM
entrypoints/openai (`max_model_len` of `/v1/models`, `/version`); SGLang entrypoints/http_server.py
(`/model_info`, `/server_info`); TGI `/info`; TensorRT-LLM serve/openai_server.py (`/version`); Ollama docs/api.md
(`/api/show`, `/api/ps`, `/api/version`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from events.payloads import ServerInfo
from functions.runtime.errors import StartupFailed
from router_model.routing.backend_fields import ServerKind

MODELS_PATH: Final = "/v1/models"
_MOST: Final = 2**40
_NAMES_SHOWN: Final = 12
_NAME_CHARS: Final = 200
_OWNERS: Final[Mapping[str, ServerKind]] = MappingProxyType(
    {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llamacpp", "tensorrt_llm": "trtllm"}
)
"""What `/v1/models` says under `owned_by`. TGI names the model itself there, Ollama who made it."""

Documents = Mapping[str, Any]
"""What a server answered, by path; a path that it does not have is absent."""


@dataclass(frozen=True, slots=True)
class Question:
    """One call of a server about itself. `names_model`: a POST that names the model."""

    path: str
    names_model: bool = False


_OF_SGLANG: Final = ("/server_info", "/model_info")
_OF_OLDER_SGLANG: Final = ("/get_server_info", "/get_model_info")
QUESTIONS: Final[Mapping[ServerKind, tuple[Question, ...]]] = MappingProxyType(
    {
        "llamacpp": (Question("/props"),),
        "vllm": (Question("/version"),),
        "sglang": tuple(map(Question, (*_OF_SGLANG, *_OF_OLDER_SGLANG))),
        "tgi": (Question("/info"),),
        "trtllm": (Question("/version"),),
        "ollama": (
            Question("/api/version"),
            Question("/api/show", names_model=True),
            Question("/api/ps"),
        ),
        "openai": (),
        "fake": (),
    }
)
"""What each kind is asked, beside `/v1/models`."""
GUESSES: Final[tuple[tuple[ServerKind, str, str], ...]] = (
    ("ollama", "/api/version", "version"),
    ("tgi", "/info", "model_id"),
)
"""Kinds that `/v1/models` does not tell: one is there where a path answers with that field."""


def read_entries(models: Any) -> tuple[Mapping[str, Any], ...]:
    """The entries of a `/v1/models` document that have a name."""
    data = models.get("data") if isinstance(models, dict) else None
    entries = data if isinstance(data, list) else []
    return tuple(e for e in entries if isinstance(e, dict) and isinstance(e.get("id"), str))


def own_name(
    asked: str, entries: Sequence[Mapping[str, Any]], *, is_ours: bool, is_configured: bool
) -> str:
    """What the server calls the model that we call `asked`: that name where it is listed (or nothing is), else the only
    one there is.

    `is_ours`: it was started under that name. `is_configured`: the catalogue says that it has it.

    Raises:
        StartupFailed: it has several models, none of that name.
    """
    known = [entry for entry in entries if asked in _names(entry)]
    if known:
        return str(known[0]["id"])
    if not entries or is_ours or is_configured:
        return asked
    if len(entries) == 1:
        return str(entries[0]["id"])
    raise StartupFailed(unknown_name(asked, entries))


def unknown_name(asked: str, entries: Sequence[Mapping[str, Any]]) -> str:
    """The error for an unknown name, with the names that the server has."""
    names = [str(entry["id"])[:_NAME_CHARS] for entry in entries]
    more = ", ..." if len(names) > _NAMES_SHOWN else ""
    there = ", ".join(names[:_NAMES_SHOWN]) + more
    return (
        f"the model server has no model {asked!r}; it has: {there} "
        "(say which as backend.args.model of the service)"
    )


def guess_kind(entries: Sequence[Mapping[str, Any]]) -> ServerKind | None:
    """The kind of server that lists its models so; None: the list does not tell."""
    kinds = {
        _OWNERS[owner] for entry in entries if (owner := str(entry.get("owned_by"))) in _OWNERS
    }
    return next(iter(kinds)) if len(kinds) == 1 else None


def read_server_info(
    kind: ServerKind, name: str, entries: Sequence[Mapping[str, Any]], documents: Documents
) -> ServerInfo:
    """What is known of a server of that kind, which calls the model `name`."""
    # Of a server that lists but one it is that, also where it was started under another name.
    entry = next((one for one in entries if one["id"] == name or len(entries) == 1), {})
    reader = _READERS.get(kind)
    facts = {} if reader is None else reader(entry, documents, name)
    return ServerInfo(kind=kind, model=name[:_NAME_CHARS], **facts)


def _llamacpp(entry: Mapping[str, Any], documents: Documents, _: str) -> dict[str, Any]:
    props = _object(documents.get("/props"))
    media = _object(props.get("modalities"))
    return {
        "version": _text(props.get("build_info")),
        "context_length": _count(_object(props.get("default_generation_settings")).get("n_ctx")),
        "tools": _flag(_object(props.get("chat_template_caps")).get("supports_tools")),
        "vision": _flag(media.get("vision")),
        "audio": _flag(media.get("audio")),
        "choices": _count(props.get("total_slots")),
        "vocabulary": _count(_object(entry.get("meta")).get("n_vocab")),
    }


def _vllm(entry: Mapping[str, Any], documents: Documents, _: str) -> dict[str, Any]:
    return {
        "version": _text(_object(documents.get("/version")).get("version")),
        "context_length": _count(entry.get("max_model_len")),
    }


def _sglang(entry: Mapping[str, Any], documents: Documents, _: str) -> dict[str, Any]:
    documents_read = [_object(documents.get(path)) for path in (*_OF_SGLANG, *_OF_OLDER_SGLANG)]
    server, model = documents_read[0] or documents_read[2], documents_read[1] or documents_read[3]
    return {
        "version": _text(server.get("version")),
        "context_length": _count(entry.get("max_model_len"))
        or _count(server.get("context_length")),
        "vision": _flag(model.get("has_image_understanding")),
        "audio": _flag(model.get("has_audio_understanding")),
    }


def _tgi(_: Mapping[str, Any], documents: Documents, __: str) -> dict[str, Any]:
    info = _object(documents.get("/info"))
    return {
        "version": _text(info.get("version")),
        "context_length": _count(info.get("max_total_tokens")),
    }


def _trtllm(_: Mapping[str, Any], documents: Documents, __: str) -> dict[str, Any]:
    return {"version": _text(_object(documents.get("/version")).get("version"))}


def _ollama(_: Mapping[str, Any], documents: Documents, name: str) -> dict[str, Any]:
    can = _object(documents.get("/api/show")).get("capabilities")
    loaded = _object(documents.get("/api/ps")).get("models")
    ours = [
        one for one in (loaded if isinstance(loaded, list) else ()) if name in _names(_object(one))
    ]
    return {
        "version": _text(_object(documents.get("/api/version")).get("version")),
        # Of the model as it runs: what does not fit is cut off without a word.
        "context_length": _count(ours[0].get("context_length")) if ours else None,
        "tools": "tools" in can if isinstance(can, list) else None,
        "vision": "vision" in can if isinstance(can, list) else None,
    }


_READERS: Final = MappingProxyType(
    {
        "llamacpp": _llamacpp,
        "vllm": _vllm,
        "sglang": _sglang,
        "tgi": _tgi,
        "trtllm": _trtllm,
        "ollama": _ollama,
    }
)


def _names(entry: Mapping[str, Any]) -> set[str]:
    """Every name under which an entry can be asked for, and what it was made from."""
    aliases = entry.get("aliases")
    listed = aliases if isinstance(aliases, list) else []
    names = [*(entry.get(key) for key in ("id", "root", "name", "model")), *listed]
    texts = {name for name in names if isinstance(name, str)}
    return texts | {name.removesuffix(":latest") for name in texts}


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 < value < _MOST else None


def _text(value: Any) -> str | None:
    return value[:_NAME_CHARS] if isinstance(value, str) and value else None
