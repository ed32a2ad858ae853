"""Writes the reference pages that are tables of the code: settings and error codes. Run by `make docs`."""

import inspect
import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from events import limits, names
from events.openai.refused_fields import REFUSED_FIELDS, REFUSED_TEMPLATE_ARGUMENTS
from functions.ingress.stored_responses import MAX_REFERENCES
from functions.runtime import settings as module
from functions.runtime.errors import CODES
from functions.runtime.settings import SECRETS, SHORT_NAMES, Settings, is_group
from router_model.routing.backend_fields import (
    FIELDS,
    FORMS,
    SERVER_KINDS,
    SERVER_NAMES,
    FieldRow,
    ServerKind,
)

REFERENCE = Path(__file__).parent / "reference"
WIDTH = 100
"""Columns of prose."""
YES_NO = {True: "yes", False: "-"}
NAMES_PROSE = """# Names on the wire

What each attribute means is in [wire.md](wire.md).

## Attributes

A carried attribute is repeated on every later event of the request.
An internal one is set by Pick and Spin only; at the HTTP interface it is dropped.

| Attribute | Carried | Internal |
| --- | --- | --- |"""
TOPICS_PROSE = """
## Topics

Names are shown without the prefix. `{slug}` stands for a service.

| Topic | Partitions on a cluster | Kept |
| --- | --- | --- |"""
SETTINGS_PROSE = """# Settings

Every process reads its settings from the environment, once, at start.
A name is `PICKSPIN_<GROUP>_<FIELD>`. A few have a short name as well.
All problems are reported together, before anything starts.
An unknown `PICKSPIN_` variable is an error, so that a typing error is found.
The exception: the variables that Kubernetes injects for Services whose names begin with `pickspin`.
No number may be negative.
Durations are in seconds unless the name says otherwise.

On Kubernetes, settings are in `global.settings` of the charts.
The templates set some of them themselves.
"""
ERRORS_PROSE = """# Error codes

Every refusal and every failed reply has the shape of an OpenAI error:
`error.message`, `error.type`, `error.code` and `error.param`.
Two fields are added: `error.request_id`, and `error.src`, the origin (`gateway` or `model`).
A code means the same in every API.

Messages never contain host names, file paths or keys of this installation.
They contain no part of a prompt, with one exception.
If a model server does not accept a request (`invalid_value` with `src: model`), its message is
repeated, shortened and cleaned, and the field that it names is `param`.

`x-should-retry` tells the official clients whether to retry.
Where the table has a dash, they decide by the status.
"""
ERRORS_END = """
`deadline_exceeded` is the code of a request in state `expired`.
`cancelled` is the code of a request in state `cancelled`.
Every other code belongs to a refusal (nothing was accepted) or to a request in state `failed`.
"""
SHAPES = Path(__file__).parents[1] / "tests/unit/worker/shapes"
SERVERS_PROSE = """# Model servers

What each kind of model server sends, and what the caller receives.
The shapes come from the sources and the documentation of each server.
A test sends each shape through the worker and checks the result with the official client's types.

The rules behind the tables:

- Ids, `model` and `created` are the gateway's.
  `system_fingerprint`, `service_tier` (OpenAI's values), `refusal`, citations, log probabilities
  and token details are the server's.
- Reasoning keeps the server's name for it, `reasoning` or `reasoning_content`.
  Parts of content that are reasoning become `reasoning_content`.
- In a stream the role is sent once, and fields that are null are left out.
  Usage comes in one chunk without choices, if the caller asked for it.
  If the server never sent usage, it is estimated.
- Tool calls are numbered in the order of their appearance, and each has an id.
  An id that the server did not give is derived, so that it is the same if an answer is replayed.
  Missing arguments are `{}`.
- The finish reason is `tool_calls` if there are any.
  A finish reason that means that the server gave up is an error: half an answer never looks whole.
- "Called again later" costs no attempt.
  The request waits until its deadline, or goes to a stand-by service.
"""
OUTCOMES = {
    "content": "content `{}`",
    "reasoning": "`reasoning` `{}`",
    "reasoning_content": "`reasoning_content` `{}`",
    "refusal": "`refusal` `{}`",
    "finish": "`finish_reason` `{}`",
    "fingerprint": "`system_fingerprint` `{}`",
    "tier": "`service_tier` `{}`",
    "cached": "`cached_tokens` {}",
    "thought": "`reasoning_tokens` {}",
    "logprobs": "log probabilities of {} tokens",
}
"""Simple parts of an outcome, and how they are shown."""
FIELDS_PROSE = """# Fields of model servers

Every server takes OpenAI's own fields.
The table has the fields that only some servers take.

| Entry | Meaning |
| --- | --- |
| `yes` | passed on |
| `from 1.2` | passed on from this version of the server |
| `as name` | passed on under the server's own name |
| `by us` | done by the gateway, whatever the server can |
| `-` | refused |

A value without effect (null, or one listed as `idle`) is left out for a server that would not know
the field.
No field is dropped silently. A field that is in no table is passed on unchanged.

The worker reads the kind of a server from the server itself when it warms up (see below).
Until then the catalogue's `backend.kind` counts.
The router does not pick a service whose server cannot do what the request needs.
`auto`, tasks, cascades and fallbacks then use another one.
If none is left, the request is refused with `unsupported_parameter` and the field in `error.param`.

- `ignore_eos` needs `max_tokens` or `max_completion_tokens`.
- `min_tokens` must not exceed that limit.
- `dimensions` is checked in the answer. Vectors of another length are `capability_missing`.
- With `parallel_tool_calls: false` a choice has one tool call, whatever the server does.
- Whole numbers may be written as floats (`100.0`).
"""
FORMS_PROSE = """
## The form of an answer

`structured_outputs` (vLLM's field) says what an answer must look like.
So do its older names `guided_json`, `guided_regex`, `guided_choice` and `guided_grammar`.
A request has one of them, or `response_format`, not several.
The worker translates it for each server: a schema becomes `response_format`, a choice becomes a
pattern or a grammar where the server has no choices.
A server of an unknown kind receives patterns, choices and grammars unchanged.
llama.cpp takes `ignore_eos` only without a form.
"""
REFUSED_PROSE = """
## Refused everywhere

These fields are refused with `unsupported_parameter`, unless the value has no effect.
"""
CAPABILITIES_PROSE = """## Capabilities read from the server

The worker reads them once a replica has warmed up and reports them in the status of its service.
`GET /v1/models` (`server` of each service) and `pickspin models` show them.
A capability that a server does not report is assumed.

| | Asked | Read |
| --- | --- | --- |
| every server | `/v1/models` | its own name of the model: ours, or the only one (else the start fails) |
| vLLM | `/version` | version; context length (`max_model_len`) |
| SGLang | `/server_info`, `/model_info` | version, context length, images, audio |
| TGI | `/info` | version, context length (`max_total_tokens`) |
| TensorRT-LLM | `/version` | version |
| llama.cpp | `/props` | context length, tools, images, audio, parallel answers (`total_slots`), vocabulary |
| Ollama | `/api/version`, `/api/show`, `/api/ps` | version, tools, images, context length as it runs |

If a server lists several models, and none under the expected name, the start fails.
The error lists the models of the server.

| A request with | is refused with |
| --- | --- |
| tools, images or audio for a server that takes none | `capability_missing` |
| token ids beyond the server's vocabulary | `capability_missing` |
| a prompt that certainly does not fit into the context | `context_length_exceeded` |
| more choices than the server gives | `unsupported_parameter` |

Token ids of another tokeniser within the vocabulary cannot be recognised.
Where several services may answer, the router picks one that can.
"""
NOTICE = "<!-- Written by `make docs` from {source}. Do not edit. -->\n"


