"""Checks of OpenAI bodies before anything is spent on them: types and ranges, then what types cannot say.

Unknown fields are passed through, but for those of `events.openai.refused_fields`. Explicit nulls
mean absent; `without_nulls` drops them before the model server sees them. `max_tokens` is a
positive integer here and capped by the model's own limit elsewhere. Which server takes which field
is not judged here (`router_model.routing.backend_fields`).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from events import limits
from events.codecs import json_codec
from events.errors import EventRejected
from events.names import Operation
from events.openai import bodies
from events.openai.answer_forms import form_of
from events.openai.operations import OPERATIONS
from events.openai.refused_fields import IDLE, REFUSED_FIELDS, REFUSED_TEMPLATE_ARGUMENTS
from events.openai.whole_numbers import with_whole_numbers

T = TypeVar("T", bound=msgspec.Struct)
_AT: Final = " - at `$"
"""What comes before the path in msgspec's message; the path ends in a backtick."""
_MISSING: Final = re.compile(r"Object missing required field `(\w+)`")
_EXPECTED: Final = re.compile(
    r"Expected `[^`]*`(?:, got `\w+`| of length [<>=]+ \d+| [<>=]+ [-\d.]+)?"
)
_MAX_PARAM_CHARS: Final = 128
_TOKEN_ID: Final = re.compile(r"\d{1,9}", re.ASCII)
_DATA_URL: Final = re.compile(r"data:[a-z0-9.+-]+/[a-z0-9.+-]+[;,]", re.IGNORECASE)


def check_body(operation: Operation, body: Mapping[str, object]) -> None:
    """Returns when the body may be sent to a model server (after `without_nulls`).

    Raises:
        EventRejected: `invalid_value` (or `invalid_body`, `unsupported_parameter`) with the field in `attribute`, in
            OpenAI's spelling: `messages[0].content`.
    """
    for name in body.keys() & REFUSED_FIELDS.keys():
        if asks_for_something(body[name]) and body[name] != IDLE.get(name):
            raise EventRejected(
                "unsupported_parameter",
                f"{name} is not supported here: {REFUSED_FIELDS[name]}",
                name,
            )
    typed = convert_body(as_typed(operation, body), OPERATIONS[operation].body)
    if typed.model is not None and not typed.model.isprintable():
        _refuse("model", "must not hold control characters")
    if operation in _CHECKS:
        _CHECKS[operation](typed)
    if OPERATIONS[operation].is_generative:
        _check_form(body)


def asks_for_something(value: object) -> bool:
    """Whether a field is used at all: null, false and what is empty ask for nothing."""
    return value is not None and value is not False and value not in ("", [], {})


def convert_body(fields: Mapping[str, object], kind: type[T]) -> T:
    """A body as a value of its type.

    Raises:
        EventRejected: `invalid_value` with the field in `attribute`.
    """
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        _refuse_typed(str(error))


def as_typed(operation: Operation, body: Mapping[str, object]) -> dict[str, object]:
    """The body with whole numbers where its operation has integers, however the client wrote them."""
    return with_whole_numbers(OPERATIONS[operation].body, body)


def without_nulls(body: Mapping[str, object]) -> dict[str, object]:
    """A copy without fields that are null, at the top and in messages; what was absent stays absent for the model.

    But for the content of a message: strict servers want its key, null beside the calls of a turn.
    """
    known = {name: value for name, value in body.items() if value is not None}
    messages = known.get("messages")
    if isinstance(messages, list):
        known["messages"] = [
            _with_content(message) if isinstance(message, dict) else message for message in messages
        ]
    return known


def _with_content(message: Mapping[str, object]) -> dict[str, object]:
    known = {name: value for name, value in message.items() if value is not None}
    return known if "content" in known else {**known, "content": None}


def _refuse(param: str, message: str) -> NoReturn:
    raise EventRejected("invalid_value", f"{param}: {message}", param) from None


