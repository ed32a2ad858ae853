"""Every regular expression of the product takes a time linear in its input, whatever that input is.

The expressions are found in the source, with the methods they are used by. For each, texts are made from its own
parse: what leads to a repetition, the repetition pumped up by every character it takes, an end that does not match;
and what leads to it again and again, for a search that starts anew at every place. A backtracking of higher order
would take minutes at this size. The limit is on CPU time of this process, so that a busy machine does not fail.
"""

import ast
import importlib
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from types import FrameType
from typing import Any

import pytest

from router_model.classifier.everyday_rule import EverydayRule
from router_model.classifier.keyword_rules import KeywordClassifier

ROOT = Path(__file__).parents[3]
PACKAGES = ("events", "router_model", "functions")
METHODS = frozenset({"search", "match", "fullmatch", "sub", "subn", "split", "findall", "finditer"})
SIZE = 100_000
CPU_S = 1.5
"""Linear ones need some milliseconds; the fastest of quadratic order about five seconds, most of them minutes."""
MANY = 400
"""A repetition that may go on for longer than this is pumped."""
SPECIMENS = "aZ_0 \t\n.-:/'\"!\x00é\u2028"
ENDS = ("\x00", "!", "\n")


@dataclass(frozen=True)
class Use:
    """One expression and one method that the product calls it by."""

    name: str
    pattern: re.Pattern[Any]
    method: str

    def run(self, text: str) -> None:
        subject: Any = text.encode("latin-1", "replace") if self.is_binary else text
        if self.method in {"sub", "subn"}:
            getattr(self.pattern, self.method)(b"" if self.is_binary else "", subject)
        elif self.method == "finditer":
            list(self.pattern.finditer(subject))
        else:
            getattr(self.pattern, self.method)(subject)

    @property
    def is_binary(self) -> bool:
        return isinstance(self.pattern.pattern, bytes)


# --- finding them -----------------------------------------------------------------------------------------------------


def built_elsewhere() -> dict[str, list[Use]]:
    """What is compiled in a function, by `<path>:<function called>`: the test must know what comes out."""
    words, rule = KeywordClassifier(), EverydayRule()
    return {
        "router_model/classifier/keyword_rules.py:re.compile": [
            Use("classifier low", words._low, "search"),
            Use("classifier high", words._high, "search"),
        ],
        "router_model/classifier/everyday_rule.py:re.compile": [
            Use("everyday rule high", rule._high, "search"),
            Use("everyday rule medium", rule._medium, "search"),
        ],
    }


def uses() -> Iterator[Use]:
    known = built_elsewhere()
    for path in (one for package in PACKAGES for one in sorted((ROOT / package).rglob("*.py"))):
        text = path.read_text(encoding="utf-8")
        if "re." not in text and "pattern=" not in text:
            continue
        name = path.relative_to(ROOT).as_posix()
        yield from _uses_of(name, ast.parse(text), known)


def _uses_of(name: str, tree: ast.Module, known: dict[str, list[Use]]) -> Iterator[Use]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for node in calls:
        yield from _uses_in_place(name, node)
    total = sum(map(_is_compile, calls))
    called = _methods_called(calls)
    for constant in _compiled_constants(tree):
        module = importlib.import_module(name.removesuffix(".py").replace("/", "."))
        for pattern, methods in _patterns(getattr(module, constant), called.get(constant, set())):
            for method in sorted(methods & METHODS):
                yield Use(f"{name}:{constant}", pattern, method)
            total -= 1
    if total:
        place = f"{name}:re.compile"
        assert place in known, f"{place}: compiled where this test does not see it"
        yield from known[place]


def _uses_in_place(name: str, node: ast.Call) -> Iterator[Use]:
    """`re.sub(r"...", ...)`, and patterns in the types of bodies."""
    called = ast.unparse(node.func)
    if called.startswith("re.") and called.removeprefix("re.") in METHODS:
        first = node.args[0]
        assert isinstance(first, ast.Constant), f"{name}:{node.lineno}: compile it as a constant"
        yield Use(f"{name}:{node.lineno}", re.compile(first.value), called.removeprefix("re."))
    if called.endswith("Meta"):
        for keyword in node.keywords:
            if keyword.arg == "pattern":
                pattern = re.compile(ast.literal_eval(keyword.value))
                yield Use(f"{name}:{node.lineno}", pattern, "search")  # msgspec searches