LIMITS_PROSE = """# Limits of a request

What one request may contain.
`OpenAI` marks a limit of OpenAI's API, kept so that what works there works here.
The others are ours, with the reason.
A request beyond a limit is refused with 400 and the field in `error.param`.
A body that is too large is refused with 413.
The context length of the model is a limit of its own: `context_length_exceeded`.
"""
INGRESS = Settings().ingress
LIMITS: tuple[tuple[str, float | str, str, str], ...] = (
    ("bytes of a body", INGRESS.max_body_bytes, "ours, `PICKSPIN_INGRESS_MAX_BODY_BYTES`",
     "a phone's photo or a million tokens fit; ingress, router and worker hold it in memory for a moment"),
    ("maximum of that setting", limits.MAX_BODY_BYTES, "ours", "memory of every process that reads bodies"),
    ("bytes of large bodies at once", INGRESS.big_bodies_bytes, "ours, `PICKSPIN_INGRESS_BIG_BODIES_BYTES`",
     "memory: those above `PICKSPIN_INGRESS_BIG_BODY_BYTES` count until they are written; others wait, then 503"),
    ("bytes of other bodies (batches, callbacks, feedback)", INGRESS.big_body_bytes, "ours", "they have no content"),
    ("bytes of a body in its event", Settings().broker.inline_bytes, "ours, `PICKSPIN_BROKER_INLINE_BYTES`",
     "larger ones travel by `dataref`, so that a record stays far below a broker's limit of 1 MiB"),
    ("bytes of a file", INGRESS.max_file_bytes, "ours, `PICKSPIN_INGRESS_MAX_FILE_BYTES`", "disk"),
    ("levels of JSON", limits.BODY_LIMITS.max_depth, "ours", "parsers in every language support it"),
    ("keys in one JSON document", limits.BODY_LIMITS.max_keys, "ours", "time and memory of every reader"),
    ("lists and objects in one JSON document", limits.BODY_LIMITS.max_containers, "ours", "the same"),
    ("values in one JSON document", limits.BODY_LIMITS.max_values, "ours",
     "the same; a million token ids fit"),
    ("digits of a number", limits.BODY_LIMITS.max_digits, "ours", "other readers round longer ones"),
    ("messages of a chat", limits.MAX_MESSAGES, "ours", "time of validation; conversations are shorter"),
    ("parts of a message", limits.MAX_PARTS, "ours", "the same; OpenAI takes some hundred images"),
    ("inputs of one call (embeddings, prompts)", limits.MAX_INPUTS, "OpenAI", "-"),
    ("token ids of one prompt", limits.MAX_TOKENS, "ours", "as many as the longest contexts hold"),
    ("tools, and calls in one message", limits.MAX_TOOLS, "OpenAI", "-"),
    ("properties of one schema", limits.MAX_SCHEMA_PROPERTIES, "OpenAI", "-"),
    ("levels of JSON in one schema", limits.MAX_SCHEMA_DEPTH, "ours",
     "OpenAI's ten levels of objects are some 50 of these if each is optional and in a list"),
    ("lists and objects in one schema", limits.MAX_SCHEMA_NODES, "ours",
     "ten for each of OpenAI's properties; grammars made of schemas grow faster than the schemas"),
    ("bytes of one schema", limits.MAX_SCHEMA_BYTES, "ours", "200 for each of OpenAI's properties, with descriptions"),
    ("characters of a pattern", limits.MAX_PATTERN_CHARS, "ours", "grammars made of patterns grow faster"),
    ("characters of a grammar", limits.MAX_GRAMMAR_CHARS, "ours", "time of compilation in a model server"),
    ("answers to choose from", limits.MAX_ALTERNATIVES, "ours", "the same"),
    ("`top_logprobs`", limits.MAX_TOP_LOGPROBS, "OpenAI", "-"),
    ("`n`, `best_of`", limits.MAX_CHOICES, "ours", "each is a generation, but the request has one slot at its model"),
    ("`stop`", limits.MAX_STOPS, "ours", "OpenAI takes 4; each is searched in every step"),
    ("characters of a stop text", limits.MAX_STOP_CHARS, "ours", "the same"),
    ("entries of `logit_bias`", limits.MAX_LOGIT_BIASES, "ours", "each is applied in every step"),
    ("characters of a tool's or schema's name", 64, "OpenAI", "-"),
    ("headers, and their bytes", f"{limits.DEFAULT_LIMITS.max_headers}, {limits.DEFAULT_LIMITS.max_header_bytes:,}",
     "ours", "431 beyond them; they become headers of records"),
    ("responses that one input refers to (`item_reference`)", MAX_REFERENCES, "ours", "each is looked up"),
)  # fmt: skip
"""What, most of it, whose limit it is, and why."""


