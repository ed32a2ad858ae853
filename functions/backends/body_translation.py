"""Translates a checked body for one kind of model server: names of fields, form of the answer.

Pure. Fields that a kind does not take are refused before (`router_model.routing.backend_fields`).
"""

import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from events.openai.answer_forms import GUIDED, STRUCTURED, AnswerForm, form_of
from events.openai.refused_fields import REFUSED_FIELDS
from router_model.routing.backend_fields import ServerKind, Version, drop_idle

_STRUCTURED_SINCE: Final[Version] = (0, 11)
"""vLLM: `structured_outputs` took the place of `guided_json` and the like."""
_LOOK_BACK: Final = 65_536
"""Tokens that llama.cpp keeps for a penalty (4 bytes each); newer versions take no -1 for all."""
_SAID: Final = frozenset({STRUCTURED, *GUIDED, *REFUSED_FIELDS})
_Body = dict[str, Any]


def translate_body(
    kind: ServerKind, body: Mapping[str, object], version: Version | None = None
) -> _Body:
    """The body as a server of that kind and version (None: the newest) takes it."""
    form = form_of(body)
    translated: _Body = drop_idle(kind, {k: v for k, v in body.items() if k not in _SAID})
    if body.get("tool_choice") == "none" and "tool_choice" not in translated:
        translated.pop("tools", None)
    if kind == "llamacpp" and "repeat_penalty" in translated:
        # It looks back over 64 tokens by default, the others over everything.
        translated.setdefault("repeat_last_n", _LOOK_BACK)
    if form is None:
        return translated
    written = _write(form, kind, version)
    if written is None:  # an unknown server: in the caller's own words
        written = {name: body[name] for name in (STRUCTURED, *GUIDED) if name in body}
    return {**{k: v for k, v in translated.items() if k != "response_format"}, **written}


def _write(form: AnswerForm, kind: ServerKind, version: Version | None) -> _Body | None:
    if form.kind == "json_object":
        return {"response_format": {"type": "json_object"}}
    if form.kind == "json":
        return {"response_format": _schema_format(form.value, kind)}
    writer = _WRITERS.get(kind)
    return None if writer is None else writer(form, version)


def _schema_format(schema: Any, kind: ServerKind) -> _Body:
    if kind == "tgi":
        return {"type": "json", "value": schema}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def _vllm(form: AnswerForm, version: Version | None) -> _Body:
    if version is not None and version < _STRUCTURED_SINCE:
        return {f"guided_{form.kind}": form.value}
    return {STRUCTURED: {form.kind: form.value}}


def _sglang(form: AnswerForm, _: Version | None) -> _Body:
    if form.kind == "grammar":
        return {"ebnf": form.value}
    return {"regex": _pattern(form)}


def _tgi(form: AnswerForm, _: Version | None) -> _Body:
    return {"response_format": {"type": "regex", "value": _pattern(form)}}


def _trtllm(form: AnswerForm, _: Version | None) -> _Body:
    if form.kind == "grammar":
        return {"response_format": {"type": "ebnf", "ebnf": form.value}}
    return {"response_format": {"type": "regex", "regex": _pattern(form)}}


def _llamacpp(form: AnswerForm, _: Version | None) -> _Body:
    if form.kind == "grammar":
        return {"grammar": form.value}
    # A text in its grammars is quoted as in JSON.
    texts = (json.dumps(text, ensure_ascii=False) for text in form.value)
    return {"grammar": f"root ::= {' | '.join(texts)}"}


def _pattern(form: AnswerForm) -> str:
    if form.kind == "choice":
        return f"({'|'.join(re.escape(text) for text in form.value)})"
    return str(form.value)


_WRITERS: Final[Mapping[ServerKind, Callable[[AnswerForm, Version | None], _Body]]] = (
    MappingProxyType(
        {
            "vllm": _vllm,
            "sglang": _sglang,
            "tgi": _tgi,
            "trtllm": _trtllm,
            "llamacpp": _llamacpp,
        }
    )
)