def _methods_called(calls: list[ast.Call]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for node in calls:
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            found.setdefault(node.func.value.id, set()).add(node.func.attr)
    return found


def _compiled_constants(tree: ast.Module) -> Iterator[str]:
    for statement in tree.body:
        target = statement.target if isinstance(statement, ast.AnnAssign) else None
        if isinstance(target, ast.Name) and any(map(_is_compile, ast.walk(statement))):
            yield target.id


def _patterns(
    value: Any, methods: set[str]
) -> Iterator[tuple[re.Pattern[Any], set[str] | frozenset[str]]]:
    if isinstance(value, re.Pattern):
        yield value, methods
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _patterns(item, {"fullmatch"})
    elif hasattr(value, "values"):
        yield from _patterns(list(value.values()), methods)


def _is_compile(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "re.compile"


# --- texts that hurt --------------------------------------------------------------------------------------------------


def hostile_texts(pattern: re.Pattern[Any], size: int) -> Iterator[str]:
    """Texts of about `size` characters that make a bad expression of this form slow."""
    source = pattern.pattern
    text = source.decode("latin-1") if isinstance(source, bytes) else source
    tree = parser.parse(
        text, pattern.flags & ~re.UNICODE if isinstance(source, bytes) else pattern.flags
    )
    seen: set[str] = set()
    for lead, pump in _pumps(tree, ""):
        for end in ENDS:
            seen.add(lead + pump * (size // len(pump)) + end)
        seen.add((lead + pump) * (size // len(lead + pump)) + "\x00")
        if lead:
            seen.add(lead * (size // len(lead)) + "\x00")
    yield from sorted(seen)


def _pumps(tree: Any, lead: str) -> Iterator[tuple[str, str]]:
    """What leads to each long repetition, and what may be repeated there."""
    for code, argument in tree:
        if code in {codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT}:
            least, most, body = argument
            yield from _pumps(body, lead)
            if most is codes.MAXREPEAT or most > MANY:
                once = _sample(body)
                yield from ((lead, pump) for pump in {once, *_taken(body)} if pump)
            lead += _sample(body) * min(max(1, least), MANY)
            continue
        for inner in _inside(code, argument):
            yield from _pumps(inner, lead)
        lead += _sample([(code, argument)])


def _inside(code: Any, argument: Any) -> list[Any]:
    if code is codes.SUBPATTERN:
        return [argument[-1]]
    if code is codes.BRANCH:
        return list(argument[1])
    if code in {codes.ASSERT, codes.ASSERT_NOT}:
        return [argument[1]]
    if code is codes.ATOMIC_GROUP:
        return [argument]
    return []


def _taken(body: Any) -> Iterator[str]:
    """Single characters that one class takes, so that neighbouring repetitions may fight for them."""
    for code, argument in body:
        if code is codes.IN:
            yield from (char for char in SPECIMENS if _is_in(argument, char))
        elif code in {codes.ANY, codes.NOT_LITERAL}:
            yield from (char for char in SPECIMENS if char != "\n" and ord(char) != argument)
        else:
            for inner in _inside(code, argument):
                yield from _taken(inner)


def _sample(tree: Any) -> str:
    """A short text that the tree matches; assertions are not looked at."""
    parts: list[str] = []
    for code, argument in tree:
        if code is codes.LITERAL:
            parts.append(chr(argument))
        elif code is codes.NOT_LITERAL:
            parts.append("a" if argument != ord("a") else "b")
        elif code is codes.ANY:
            parts.append("a")
        elif code is codes.IN:
            parts.append(_one_of(argument))
        elif code in {codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT}:
            parts.append(_sample(argument[2]) * min(max(1, argument[0]), MANY))
        elif code in {codes.SUBPATTERN, codes.BRANCH, codes.ATOMIC_GROUP}:
            parts.append(_sample(_inside(code, argument)[0]))
    return "".join(parts)


def _one_of(items: Any) -> str:
    for char in SPECIMENS:
        if _is_in(items, char):
            return char
    return next(
        chr(argument if code is codes.LITERAL else argument[0])
        for code, argument in items
        if code in {codes.LITERAL, codes.RANGE}
    )


def _is_in(items: Any, char: str) -> bool:
    classes = {
        codes.CATEGORY_DIGIT: str.isdigit,
        codes.CATEGORY_SPACE: str.isspace,
        codes.CATEGORY_WORD: lambda one: one.isalnum() or one == "_",
    }
    opposites = {
        codes.CATEGORY_NOT_DIGIT: codes.CATEGORY_DIGIT,
        codes.CATEGORY_NOT_SPACE: codes.CATEGORY_SPACE,
        codes.CATEGORY_NOT_WORD: codes.CATEGORY_WORD,
    }
    negates = bool(items) and items[0][0] is codes.NEGATE
    found = False
    for code, argument in items:
        if code is codes.LITERAL:
            found |= ord(char) == argument
        elif code is codes.RANGE:
            found |= argument[0] <= ord(char) <= argument[1]
        elif code is codes.CATEGORY and argument in opposites:
            found |= not classes[opposites[argument]](char)
        elif code is codes.CATEGORY:
            found |= classes[argument](char)
    return found is not negates


# --- the clock --------------------------------------------------------------------------------------------------------


class TooSlow(Exception):
    pass


def is_linear(use: Use, text: str, cpu_s: float = CPU_S) -> bool:
    """Whether the method ends within `cpu_s` of CPU time; the engine looks at signals while it works."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, cpu_s)
    try:
        use.run(text)
    except TooSlow:
        return False
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    return True


ALL = tuple(uses())


def test_the_expressions_are_found() -> None:
    names = {use.name for use in ALL}
    assert {
        "router_model/classifier/task_detection.py:_CODE",
        "events/codecs/attributes.py:_URI_REFERENCE",
        "functions/callbacks/url_policy.py:_URL",
        "classifier low",
    } <= names
    assert len(names) > 40


@pytest.mark.parametrize(
    ("expression", "method"),
    [
        (r"^import \w+[\w.]*\s*;?$", "search"),
        (r"(?:a+)+b", "fullmatch"),
        (r"\d+m", "search"),
        (r"\nA\. .*\nB\. ", "search"),
        (r"(?:\w\w?|x)*!", "match"),
        (r"[0-9][0-9_]*_[0-9_.]*", "fullmatch"),
    ],
)
def test_a_bad_expression_is_told(expression: str, method: str) -> None:
    pattern = re.compile(expression, re.DOTALL)
    use = Use("bad", pattern, method)
    assert not all(is_linear(use, text, 0.3) for text in hostile_texts(pattern, SIZE))


@pytest.mark.parametrize("use", ALL, ids=[f"{use.name}.{use.method}" for use in ALL])
def test_it_is_linear(use: Use) -> None:
    for text in hostile_texts(use.pattern, SIZE):
        assert is_linear(use, text), f"{use.pattern.pattern!r} is slow on {text[:80]!r}..."
