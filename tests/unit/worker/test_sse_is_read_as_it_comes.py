"""Server-sent events are read the same however the bytes are cut, and never without bound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.worker.backend_errors import BadReply
from functions.worker.sse import SseEvent, SseParser

CORPUS = [
    (b"data: a\n\n", [b"a"]),
    (b"data:a\n\ndata: b\n\n", [b"a", b"b"]),
    (b"data: a\r\n\r\n", [b"a"]),
    (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
    (b": comment\n\ndata: a\n\n", [b"a"]),
    (b"event: x\nid: 1\nretry: 5\ndata: a\n\n", [b"a"]),
    (b"data: a\ndata: b\n\n", [b"a\nb"]),
    (b"data\n\n", [b""]),
    (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
    (b"data:  two spaces\n\n", [b" two spaces"]),
    ("data: ünïcödé 😀\n\n".encode(), ["ünïcödé 😀".encode()]),
    (b"data: unfinished\n", []),
    (b'data: {"t": "data: [DONE]\\n\\n"}\n\n', [b'{"t": "data: [DONE]\\n\\n"}']),
    (b"nonsense\n\n\n\n", []),
]


@pytest.mark.parametrize(("raw", "events"), CORPUS)
def test_each_form_of_event_is_understood(raw: bytes, events: list[bytes]) -> None:
    assert [event.data for event in SseParser(max_event_bytes=1000).feed(raw)] == events


@given(st.sampled_from(CORPUS), st.lists(st.integers(1, 5), max_size=40))
def test_how_the_bytes_are_cut_does_not_matter(
    case: tuple[bytes, list[bytes]], cuts: list[int]
) -> None:
    raw, events = case
    parser = SseParser(max_event_bytes=1000)
    found: list[bytes] = []
    start = 0
    for cut in [*cuts, len(raw)]:
        found += [event.data for event in parser.feed(raw[start : start + cut])]
        start += cut
    assert found == events


def test_a_line_without_end_is_refused() -> None:
    parser = SseParser(max_event_bytes=100)
    assert list(parser.feed(b"x" * 100)) == []
    with pytest.raises(BadReply):
        list(parser.feed(b"x"))


def test_an_event_without_end_is_refused() -> None:
    parser = SseParser(max_event_bytes=100)
    with pytest.raises(BadReply):
        list(parser.feed(b"data: 0123456789\n" * 20))


@pytest.mark.parametrize(
    "raw", [b'event: error\ndata: {"message": "x"}\n\n', b'error: {"message": "x"}\n\n']
)
def test_an_error_is_told_from_an_answer(raw: bytes) -> None:
    parser = SseParser(max_event_bytes=1000)
    assert list(parser.feed(raw + b"data: a\n\n")) == [
        SseEvent(b'{"message": "x"}', is_error=True),
        SseEvent(b"a"),
    ]


@pytest.mark.parametrize("raw", [b"data: [DONE]", b"data: [DONE]\n", b"data: [DONE]\r"])
def test_the_end_of_a_stream_ends_its_last_event(raw: bytes) -> None:
    parser = SseParser(max_event_bytes=1000)
    assert list(parser.feed(raw)) == []
    assert list(parser.flush()) == [SseEvent(b"[DONE]")]
    assert list(parser.flush()) == []
