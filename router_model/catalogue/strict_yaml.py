"""YAML as configuration should be: one document, unique text keys, no aliases or tags, no surprising scalars.

The tree is built straight from the parser's events, so that a refused feature is never expanded first. Scalars that
YAML 1.1 and 1.2 readers understand differently (`no`, `0777`, `12:30`) are refused with an explanation rather than
read one way or the other. Every problem is collected; nothing here knows what the document means.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 16

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_INTEGER: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?")
_OCTAL: Final = re.compile(r"[-+]?0(o[0-7]+|[0-9_]+)")
"""Numbers of YAML 1.2, text to 1.1; and `08`, which neither has."""
_INDEX: Final = re.compile(r"\[([0-9]+)\]")
_YAML_1_1: Final = yaml.resolver.Resolver()
_MAX_DIGITS: Final = 18


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong: where (key path such as `services[0].concurrency`), what, and on which line if known."""

    path: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        where = self.path or "document"
        return (
            f"{where}: {self.message}"
            if self.line is None
            else f"{where} (line {self.line}): {self.message}"
        )


@dataclass(slots=True)
class Reading:
    """The outcome: `tree` (None when nothing could be read), problems, and the text and line of every scalar."""

    tree: Any = None
    problems: list[Problem] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)
    """Key path -> line (1-based)."""
    plain: dict[str, str] = field(default_factory=dict)
    """Key path -> text as written, for scalars without quotes."""
    kept: dict[str, list[int]] = field(default_factory=dict)
    """Key path of a list that lost entries -> places in the document of those that are left."""

    def locate(self, path: str) -> str:
        """The place in the document of a key path of `tree`, whose lists may have lost entries."""
        start, *steps = _INDEX.split(path)
        for index, rest in zip(steps[::2], steps[1::2], strict=True):
            kept = self.kept.get(start)
            start += f"[{index if kept is None else kept[int(index)]}]{rest}"
        return start


def read_yaml(text: str) -> Reading:
    """Reads one strict YAML document; never raises for bad input."""
    reading = Reading()
    if text.startswith("\ufeff"):
        reading.problems.append(
            Problem("", "starts with a byte order mark: save it as UTF-8 without BOM", 1)
        )
        return reading
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        reading.problems.append(Problem("", f"is larger than {MAX_BYTES} bytes"))
        return reading
    try:
        _TreeBuilder(reading, yaml.parse(text, Loader=yaml.CSafeLoader)).document()
    except yaml.YAMLError as error:
        reading.problems.append(_syntax_problem(error))
        reading.tree = None
    except _Refused as error:
        reading.problems.append(error.problem)
        reading.tree = None
    return reading


class _Refused(Exception):
    """Reading cannot go on."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def _syntax_problem(error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    what = getattr(error, "problem", None) or "is not YAML"
    hint = " (tabs cannot indent)" if "\\t" in what or "tab" in what else ""
    return Problem("", f"YAML: {what}{hint}", None if mark is None else mark.line + 1)


class _TreeBuilder:
    """Consumes parser events; recursion is bounded by `MAX_DEPTH`."""

    def __init__(self, reading: Reading, events: Iterator[Any]) -> None:
        self._reading = reading
        self._events = events

    def document(self) -> None:
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _Refused(Problem("", "holds more than one document", _line(event)))
                self._reading.tree = self._node(next(self._events), "", 0)
        if not documents:
            raise _Refused(Problem("", "is empty"))

    def _node(self, event: Any, path: str, depth: int) -> Any:
        if isinstance(event, yaml.AliasEvent):
            raise _Refused(
                Problem(
                    path,
                    f"aliases (*{event.anchor}) are not allowed: repeat the value",
                    _line(event),
                )
            )
        if event.anchor is not None:
            self._problem(path, f"anchors (&{event.anchor}) are not allowed", event)
        if event.tag is not None and event.tag != "!":
            self._problem(path, f"tags ({event.tag}) are not allowed", event)
        if depth > MAX_DEPTH:
            raise _Refused(
                Problem(path, f"is nested more than {MAX_DEPTH} levels deep", _line(event))
            )
        self._reading.lines[path] = _line(event)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path, depth)
        return self._scalar(event, path)

    def _mapping(self, path: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._key(event, path)
            below = f"{path}.{key}" if path else key
            value = self._node(next(self._events), below, depth + 1)
            if key in found:
                self._problem(below, "the key is there twice", event)
            found[key] = value
        return found

    def _key(self, event: Any, path: str) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise _Refused(Problem(path, "a key must be text", _line(event)))
        text = str(event.value)
        if event.anchor is not None or event.tag is not None:
            self._problem(path, f"anchors and tags are not allowed (key {text!r})", event)
        if event.implicit[0]:
            if text == "<<":
                self._problem(path, "merge keys (<<) are not allowed", event)
            elif not isinstance(_plain(text), str):
                self._problem(
                    path, f"the key {text} is not text in YAML: write it in quotes", event
                )
        return text

    def _sequence(self, path: str, depth: int) -> list[Any]:
        found: list[Any] = []
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            found.append(self._node(event, f"{path}[{len(found)}]", depth + 1))
        return found

    def _scalar(self, event: Any, path: str) -> Any:
        if not event.implicit[0]:
            return event.value
        self._reading.plain[path] = event.value
        value = _plain(event.value)
        if isinstance(value, _Ambiguous):
            self._problem(path, value.message, event)
            return None
        return value

    def _problem(self, path: str, message: str, event: Any) -> None:
        self._reading.problems.append(Problem(path, message, _line(event)))


@dataclass(frozen=True, slots=True)
class _Ambiguous:
    message: str


def _plain(text: str) -> bool | int | float | str | _Ambiguous | None:
    """The value of a scalar without quotes."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) <= _MAX_DIGITS else _Ambiguous("the number is too long")
    if _FLOAT.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else _Ambiguous("the number must be finite")
    return _ambiguity(text) or text


def _ambiguity(text: str) -> _Ambiguous | None:
    """Why a scalar that is no value of YAML 1.2's core is not simply text either, or None."""
    quote = f'"{text}" in quotes for text'
    tag = _YAML_1_1.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    kind = tag.rpartition(":")[2]
    if kind == "bool":
        meant = "true" if text.lower() in {"yes", "on"} else "false"
        return _Ambiguous(f"{text} means {meant} to some YAML readers: write {meant}, or {quote}")
    if kind in {"int", "float"} or _OCTAL.fullmatch(text):
        return _Ambiguous(
            f"{text} is read as another number by some YAML readers: write a plain decimal number "
            f"(durations are seconds), or {quote}"
        )
    if kind == "timestamp":
        return _Ambiguous(f"{text} is a date to some YAML readers: write {quote}")
    return None


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
