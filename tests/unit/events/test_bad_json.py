"""Rows H1-H12 and H36 of the bad-input catalogue that are about JSON text itself."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.codecs.json_codec import dumps, loads, loads_object
from events.errors import EventRejected
from events.limits import Limits

REFUSED = {
    "H1-empty": b"",
    "H1-blank": b"  \n",
    "H3-truncated": b'{"model": "a"',
    "H3-truncated-text": b'{"model": "a',
    "H4-trailing-garbage": b"{} x",
    "H4-two-documents": b"{}{}",
    "H5-NaN": b'{"a": NaN}',
    "H5-Infinity": b'{"a": Infinity}',
    "H5-minus-Infinity": b'{"a": -Infinity}',
    "H5-1e400": b'{"a": 1e400}',
    "H5-minus-1e400": b'{"a": -1e400}',
    "H6-duplicate-key": b'{"model": "a", "model": "b"}',
    "H6-duplicate-key-escaped": b'{"model": "a", "mod\\u0065l": "b"}',
    "H6-duplicate-key-inside": b'{"a": [{"b": 1, "b": 1}]}',
    "H7-2000-arrays": b"[" * 2000 + b"]" * 2000,
    "H7-100000-open-arrays": b"[" * 100_000,
    "H7-101-arrays": b"[" * 101 + b"]" * 101,
    "H7-101-objects": b'{"a":' * 101 + b"1" + b"}" * 101,
    "H8-5000-digits": b"1" * 5000,
    "H8-65-digits": b"1" * 65,
    "H8-65-digit-fraction": b"0." + b"1" * 64,
    "H8-leading-zero": b"01",
    "H8-bare-point": b"1.",
    "H9-invalid-UTF-8": b'{"a": "\xff"}',
    "H9-overlong-UTF-8": b'{"a": "\xc0\xaf"}',
    "H9-encoded-surrogate": b'{"a": "\xed\xa0\x80"}',
    "H10-UTF-16": '{"a": 1}'.encode("utf-16"),
    "H10-UTF-16-LE": '{"a": 1}'.encode("utf-16-le"),
    "H10-UTF-32-BE": '{"a": 1}'.encode("utf-32-be"),
    "H10-BOM": b"\xef\xbb\xbf{}",
    "H11-lone-high-surrogate": b'{"a": "\\ud800"}',
    "H11-lone-low-surrogate": b'{"a": "\\uDC00 text"}',
    "H11-surrogates-in-wrong-order": b'["\\udc00\\ud800"]',
    "H11-lone-surrogate-in-key": b'{"\\ud83d": 1}',
    "H12-raw-control-character": b'{"a": "\x00"}',
    "H12-raw-newline": b'{"a": "x\ny"}',
    "comment": b'{"a": 1} // x',
    "single-quotes": b"{'a': 1}",
    "trailing-comma": b'{"a": 1,}',
    "100001-keys": json.dumps({str(n): 0 for n in range(100_001)}).encode(),
    "100002-keys-spread": json.dumps([{"a": 0, "b": 0}] * 50_001).encode(),
    "100001-arrays": b"[" + b"[]," * 99_999 + b"[]]",
    "1500001-values": b"[" + b"1," * 1_500_000 + b"1]",
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED.keys())
def test_json_that_readers_could_disagree_on_is_refused(raw: bytes) -> None:
    with pytest.raises(EventRejected) as caught:
        loads(raw)
    assert caught.value.code == "invalid_body"


@pytest.mark.parametrize(
    "raw", [b"null", b"5", b'"x"', b"[]", b"true"], ids=lambda raw: f"H2-{raw.decode()}"
)
def test_a_body_that_is_no_object_is_refused(raw: bytes) -> None:
    with pytest.raises(EventRejected) as caught:
        loads_object(raw)
    assert caught.value.code == "invalid_body"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"a": "\\u0000\\u001b\\u2028"}', {"a": "\x00\x1b\u2028"}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b"[" * 100 + b"]" * 100, None),
        (b"1" * 64, int("1" * 64)),
        (b"-0.5e-10", -0.5e-10),
        (b'{"__proto__": {"a": 1}, "__class__": "x", "constructor": null}', None),
        (b'"["', "["),
        (json.dumps(["[[[{{{" * 100]).encode(), ["[[[{{{" * 100]),
        (b' {"a":\t[1,\r\n2]} ', {"a": [1, 2]}),
    ],
    ids=[
        "H12-escaped-controls-are-kept",
        "H11-pair",
        "H7-100-arrays",
        "H8-64-digits",
        "number",
        "H36-inert",
        "bracket",
        "brackets-in-text",
        "white-space",
    ],
)
def test_valid_json_is_read_as_it_is(raw: bytes, expected: object) -> None:
    assert loads(raw) == (json.loads(raw) if expected is None else expected)


def test_a_document_above_the_byte_limit_is_too_large() -> None:
    with pytest.raises(EventRejected) as caught:
        loads(b"[1, 2, 3]", Limits(max_bytes=8))
    assert caught.value.code == "request_too_large"


def test_dumps_is_compact_utf8_and_never_writes_nan() -> None:
    assert dumps({"a": math.nan, "b": [math.inf, "é"]}) == '{"a":null,"b":[null,"é"]}'.encode()


def test_dumps_writes_integers_of_any_width_that_loads_reads() -> None:
    assert loads(dumps({"a": 10**63})) == {"a": 10**63}


DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**60), 10**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(DOCUMENTS)
@settings(deadline=None)
def test_what_is_written_is_read_back(document: object) -> None:
    assert loads(dumps(document)) == document
    assert loads(json.dumps(document).encode()) == document


@given(st.binary(max_size=200) | st.text('[]{}":,\\u0dD8e1.-ntrue ', max_size=60).map(str.encode))
@settings(deadline=None, max_examples=300)
def test_any_bytes_are_read_or_refused_and_never_read_differently_from_the_standard_library(
    raw: bytes,
) -> None:
    try:
        found = loads(raw)
    except EventRejected:
        return
    assert found == json.loads(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": "\\u003a", "b": ":", "c\\"": {"d": "x:y"}}',
        b'{"a:": 1, ":a": 2, "\\u003a": 3}',
        b'{"a": "' + b"1" * 100 + b'", "b": ["' + b"e" * 100 + b'"]}',
        b'{"a": "\\\\", "b": "\\\\\\"[[[", "c": 1}',
        b'["' + b"[{" * 100 + b'", ' + b"[" * 60 + b"]" * 60 + b"]",
        b'{"a": 1.5e200, "b": 1e-400}',
        json.dumps({f"k{n}": ":" * 9 for n in range(9_999)}).encode(),
    ],
    ids=["colons", "keys-of-colons", "digits-in-text", "quotes", "brackets-in-text", "exponents", "many-keys"],
)  # fmt: skip
def test_what_only_looks_odd_is_read_as_it_is(raw: bytes) -> None:
    assert loads(raw) == json.loads(raw)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b'{"a": "\\u003a", "b": 1, "b": ":::"}', "duplicate"),
        (b'{"a": {"b": 1, "c": 2}, "a": {"b": ":"}}', "duplicate"),
        (b'{"x": "' + b"1" * 100 + b'", "a": ' + b"1" * 65 + b"}", "number"),
        (b'["]]]]", ' + b'{"a":[' * 50 + b"1" + b"]}" * 50 + b"]", "nested"),
    ],
)
def test_what_hides_among_texts_is_found(raw: bytes, said: str) -> None:
    with pytest.raises(EventRejected, match=said):
        loads(raw)
