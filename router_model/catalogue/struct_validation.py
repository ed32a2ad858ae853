"""Checks a tree of plain values against msgspec structs and reports *every* mismatch with its key path.

`msgspec.convert` stops at the first problem; a person who edits a catalogue wants them all. So `jsonschema` looks once
more where it failed. What does not fit is left out, so that later checks can still look at the rest.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from router_model.catalogue.strict_yaml import Problem, Reading

INVALID: Final = object()
"""Stands for a tree of which too little fits."""

_NAMES: Final[Mapping[str, str]] = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "array": "a list",
    "object": "a group of keys",
}
_SHOWN_CHARS: Final = 40

Place = tuple[str | int, ...]


def check_tree(reading: Reading, kind: type[msgspec.Struct], problems: list[Problem]) -> Any:
    """Converts `reading.tree` to `kind` as far as it fits; what does not is appended to `problems`.

    Returns an instance, or `INVALID` when a required part is missing or wrong.
    """
    try:
        return msgspec.convert(reading.tree, kind)
    except msgspec.ValidationError:
        return _convert_rest(reading, kind, problems)


def _convert_rest(reading: Reading, kind: type[msgspec.Struct], problems: list[Problem]) -> Any:
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - slow to import, rarely needed

    validator = Draft202012Validator(msgspec.json.schema(kind))
    errors = list(validator.iter_errors(reading.tree))
    known = {problem.path for problem in reading.problems}
    said = [said for error in errors for said in _problems(error, reading)]
    problems += [each for each in dict.fromkeys(said) if each.path not in known]
    while errors:
        for place in sorted({place for error in errors for place in _places(error)}, reverse=True):
            if not place:
                return INVALID
            _remove(reading, place)
        errors = list(validator.iter_errors(reading.tree))
    try:
        return msgspec.convert(reading.tree, kind)
    except msgspec.ValidationError as error:  # finer than the schema
        problems.append(Problem("", str(error)))
        return INVALID


def _places(error: Any) -> Iterator[Place]:
    """What has to go so that the error does."""
    here = tuple(error.absolute_path)
    if error.validator == "additionalProperties":
        yield from ((*here, key) for key in _unknown(error))
    else:
        yield here


def _remove(reading: Reading, place: Place) -> None:
    *above, last = place
    parent = reading.tree
    for step in above:
        parent = parent[step]
    if isinstance(last, int):
        every = list(range(len(parent)))
        del reading.kept.setdefault(reading.locate(path_of(above)), every)[last]
    del parent[last]


def _problems(error: Any, reading: Reading) -> Iterator[Problem]:
    path = path_of(error.absolute_path)

    def said(message: str, at: str = path) -> Problem:
        return Problem(at, message, reading.lines.get(at))

    if error.validator == "additionalProperties":
        for key in _unknown(error):
            message = f"no such key{nearest(key, error.schema['properties'])}"
            yield said(message, path_of((*error.absolute_path, key)))
    elif error.validator == "required":
        for name in error.validator_value:
            if name not in error.instance:
                yield said(f"the key {name!r} is missing")
    elif error.validator == "enum":
        allowed = error.validator_value
        listed = ", ".join(map(str, allowed))
        hint = nearest(error.instance, allowed)
        yield said(f"{_shown(error.instance)} is not one of: {listed}{hint}")
    else:
        options = error.validator_value if error.validator == "anyOf" else [error.schema]
        expected = " or ".join(_NAMES[option.get("type", "object")] for option in options)
        message = f"expected {expected}, found {_shown(error.instance)}"
        written = reading.plain.get(path)
        if "text" in expected and written:
            message += f': write "{written}" in quotes'
        elif "number" in expected and isinstance(error.instance, str):
            message += ": write a number without quotes or unit (durations are seconds)"
        yield said(message)


def _unknown(error: Any) -> list[str]:
    return sorted(error.instance.keys() - error.schema["properties"].keys())


def path_of(place: Iterable[str | int]) -> str:
    """A key path as people write it: `services[0].concurrency`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return "".join(steps).removeprefix(".")


def nearest(word: Any, known: Iterable[Any]) -> str:
    """` (did you mean 'x'?)`, or nothing when no known word is near."""
    near = difflib.get_close_matches(str(word), [str(item) for item in known], n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


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
