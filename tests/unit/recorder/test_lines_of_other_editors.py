"""Batch files as other systems write them: a byte order mark, their line ends, lines without anything."""

import json

import pytest

from functions.recorder.batch_format import read_lines

URL = "/v1/chat/completions"
MARK = b"\xef\xbb\xbf"


def line(custom_id: str) -> bytes:
    body = {"messages": [{"role": "user", "content": "hi"}]}
    found = {"custom_id": custom_id, "method": "POST", "url": URL, "body": body}
    return json.dumps(found).encode()


@pytest.mark.parametrize("mark", [b"", MARK])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("last", [b"", b"\n", b"\r\n\r\n", b" \t\n"])
def test_every_line_is_read_with_its_number(mark: bytes, end: bytes, last: bytes) -> None:
    data = mark + line("a") + end + end + line("b") + last
    lines, errors = read_lines(data, URL)
    assert errors == ()
    assert [(one.number, one.custom_id) for one in lines] == [(1, "a"), (3, "b")]


def test_a_file_of_a_mark_alone_is_empty() -> None:
    for data in (MARK, MARK + b"\r\n"):
        assert [error.code for error in read_lines(data, URL)[1]] == ["empty_file"]


def test_a_mark_anywhere_else_is_an_error_of_its_line() -> None:
    _, errors = read_lines(line("a") + b"\n" + MARK + line("b"), URL)
    assert [(error.code, error.line) for error in errors] == [("invalid_json_line", 2)]