def pages() -> dict[Path, str]:
    """Every generated page with its text."""
    return {
        REFERENCE / "settings.md": settings_page(),
        REFERENCE / "errors.md": errors_page(),
        REFERENCE / "servers.md": servers_page(),
        REFERENCE / "fields.md": fields_page(),
        REFERENCE / "limits.md": limits_page(),
        REFERENCE / "names.md": names_page(),
    }


def names_page() -> str:
    """docs/reference/names.md: the tables of `events.names`."""
    attributes = (
        f"| `{row.name}` | {YES_NO[row.is_carried]} | {YES_NO[row.is_internal]} |"
        for row in names.ATTRIBUTES.values()
    )
    topics = (
        f"| `{topic.name}` | {topic.partitions or 'of the service'} | {_kept(topic)} |"
        for topic in (*names.SHARED_TOPICS, *names.SERVICE_TOPICS)
    )
    return "\n".join([NAMES_PROSE, *attributes, TOPICS_PROSE, *topics, ""])


def _kept(topic: names.Topic) -> str:
    if topic.retention_s is None:
        return "the last record of each key"
    return f"{topic.retention_s // 3600} h"


def limits_page() -> str:
    """docs/reference/limits.md."""
    out = [LIMITS_PROSE, "| What | Most | Whose | Why |", "| --- | --- | --- | --- |"]
    out += [f"| {what} | {_shown(most)} | {whose} | {why} |" for what, most, whose, why in LIMITS]
    return "\n".join([*out, ""])


