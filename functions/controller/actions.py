"""Writes and notices that pure decisions return; `api_writer` carries them out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from functions.ports.kubernetes import SCALED_OBJECTS, Object, Resource, Verb


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """An Event for an object. The same notice is not repeated within a while."""

    about: Object
    """Anything with apiVersion, kind and metadata (name, namespace, uid)."""
    reason: str
    """CamelCase, for machines."""
    message: str
    type: Literal["Normal", "Warning"] = "Normal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One call that changes something. A delete has no `body` but the `uid` it means."""

    verb: Verb
    resource: Resource
    namespace: str
    name: str
    body: Object
    subresource: str = ""
    uid: str = ""
    notice: Notice | None = None
    """Told once the write has succeeded."""


Action = Write | Notice


def refer_to_scaled_object(obj: Object) -> Object:
    """A ScaledObject of a list, which names no kind, as `Notice.about` wants it."""
    return {
        "apiVersion": SCALED_OBJECTS.api_version,
        "kind": SCALED_OBJECTS.kind,
        "metadata": obj["metadata"],
    }


def is_subset(want: Any, have: Any) -> bool:
    """Whether `have` has every field of `want` with its value; lists are of one length."""
    if isinstance(want, Mapping):
        return isinstance(have, Mapping) and all(is_subset(v, have.get(k)) for k, v in want.items())
    if isinstance(want, list | tuple):
        return (
            isinstance(have, list | tuple)
            and len(want) == len(have)
            and all(is_subset(a, b) for a, b in zip(want, have, strict=True))
        )
    return bool(want == have)
