"""Which model server takes which field of a body: the one table that routing, workers and the documentation read.

A field that is not listed goes on as it came. One that is listed goes only to servers that do what it says; where it
asks for nothing (`idle`) it is left out for the others. Sources: vLLM entrypoints/openai (0.8 to 0.20), SGLang
srt/entrypoints/openai/protocol.py, TGI router/src/lib.rs (3.3), TensorRT-LLM serve/openai_protocol.py (1.2), llama.cpp
tools/server/README.md, Ollama docs/openai.md and openai/openai.go (0.12).
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

from events.names import Operation
from events.openai.answer_forms import form_of, has_format
from events.openai.operations import OPERATIONS

ServerKind = Literal["vllm", "sglang", "tgi", "trtllm", "llamacpp", "ollama", "openai", "fake"]
"""Kinds of model server as they answer. `openai`: one that is reached by URL and does not say what it is."""
SERVER_KINDS: Final[tuple[ServerKind, ...]] = get_args(ServerKind)
SERVER_NAMES: Final[Mapping[ServerKind, str]] = MappingProxyType(
    {
        "vllm": "vLLM",
        "sglang": "SGLang",
        "tgi": "TGI",
        "trtllm": "TensorRT-LLM",
        "llamacpp": "llama.cpp",
        "ollama": "Ollama",
        "openai": "any other URL",
        "fake": "simulated",
    }
)
Version = tuple[int, ...]
_ENDLESS: Final = "endless"
_ENDLESS_KINDS: Final[tuple[ServerKind, ...]] = ("vllm", "sglang", "trtllm", "openai", "fake")
"""Kinds that end an answer whose form is complete, although it was to go on; llama.cpp fails."""
_LOGPROBS_OF_OLLAMA: Final[Version] = (0, 12, 11)


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRow:
    """One field: the kinds that take it, apart by spaces. `openai` always does: such a server has the last word itself.

    `idle` are values that ask for nothing, beside null.
    """

    kinds: str
    idle: tuple[Any, ...] = ()
    renamed: Mapping[ServerKind, str] = field(default_factory=dict)
    """What a kind calls it, where that is not its name."""
    since: Mapping[ServerKind, Version] = field(default_factory=dict)
    """Versions before which a kind does not take it."""
    is_ours: bool = False
    """The gateway does it, whatever the server can."""

    def is_known_to(self, kind: ServerKind) -> bool:
        """Whether a server of that kind, of some version, takes it."""
        return kind == "openai" or kind in self.kinds.split()


_MOST: Final = "vllm sglang trtllm llamacpp fake"
FIELDS: Final[Mapping[str, FieldRow]] = MappingProxyType(
    {
        "n": FieldRow(kinds=_MOST, idle=(1,)),
        "best_of": FieldRow(kinds="trtllm", idle=(1,)),
        "echo": FieldRow(kinds="vllm sglang trtllm fake", idle=(False,)),
        "suffix": FieldRow(kinds="sglang ollama", idle=("",)),
        "logprobs": FieldRow(
            kinds=f"{_MOST} tgi ollama", idle=(False,), since={"ollama": _LOGPROBS_OF_OLLAMA}
        ),
        "logit_bias": FieldRow(kinds=_MOST, idle=({},)),
        "tool_choice": FieldRow(kinds=f"{_MOST} tgi", idle=("auto", "none")),
        "ignore_eos": FieldRow(kinds=_MOST, idle=(False,)),
        "min_tokens": FieldRow(kinds="vllm sglang trtllm fake", idle=(0,)),
        "top_k": FieldRow(kinds=_MOST, idle=(-1, 0)),
        "min_p": FieldRow(kinds=_MOST, idle=(0,)),
        "repetition_penalty": FieldRow(
            kinds=_MOST, idle=(1,), renamed={"llamacpp": "repeat_penalty"}
        ),
        "stop_token_ids": FieldRow(kinds="vllm sglang trtllm", idle=([],)),
        "include_stop_str_in_output": FieldRow(
            kinds="vllm sglang trtllm", idle=(False,), renamed={"sglang": "no_stop_trim"}
        ),
        "skip_special_tokens": FieldRow(kinds="vllm sglang trtllm", idle=(True,)),
        "spaces_between_special_tokens": FieldRow(kinds="vllm trtllm", idle=(True,)),
        "truncate_prompt_tokens": FieldRow(kinds="vllm trtllm"),
        "chat_template_kwargs": FieldRow(kinds="vllm sglang trtllm llamacpp", idle=({},)),
        "dimensions": FieldRow(kinds="vllm sglang trtllm ollama fake"),
        "parallel_tool_calls": FieldRow(kinds=" ".join(SERVER_KINDS), idle=(True,), is_ours=True),
        "encoding_format": FieldRow(kinds=" ".join(SERVER_KINDS), is_ours=True),
    }
)
"""By name. What shapes the answer is in `FORMS`."""

_REAL: Final = tuple(kind for kind in SERVER_KINDS if kind != "fake")
FORMS: Final[Mapping[str, Collection[ServerKind]]] = MappingProxyType(
    {
        "json": _REAL,
        "json_object": _REAL,
        "regex": ("vllm", "sglang", "tgi", "trtllm", "openai"),
        "choice": ("vllm", "sglang", "tgi", "trtllm", "llamacpp", "openai"),
        "grammar": ("vllm", "sglang", "trtllm", "llamacpp", "openai"),
    }
)
"""Kinds that give an answer a form, by the form (events.openai.answer_forms), each told in its own words."""


def list_used_fields(operation: Operation, body: Mapping[str, object]) -> tuple[str, ...]:
    """The listed fields that a checked body makes use of, and the forms it asks for, as the caller wrote them."""
    found = [name for name in FIELDS if name in body and not _is_idle(name, body[name], body)]
    if not OPERATIONS[operation].is_generative:
        return tuple(found)
    form = form_of(body)
    if form is not None:
        found.append(f"{form.param}={form.kind}")
    if "ignore_eos" in found and (form is not None or has_format(body)):
        found.append(f"ignore_eos={_ENDLESS}")
    return tuple(found)


def find_untaken(
    kind: ServerKind, used: Collection[str], version: Version | None = None
) -> Iterator[str]:
    """Of the fields used (`list_used_fields`), those that such a server does not do. `version` None: the newest."""
    for name in used:
        named, _, form = name.partition("=")
        if form:
            if kind not in (_ENDLESS_KINDS if form == _ENDLESS else FORMS[form]):
                yield named
        elif not _is_taken(FIELDS[named], kind, version):
            yield named


def is_endless_form(name: str, kind: ServerKind) -> bool:
    """Whether a field that a kind does not do is one that it does, but not where the answer has a form."""
    return name == "ignore_eos" and FIELDS[name].is_known_to(kind)


def drop_idle(kind: ServerKind, body: Mapping[str, object]) -> dict[str, object]:
    """The body as a server of that kind takes it: fields under its own names, and without those that it would not
    know and that ask for nothing.
    """
    found: dict[str, object] = {}
    for name, value in body.items():
        row = FIELDS.get(name)
        if row is None:
            found[name] = value
        elif row.is_known_to(kind) or not _is_idle(name, value, body):
            found[row.renamed.get(kind, name)] = value
    return found


def parse_version(text: str | None) -> Version | None:
    """The leading numbers of a version (`0.12.11-rc1`), or None."""
    if text is None:
        return None
    numbers: list[int] = []
    for part in text.lstrip("v").replace("-", ".").replace("+", ".").split("."):
        if not (part.isascii() and part.isdigit()):
            break
        numbers.append(int(part[:9]))
    return tuple(numbers) or None


def _is_taken(row: FieldRow, kind: ServerKind, version: Version | None) -> bool:
    since = row.since.get(kind)
    is_too_old = version is not None and since is not None and version < since
    return row.is_known_to(kind) and not is_too_old


def _is_idle(name: str, value: object, body: Mapping[str, object]) -> bool:
    if value is None:
        return True
    if name == "best_of":
        return value == (body.get("n") or 1)
    # True is no 1 and false no 0: completions count `logprobs: 0`.
    return any(
        value == idle and isinstance(value, bool) == isinstance(idle, bool)
        for idle in FIELDS[name].idle
    )