def _refuse_typed(text: str) -> NoReturn:
    """From msgspec's message: the path, and what was expected; never the value."""
    param = text.partition(_AT)[2].removesuffix("`").removeprefix(".")
    missing = _MISSING.match(text)
    if missing is not None:
        param = f"{param}.{missing.group(1)}" if param else missing.group(1)
        _refuse(param, "is required")
    expected = _EXPECTED.match(text)
    message = "is not one of the allowed values" if expected is None else expected.group()
    _refuse(param[:_MAX_PARAM_CHARS] or "body", message.replace("`", ""))


def _check_sampled(body: bodies.Sampled) -> None:
    if body.stream_options is not None and not body.stream:
        _refuse("stream_options", "is only allowed with stream: true")
    if isinstance(body.stop, str) and not 0 < len(body.stop) <= limits.MAX_STOP_CHARS:
        _refuse("stop", f"must have 1 to {limits.MAX_STOP_CHARS} characters")
    for token in body.logit_bias or ():
        if _TOKEN_ID.fullmatch(token) is None:
            _refuse("logit_bias", "keys must be token ids")
    _check_length(body)


def _check_length(body: Any) -> None:
    """An answer that may not end by itself needs a limit that the caller knows of: it pays for all of it."""
    limit = getattr(body, "max_completion_tokens", None) or body.max_tokens
    if body.ignore_eos and limit is None:
        _refuse("ignore_eos", "goes only with max_tokens or max_completion_tokens")
    if limit is not None and (body.min_tokens or 0) > limit:
        _refuse("min_tokens", "must not be more than max_tokens")


def _check_form(body: Mapping[str, object]) -> None:
    form = form_of(body)
    if form is not None and form.kind == "json":
        _check_schema(form.param, form.value)


def _check_chat(body: Any) -> None:
    _check_sampled(body)
    if body.top_logprobs is not None and not body.logprobs:
        _refuse("top_logprobs", "is only allowed with logprobs: true")
    for index, message in enumerate(body.messages):
        _check_message(f"messages[{index}]", message)
    for index, tool in enumerate(body.tools or ()):
        if tool.function.parameters is not None:
            _check_schema(f"tools[{index}].function.parameters", tool.function.parameters)
    choice = body.tool_choice
    if isinstance(choice, str) and choice not in {"none", "auto", "required"}:
        _refuse("tool_choice", "is not one of the allowed values")
    _check_format(body.response_format)
    for name in REFUSED_TEMPLATE_ARGUMENTS.intersection(body.chat_template_kwargs or ()):
        at = f"chat_template_kwargs.{name}"
        raise EventRejected(
            "unsupported_parameter", f"{at} is not supported here: the server sets it", at
        )


def _check_completions(body: Any) -> None:
    _check_sampled(body)
    _check_prompt("prompt", body.prompt, may_be_empty=True)
    if body.best_of is not None and body.best_of < (body.n or 1):
        _refuse("best_of", "must not be less than n")
    _check_format(body.response_format)


def _check_embeddings(body: Any) -> None:
    _check_prompt("input", body.input, may_be_empty=False)


def _check_message(at: str, message: bodies.Message) -> None:
    has_call = (
        message.tool_calls or message.function_call is not None or message.refusal is not None
    )
    if message.content is None and not (message.role == "assistant" and has_call):
        _refuse(f"{at}.content", "is required")
    if isinstance(message.content, list):
        for index, part in enumerate(message.content):
            _check_part(f"{at}.content[{index}]", part)


def _check_part(at: str, part: bodies.ContentPart) -> None:
    match part:
        case bodies.ImagePart():
            _check_url(f"{at}.image_url.url", part.image_url.url)
        case bodies.VideoPart():
            _check_url(f"{at}.video_url.url", part.video_url.url)
        case bodies.AudioUrlPart():
            _check_url(f"{at}.audio_url.url", part.audio_url.url)
        case bodies.FilePart():
            for name in ("file_id", "file_url"):
                if getattr(part.file, name) is not None:
                    _refuse(f"{at}.file.{name}", "is not supported; send file_data")
            _check_url(f"{at}.file.file_data", part.file.file_data or "")
        case _:
            return


