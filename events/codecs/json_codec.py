"""Strict, bounded JSON: bytes in, plain objects out, or one typed refusal. And fast JSON out.

Refused: other encodings than UTF-8, a byte order mark, NaN, Infinity, numbers out of range or very
long, duplicate keys, lone surrogates, deep nesting, too many keys, anything after the document.

Nothing here loops over values in Python: a document may hold some hundred thousand of them.
"""

import codecs
import re
from typing import Any, Final, NoReturn

import msgspec

from events.errors import EventRejected
from events.limits import BODY_LIMITS, Limits

_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
"""A text; one that has no end goes to the end of the document."""
_NUMBER_BYTES: Final = frozenset(b"+-.0123456789eE")
_NUMBERS: Final = bytes(ord("0") if code in _NUMBER_BYTES else 32 for code in range(256))
"""Every byte that numbers are made of as a nought, every other one as a space."""
_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_encoder: Final = msgspec.json.Encoder()


def loads(raw: bytes, limits: Limits = BODY_LIMITS) -> object:
    """The document as dict, list, str, int, float, bool or None.

    Raises:
        EventRejected: `invalid_body`, or `request_too_large` above `limits.max_bytes`.
    """
    if len(raw) > limits.max_bytes:
        raise EventRejected("request_too_large", f"JSON is larger than {limits.max_bytes} bytes")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        _refuse("JSON must be UTF-8")
    _check_numbers(raw, limits.max_digits)
    _check_counts(raw, limits)
    try:
        value: object = msgspec.json.decode(raw)
    except RecursionError:
        _refuse(f"JSON is nested deeper than {limits.max_depth}")
    except (msgspec.MsgspecError, ValueError):
        _refuse("not valid JSON")
    _check_depth(raw, limits.max_depth)
    _check_keys(raw, value, limits.max_keys)
    return value


def without_mark(raw: bytes) -> bytes:
    """Without the byte order mark that editors on Windows put before UTF-8: for files, in messages it is refused."""
    return raw.removeprefix(codecs.BOM_UTF8)


def loads_object(raw: bytes, limits: Limits = BODY_LIMITS) -> dict[str, object]:
    """As `loads`, for a document that must be an object.

    Raises:
        EventRejected: as `loads`, and where the document is something else.
    """
    value = loads(raw, limits)
    if not isinstance(value, dict):
        _refuse("the JSON document must be an object")
    return value


def dumps(obj: Any) -> bytes:
    """Compact UTF-8 JSON of plain objects and msgspec structs; NaN and infinities become null.

    Raises:
        TypeError: something in `obj` has no JSON form (a programming error).
    """
    return _encoder.encode(obj)


def _refuse(message: str) -> NoReturn:
    raise EventRejected("invalid_body", message) from None


def _check_numbers(raw: bytes, max_digits: int) -> None:
    """Longer numbers than these are read differently by different readers."""
    long = b"0" * (max_digits + 1)
    if long in raw.translate(_NUMBERS) and long in _STRING.sub(b" ", raw).translate(_NUMBERS):
        _refuse(f"JSON has a number of more than {max_digits} digits")


def _check_counts(raw: bytes, limits: Limits) -> None:
    """Before anything is made of them. Texts may hold as many commas and brackets as they like."""
    if raw.count(b",") < limits.max_values and _containers(raw) <= limits.max_containers:
        return
    bare = _STRING.sub(b"", raw)
    if bare.count(b",") >= limits.max_values:
        _refuse(f"JSON has more than {limits.max_values} values")
    if _containers(bare) > limits.max_containers:
        _refuse(f"JSON has more than {limits.max_containers} arrays and objects")


def _containers(raw: bytes) -> int:
    return raw.count(b"[") + raw.count(b"{")


def _check_depth(raw: bytes, max_depth: int) -> None:
    """Takes the innermost pairs of brackets away, level by level. `raw` is valid JSON."""
    if _containers(raw) <= max_depth:
        return
    left = _STRING.sub(b"", raw).translate(_BRACKETS, _NO_BRACKETS)
    for _ in range(max_depth):
        left = left.replace(b"[]", b"")
    if left:
        _refuse(f"JSON is nested deeper than {max_depth}")


def _check_keys(raw: bytes, value: object, max_keys: int) -> None:
    """Every key has a colon; of two that are the same one is lost to what was found, and to what is written of it."""
    colons = raw.count(b":")
    written = _encoder.encode(value) if colons > 1 else raw
    if colons <= max_keys and colons == written.count(b":") and b"\\u" not in raw:
        return
    keys = _STRING.sub(b"", raw).count(b":")
    if keys > max_keys:
        _refuse(f"JSON has more than {max_keys} keys")
    if keys > 1 and keys != _STRING.sub(b"", written).count(b":"):
        _refuse("JSON has a duplicate key")
