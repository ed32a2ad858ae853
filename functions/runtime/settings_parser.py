"""Parses environment variables into frozen groups of settings.

It reports every problem at once, with the name of its variable. The field's type defines the valid
values: `Literal`, `msgspec.Meta` bounds, and every number finite and not negative.
"""

import difflib
import math
import re
from collections.abc import Mapping
from types import NoneType
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin

import msgspec

from functions.runtime.errors import StartupFailed

PREFIX: Final = "PICKSPIN_"
MAX_SHOWN: Final = 40
_LINK_PORT: Final = re.compile(r"_PORT_\d{1,5}_(?:TCP|UDP|SCTP)(?:_PROTO|_PORT|_ADDR)?$")
_LINK_URLS: Final = ("tcp://", "udp://", "sctp://")
_NUMBERS: Final = {int: "a whole number", float: "a number"}
_WORDS: Final = {bool: "true or false"}
_Place = tuple[str, ...]
T = TypeVar("T", bound=msgspec.Struct)


class Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One concern's settings."""


def is_group(kind: Any) -> bool:
    """Whether the type of a setting is a group of them."""
    return isinstance(kind, type) and issubclass(kind, Group)


def build_variable(*place: str) -> str:
    """The variable of a field of a group, or of a setting that is in no group."""
    return PREFIX + "_".join(place).upper()


def read_groups(
    kind: type[T],
    environ: Mapping[str, str],
    *,
    short_names: Mapping[str, tuple[str, str]],
) -> T:
    """Reads every variable of `environ` that begins with PREFIX into a `kind`, whose fields are groups or values.

    Raises:
        StartupFailed: one line that names every variable that is unknown or has a bad value. A text is never
            bad here, so that no secret is shown.
    """
    places = _places(kind)
    known = {build_variable(*place): place for place in places} | dict(short_names)
    tree: dict[str, Any] = {}
    given: dict[_Place, str] = {}
    problems: list[str] = []
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX) or _is_link(name, text, known):
            continue
        place = known.get(name)
        if place is None:
            problems.append(f"{name} is no setting{_nearest(name, known)}")
            continue
        if environ[given.setdefault(place, name)] != text:
            problems.append(f"{given[place]} and {name} are one setting, and differ")
        try:
            value = _parse(text, places[place])
        except ValueError:
            problems.append(
                f"{name} must be {describe_type(places[place])}, not {text[:MAX_SHOWN]!r}"
            )
            continue
        if len(place) == 1:
            tree[place[0]] = value
        else:
            tree.setdefault(place[0], {})[place[1]] = value
    if problems:
        raise StartupFailed("; ".join(problems))
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    return kind(**{k: fields[k](**v) if is_group(fields[k]) else v for k, v in tree.items()})


def describe_type(kind: Any) -> str:
    """What a value of that type is, for a person."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(map(str, parts))
    if origin is Annotated:
        return f"{_NUMBERS[parts[0]]}{''.join(map(_bounds, parts[1:]))}"
    if parts:
        return " or ".join(describe_type(part) for part in parts if part is not NoneType)
    return f"{_NUMBERS[kind]} of at least 0" if kind in _NUMBERS else _WORDS.get(kind, "a text")


def _bounds(meta: Any) -> str:
    if not isinstance(meta, msgspec.Meta):
        return ""
    if meta.ge is not None and meta.le is not None:
        return f" from {meta.ge:g} to {meta.le:g}"
    return f" of at least {meta.ge:g}" if meta.ge is not None else f" above {meta.gt:g}"


def _parse(text: str, kind: Any) -> Any:
    """The value. Raises ValueError (of which `msgspec.ValidationError` is one)."""
    value = msgspec.convert(text, kind, strict=False)
    if isinstance(value, int | float) and not (math.isfinite(value) and value >= 0):
        raise ValueError(text)
    return value


def _places(kind: Any, *, above: _Place = ()) -> dict[_Place, Any]:
    """Every setting's place with its type."""
    places: dict[_Place, Any] = {}
    for field in msgspec.structs.fields(kind):
        place = (*above, field.name)
        places |= _places(field.type, above=place) if is_group(field.type) else {place: field.type}
    return places


def _is_link(name: str, text: str, known: Mapping[str, Any]) -> bool:
    """Whether Kubernetes put it there: for each Service of a namespace its pods get variables of the Service's name.

    A Service `pickspin` has `PICKSPIN_PORT` as its link: such an address is never what a person would set.
    """
    if name.endswith("_PORT") and text.startswith(_LINK_URLS):
        return True
    if name in known:
        return False
    is_of_service = name.endswith("_SERVICE_HOST") or "_SERVICE_PORT" in name
    return is_of_service or _LINK_PORT.search(name) is not None


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    nearest = next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.8)), None)
    return f" (did you mean {nearest}?)" if nearest else " (pickspin settings lists them)"