def _check_url(at: str, url: str) -> None:
    if _DATA_URL.match(url) is None:
        _refuse(at, "must be a data: URL; addresses are not fetched")


def _check_prompt(name: str, prompt: object, *, may_be_empty: bool) -> None:
    """Text, texts, tokens, or lists of tokens: one kind at a time."""
    if isinstance(prompt, str):
        if not prompt and not may_be_empty:
            _refuse(name, "must not be empty")
        return
    items = prompt if isinstance(prompt, list) else []
    if len({type(item) for item in items}) > 1:
        _refuse(name, "must hold texts, tokens, or lists of tokens, not a mixture")
    if not isinstance(items[0], int) and len(items) > limits.MAX_INPUTS:
        _refuse(name, f"must hold at most {limits.MAX_INPUTS} inputs")
    if not may_be_empty and any(item in ("", []) for item in items):
        _refuse(name, "must not hold an empty input")
    if any(token < 0 for token in _tokens(items)):
        _refuse(name, "token ids are not negative")


def _tokens(items: list[Any]) -> Iterator[int]:
    for item in items:
        if isinstance(item, int):
            yield item
        elif isinstance(item, list):
            yield from item


def _check_format(wanted: bodies.ResponseFormat | None) -> None:
    if wanted is None:
        return
    if (wanted.type == "json_schema") != (wanted.json_schema is not None):
        _refuse("response_format.json_schema", "goes with type: json_schema, and only with it")
    if wanted.json_schema is not None and wanted.json_schema.schema is not None:
        _check_schema("response_format.json_schema.schema", wanted.json_schema.schema)


def _check_schema(at: str, schema: dict[str, object]) -> None:
    """Caps on size, depth, nodes, properties and patterns: grammars made of schemas grow faster than the schemas."""
    if len(json_codec.dumps(schema)) > limits.MAX_SCHEMA_BYTES:
        _refuse(at, f"is larger than {limits.MAX_SCHEMA_BYTES} bytes")
    nodes = properties = 0
    level: list[object] = [schema]
    for _ in range(limits.MAX_SCHEMA_DEPTH):
        nodes += len(level)
        properties += sum(_properties(node) for node in level)
        if nodes > limits.MAX_SCHEMA_NODES:
            _refuse(at, f"has more than {limits.MAX_SCHEMA_NODES} nodes")
        if properties > limits.MAX_SCHEMA_PROPERTIES:
            _refuse(at, f"has more than {limits.MAX_SCHEMA_PROPERTIES} properties")
        level = [child for node in level for child in _children(at, node)]
        if not level:
            return
    _refuse(at, f"is nested deeper than {limits.MAX_SCHEMA_DEPTH}")


def _properties(node: object) -> int:
    properties = node.get("properties") if isinstance(node, dict) else None
    return len(properties) if isinstance(properties, dict) else 0


def _children(at: str, node: object) -> Iterator[object]:
    if isinstance(node, dict):
        pattern = node.get("pattern")
        if isinstance(pattern, str) and len(pattern) > limits.MAX_PATTERN_CHARS:
            _refuse(at, f"has a pattern of more than {limits.MAX_PATTERN_CHARS} characters")
        yield from (child for child in node.values() if isinstance(child, dict | list))
    elif isinstance(node, list):
        yield from (child for child in node if isinstance(child, dict | list))


_CHECKS: Final[Mapping[Operation, Callable[[Any], None]]] = {
    Operation.CHAT: _check_chat,
    Operation.COMPLETIONS: _check_completions,
    Operation.EMBEDDINGS: _check_embeddings,
}
