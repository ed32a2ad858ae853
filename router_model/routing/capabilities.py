"""What a request wants of a model server beyond the operation, and whether a server can do it. Pure.

What is not known is not held against a server: it has the last word.
"""

from dataclasses import dataclass

from events.openai.operations import OPERATIONS
from events.payloads import ServerInfo
from router_model.classifier.features import PromptFeatures
from router_model.routing.backend_fields import (
    SERVER_KINDS,
    SERVER_NAMES,
    ServerKind,
    find_untaken,
    is_endless_form,
    parse_version,
)
from router_model.routing.no_route import (
    CapabilityMissing,
    ContextTooLong,
    NoRoute,
    UnsupportedField,
)


@dataclass(frozen=True, slots=True)
class Lack:
    """One thing that a server cannot do: `what` for a person, `param` the field of the body, `kind` of refusal."""

    what: str
    param: str | None
    kind: type[CapabilityMissing | ContextTooLong | UnsupportedField]

    def refusal(self) -> NoRoute:
        """The error for the caller."""
        error = self.kind(self.what)
        error.param = self.param
        return error


def find_kind(declared: ServerKind, info: ServerInfo | None) -> ServerKind:
    """What the server is: what it says, else what the catalogue does."""
    said = None if info is None else info.kind
    known = (kind for kind in SERVER_KINDS if kind == said and kind != "openai")
    return next(known, declared)


def find_lack(
    declared: ServerKind, info: ServerInfo | None, features: PromptFeatures
) -> Lack | None:
    """The first thing that a request wants and the server cannot do; None where it can do all, as far as is known."""
    kind = find_kind(declared, info)
    version = None if info is None else parse_version(info.version)
    for name in find_untaken(kind, features.fields, version):
        beside = " beside a form of the answer" if is_endless_form(name, kind) else ""
        said = f"{name}{beside} is not supported by the model's server ({SERVER_NAMES[kind]})"
        return Lack(said, name, UnsupportedField)
    return None if info is None else _find_lack(info, features)


def _find_lack(info: ServerInfo, features: PromptFeatures) -> Lack | None:
    wants = {
        "tools": ("tools" in features.needs, info.tools, "tools"),
        "images": ("vision" in features.needs, info.vision, "messages"),
        "audio": (features.has_audio, info.audio, "messages"),
    }
    for what, (is_wanted, can, param) in wants.items():
        if is_wanted and can is False:
            return Lack(f"the model's server takes no {what}", param, CapabilityMissing)
    if info.choices is not None and features.choices > info.choices:
        said = f"n: the model's server gives at most {info.choices} answers to a call"
        return Lack(said, "n", UnsupportedField)
    if info.context_length is not None and features.least_tokens > info.context_length:
        said = f"the prompt has at least {features.least_tokens} tokens; the limit is {info.context_length}"
        return Lack(said, None, ContextTooLong)
    if info.vocabulary is not None and features.most_token_id >= info.vocabulary:
        param = OPERATIONS[features.operation].prompt_field
        said = (
            f"{param}: token ids of this model are below {info.vocabulary}; these are of another "
            "tokeniser, send the text"
        )
        return Lack(said, param, CapabilityMissing)
    return None
