"""The form of an answer beyond `response_format`: JSON Schema, pattern, choice, grammar.

Callers write vLLM's `structured_outputs` or its older `guided_json` and so on.
`functions.backends.body_translation` translates them for each server.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn, get_args

from events.codecs import json_codec
from events.errors import EventRejected

FormKind = Literal["json", "json_object", "regex", "choice", "grammar"]
STRUCTURED: Final = "structured_outputs"
GUIDED: Final[Mapping[str, FormKind]] = {
    "guided_json": "json",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
}
_KINDS: Final[tuple[FormKind, ...]] = get_args(FormKind)


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """`value` of `json` is the schema, of `choice` a list of texts, of `json_object` True, else a text.

    `param` is where the caller said it.
    """

    kind: FormKind
    value: Any
    param: str


def form_of(body: Mapping[str, object]) -> AnswerForm | None:
    """The form that a body asks for; None: none, or `response_format` says it.

    Raises:
        EventRejected: `invalid_value`: it asks for several, or its schema is no JSON object.
    """
    structured = body.get(STRUCTURED)
    wishes = structured if isinstance(structured, dict) else {}
    forms = [
        AnswerForm(kind, wishes[kind], f"{STRUCTURED}.{kind}")
        for kind in _KINDS
        if wishes.get(kind) not in (None, False)
    ]
    forms += [
        AnswerForm(kind, body[name], name)
        for name, kind in GUIDED.items()
        if body.get(name) is not None
    ]
    if not forms:
        return None
    if len(forms) > 1 or has_format(body):
        param = forms[-1].param
        _refuse(param, "an answer has one form: response_format or one of the others")
    only = forms[0]
    return AnswerForm("json", _schema(only), only.param) if only.kind == "json" else only


def has_format(body: Mapping[str, object]) -> bool:
    """Whether `response_format` says what the answer must look like."""
    wanted = body.get("response_format")
    return isinstance(wanted, dict) and wanted.get("type") != "text"


def _schema(form: AnswerForm) -> dict[str, object]:
    """The schema of a form, which may come as a text."""
    if isinstance(form.value, dict):
        return form.value
    try:
        return json_codec.loads_object(str(form.value).encode())
    except EventRejected:
        _refuse(form.param, "must be a JSON Schema")


def _refuse(param: str, message: str) -> NoReturn:
    raise EventRejected("invalid_value", f"{param}: {message}", param) from None