def _shown(most: float | str) -> str:
    return most if isinstance(most, str) else f"{most:,}"


def notes(kind: type) -> dict[str, str]:
    """The string under each field, as one line."""
    found: dict[str, str] = {}
    pattern = re.compile(r'^    (\w+): [^\n]+\n    """(.+?)"""', re.MULTILINE | re.DOTALL)
    for name, text in pattern.findall(inspect.getsource(kind)):
        found[name] = " ".join(text.split())
    return found


def type_name(annotation: Any) -> str:
    """`str | None` and the like, without module names."""
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(f"`{part}`" for part in parts)
    if get_origin(annotation) is Annotated:
        return type_name(parts[0])
    if parts:
        return " or ".join("nothing" if part is type(None) else type_name(part) for part in parts)
    return str(annotation.__name__)


def shown(value: object) -> str:
    """A default as one would type it."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value}`"


def rows(kind: type, prefix: str) -> list[str]:
    """One table line for each field of a group."""
    short = {place: name for name, place in SHORT_NAMES.items()}
    texts = notes(kind)
    found = []
    for field in msgspec.structs.fields(kind):
        if is_group(field.type):
            continue
        name = f"PICKSPIN_{prefix}{field.name}".upper()
        alias = short.get((prefix.rstrip("_"), field.name))
        names = f"`{name}`" + (f", `{alias}`" if alias else "")
        secret = " Secret: never printed." if field.name in SECRETS else ""
        text = texts.get(field.name, "").replace("|", "\\|")
        found.append(
            f"| {names} | {type_name(field.type)} | {shown(field.default)} | {text}{secret} |"
        )
    return found


def settings_page() -> str:
    """Groups in the order of the code, one table each."""
    head = "| Variable | Type | Default | Meaning |\n| --- | --- | --- | --- |"
    out = [
        NOTICE.format(source="functions/runtime/settings.py"),
        SETTINGS_PROSE,
    ]
    for field in msgspec.structs.fields(Settings):
        kind = field.type
        if is_group(kind):
            doc = kind.__dict__.get("__doc__")
            out.append(f"## {field.name}\n")
            if doc:
                out.append(_paragraph(doc))
            out.append("\n".join([head, *rows(kind, f"{field.name}_")]) + "\n")
    out.append("## Of every process\n")
    out.append("\n".join([head, *rows(Settings, "")]) + "\n")
    out.append(f"Read by `{module.__name__}.load_settings`.\n")
    return "\n".join(out)


def errors_page() -> str:
    """One line for each code."""
    out = [
        NOTICE.format(source="functions/runtime/errors.py"),
        ERRORS_PROSE,
        "| Code | HTTP | `type` | `x-should-retry` | `Retry-After` |",
        "| --- | --- | --- | --- | --- |",
    ]
    for code, row in CODES.items():
        retry = "-" if row.should_retry is None else f"`{str(row.should_retry).lower()}`"
        after = "-" if row.retry_after_s is None else f"{row.retry_after_s} s"
        out.append(f"| `{code}` | {row.status} | `{row.type}` | {retry} | {after} |")
    out.append(ERRORS_END)
    return "\n".join(out)


def servers_page() -> str:
    """One table for each recorded server."""
    out = [NOTICE.format(source="tests/unit/worker/shapes"), SERVERS_PROSE]
    for path in sorted(SHAPES.iterdir()):
        page = json.loads(path.read_text(encoding="utf-8"))
        kinds = ", ".join(f"`{kind}`" for kind in page["kinds"])
        out.append(f"## {page['server']}\n")
        out.append(_paragraph(f"`backend.kind` {kinds}. Versions: {page['versions']}."))
        out.append(_paragraph(f"Sources: {', '.join(page['sources'])}."))
        out.append("| The server sends | As | The caller gets |\n| --- | --- | --- |")
        out += [
            f"| {cell(shape['sends'])} | {form_of(shape)} | {cell(outcome(shape['gives']))} |"
            for shape in page["shapes"]
        ]
        out.append("")
    return "\n".join(out)


def _paragraph(text: str) -> str:
    """Prose in lines of the usual width, with an empty line after it."""
    lines = textwrap.fill(
        " ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False
    )
    return f"{lines}\n"


def form_of(shape: dict[str, Any]) -> str:
    """How a shape comes: a stream, or a body with its status."""
    operation = shape.get("operation", "chat")
    form = "stream" if "events" in shape else shape.get("status", 200)
    return f"{operation}, {form}"


def outcome(gives: dict[str, Any]) -> str:
    """What a caller is given, in words."""
    if gives.get("later"):
        return "called again later"
    if "error" in gives:
        row = CODES[gives["error"]]
        return f"error `{gives['error']}` ({row.status})"
    parts = [text.format(gives[name]) for name, text in OUTCOMES.items() if name in gives]
    parts += [f"tool call `{name}({arguments})`" for name, arguments in gives.get("tools", ())]
    if "function" in gives:
        parts.append("`function_call` `{}({})`".format(*gives["function"]))
    parts += [f"vector `{vector}`" for vector in gives.get("vectors", ())]
    prompt, completion = gives.get("usage", (None, None))
    parts.append("usage estimated" if prompt is None else f"usage {prompt} + {completion}")
    return ", ".join(parts)


def cell(text: str) -> str:
    """Text that fits into a table's cell."""
    return text.replace("|", "\\|").replace("``", "nothing")


