"""Strict, bounded JSON: bytes in, plain objects out, or one typed refusal. And fast JSON out.

Refused: other encodings than UTF-8, a byte order mark, NaN, Infinity, numbers out of range or very long, duplicate
keys, lone surrogates, deep nesting, too many keys, anything after the document.
"""

import json
import math
import re
from typing import Any, Final, NoReturn

import msgspec

from events.errors import EventRejected
from events.limits import DEFAULT_LIMITS, Limits

_SURROGATE_ESCAPE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_encoder: Final = msgspec.json.Encoder()


def loads(raw: bytes, limits: Limits = DEFAULT_LIMITS) -> object:
    """The document as dict, list, str, int, float, bool or None.

    Raises:
        EventRejected: `invalid_body`, or `request_too_large` above `limits.max_bytes`.
    """
    if len(raw) > limits.max_bytes:
        raise EventRejected("request_too_large", f"JSON is larger than {limits.max_bytes} bytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        _refuse("JSON must be UTF-8")
    try:
        found: object = _decoder(limits).decode(text)
    except RecursionError:
        _refuse(f"JSON is nested deeper than {limits.max_depth}")
    except ValueError:
        _refuse("not valid JSON")
    if raw.count(b"[") + raw.count(b"{") > limits.max_depth:
        _check_depth(found, limits.max_depth)
    if _SURROGATE_ESCAPE.search(raw) is not None:
        _check_surrogates(found)
    return found


def loads_object(raw: bytes, limits: Limits = DEFAULT_LIMITS) -> dict[str, object]:
    """As `loads`, for a document that must be an object.

    Raises:
        EventRejected: as `loads`, and where the document is something else.
    """
    found = loads(raw, limits)
    if not isinstance(found, dict):
        _refuse("the JSON document must be an object")
    return found


def dumps(obj: Any) -> bytes:
    """Compact UTF-8 JSON of plain objects and msgspec structs; NaN and infinities become null.

    Raises:
        TypeError: something in `obj` has no JSON form (a programming error).
    """
    return _encoder.encode(obj)


def _refuse(message: str) -> NoReturn:
    raise EventRejected("invalid_body", message) from None


def _decoder(limits: Limits) -> json.JSONDecoder:
    keys_left = limits.max_keys

    def to_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
        nonlocal keys_left
        keys_left -= len(pairs)
        if keys_left < 0:
            _refuse(f"JSON has more than {limits.max_keys} keys")
        found = dict(pairs)
        if len(found) != len(pairs):
            _refuse("JSON has a duplicate key")
        return found

    def to_int(text: str) -> int:
        if len(text) > limits.max_digits:
            _refuse(f"JSON has a number of more than {limits.max_digits} digits")
        return int(text)

    def to_float(text: str) -> float:
        found = float(text) if len(text) <= limits.max_digits else math.inf
        if math.isinf(found):
            _refuse("JSON has a number out of range")
        return found

    return json.JSONDecoder(
        object_pairs_hook=to_object,
        parse_int=to_int,
        parse_float=to_float,
        parse_constant=_refuse_constant,
    )


def _refuse_constant(_: str) -> NoReturn:
    _refuse("NaN and Infinity are not JSON")


def _check_depth(document: object, max_depth: int) -> None:
    """Level by level, without recursion."""
    level: list[dict[str, object] | list[object]] = (
        [document] if isinstance(document, dict | list) else []
    )
    depth = 0
    while level:
        depth += 1
        if depth > max_depth:
            _refuse(f"JSON is nested deeper than {max_depth}")
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, dict | list)
        ]


def _check_surrogates(document: object) -> None:
    try:
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        _refuse("JSON has a lone surrogate")
