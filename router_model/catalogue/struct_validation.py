"""Checks a tree of plain values against msgspec structs and reports *every* mismatch with its key path.

`msgspec.convert` stops at the first problem; a person who edits a catalogue wants them all. What does not fit is
left out of the result, so that later checks can still look at the rest.
"""

import difflib
import math
import types
from collections.abc import Mapping
from typing import Any, Final, Literal, Union, get_args, get_origin

import msgspec

from router_model.catalogue.strict_yaml import Problem, Reading

INVALID: Final = object()
"""Stands for a value that did not fit and has no default."""

_NAMES: Final[Mapping[Any, str]] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}
_SHOWN_CHARS: Final = 40


def check_tree(reading: Reading, kind: type[msgspec.Struct], problems: list[Problem]) -> Any:
    """Converts `reading.tree` to `kind` as far as it fits; what does not is appended to `problems`.

    Returns an instance, or `INVALID` when a required part is missing or wrong.
    """
    return _Checker(reading, problems).value(reading.tree, kind, "")


class _Checker:
    def __init__(self, reading: Reading, problems: list[Problem]) -> None:
        self._reading = reading
        self._problems = problems

    def value(self, value: Any, kind: Any, path: str) -> Any:
        origin = get_origin(kind)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self._struct(value, kind, path)
        if origin is tuple:
            return self._list(value, get_args(kind)[0], path)
        if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
            key_kind, item_kind = get_args(kind)
            return self._mapping(value, key_kind, item_kind, path)
        if origin is Literal:
            return self._choice(value, get_args(kind), path)
        return self._leaf(value, kind, path)

    def _struct(self, value: Any, kind: type[msgspec.Struct], path: str) -> Any:
        if not isinstance(value, dict):
            return self._wrong(path, "a group of keys", value)
        fields = {found.name: found for found in msgspec.structs.fields(kind)}
        for key in value.keys() - fields.keys():
            below = _below(path, key)
            self._add(below, f"no such key{nearest(key, fields)}")
        known: dict[str, Any] = {}
        is_complete = True
        for name, entry in fields.items():
            below = _below(path, name)
            if name in value:
                found = self.value(value[name], entry.type, below)
                if found is not INVALID:
                    known[name] = found
                    continue
            elif entry.required:
                self._add(path, f"the key {name!r} is missing")
            is_complete = is_complete and not entry.required
        return kind(**known) if is_complete else INVALID

    def _list(self, value: Any, kind: Any, path: str) -> Any:
        if not isinstance(value, list):
            return self._wrong(path, "a list", value)
        found = [self.value(item, kind, f"{path}[{index}]") for index, item in enumerate(value)]
        usable = [index for index, item in enumerate(found) if item is not INVALID]
        self._reading.kept[path] = usable
        return tuple(found[index] for index in usable)

    def _mapping(self, value: Any, key_kind: Any, kind: Any, path: str) -> Any:
        if not isinstance(value, dict):
            return self._wrong(path, "a group of keys", value)
        found: dict[str, Any] = {}
        for key, item in value.items():
            below = _below(path, key)
            if get_origin(key_kind) is Literal and key not in get_args(key_kind):
                self._add(below, f"no such key{nearest(key, get_args(key_kind))}")
                continue
            converted = self.value(item, kind, below)
            if converted is not INVALID:
                found[key] = converted
        return found

    def _choice(self, value: Any, allowed: tuple[Any, ...], path: str) -> Any:
        if value in allowed and isinstance(value, str):
            return value
        if path not in {problem.path for problem in self._reading.problems}:
            listed = ", ".join(map(str, allowed))
            self._add(path, f"{_shown(value)} is not one of: {listed}{nearest(value, allowed)}")
        return INVALID

    def _leaf(self, value: Any, kind: Any, path: str) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            self._add(path, "the number must be finite")
            return INVALID
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError:
            return self._wrong(path, _named(kind), value)

    def _wrong(self, path: str, expected: str, value: Any) -> Any:
        if path in {problem.path for problem in self._reading.problems}:
            return INVALID
        written = self._reading.plain.get(path)
        message = f"expected {expected}, found {_shown(value)}"
        if "text" in expected and written:
            message += f': write "{written}" in quotes'
        elif "number" in expected and isinstance(value, str):
            message += ": write a number without quotes or unit (durations are seconds)"
        self._add(path, message)
        return INVALID

    def _add(self, path: str, message: str) -> None:
        self._problems.append(Problem(path, message, self._reading.lines.get(path)))


def nearest(word: Any, known: Any) -> str:
    """` (did you mean 'x'?)`, or nothing when no known word is near."""
    found = difflib.get_close_matches(str(word), [str(item) for item in known], n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _named(kind: Any) -> str:
    if get_origin(kind) in {Union, types.UnionType}:
        return " or ".join(_NAMES.get(item, str(item)) for item in get_args(kind))
    return _NAMES.get(kind, str(kind))


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a group of keys"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."