def fields_page() -> str:
    """Fields by server, what shapes an answer by server, and what is refused everywhere."""
    head = "".join(f" {SERVER_NAMES[kind]} |" for kind in SERVER_KINDS)
    rule = "| --- |" + " :-: |" * len(SERVER_KINDS)
    out = [
        NOTICE.format(source="backend_fields.py and refused_fields.py"),
        FIELDS_PROSE,
        f"| Field |{head}",
        rule,
        *(
            f"| `{name}`{_idle(row)} |"
            + "".join(f" {_taken(row, kind)} |" for kind in SERVER_KINDS)
            for name, row in FIELDS.items()
        ),
        FORMS_PROSE,
        f"| Form |{head}",
        rule,
        *(
            f"| `{form}` |" + "".join(f" {'yes' if k in kinds else '-'} |" for k in SERVER_KINDS)
            for form, kinds in FORMS.items()
        ),
        REFUSED_PROSE,
        "| Field | Why |",
        "| --- | --- |",
        *(f"| `{name}` | {why} |" for name, why in REFUSED_FIELDS.items()),
        "",
        _paragraph(
            "Arguments of `chat_template_kwargs` that the server sets itself are refused as well: "
            + ", ".join(f"`{name}`" for name in sorted(REFUSED_TEMPLATE_ARGUMENTS))
            + "."
        ),
        CAPABILITIES_PROSE,
    ]
    return "\n".join(out)


def _idle(row: FieldRow) -> str:
    found = [f"`{json.dumps(value)}`" for value in row.idle]
    return f" (idle: {', '.join(found)})" if found else ""


def _taken(row: FieldRow, kind: ServerKind) -> str:
    if row.is_ours:
        return "by us"
    if not row.is_known_to(kind):
        return "-"
    if kind in row.since:
        return "from " + ".".join(map(str, row.since[kind]))
    return f"as `{row.renamed[kind]}`" if kind in row.renamed else "yes"


def main() -> int:
    """Writes every page that differs, and names it."""
    for path, text in pages().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
