"""Lines of batch files: what is read, what is refused, what a later run still has to do."""

import json

import pytest

from functions.batch.file_format import BadLine, name_results, read_asks, read_done

BODY = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
WRAPPED = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": BODY}


def lines(*objects: object) -> list[bytes]:
    return [json.dumps(each).encode() + b"\n" for each in objects]


def test_openai_lines_and_bare_bodies_are_read() -> None:
    asks = read_asks(lines(WRAPPED, BODY, {"prompt": "x"}, {"input": "x"}))

    assert [ask.custom_id for ask in asks] == ["a", "line-2", "line-3", "line-4"]
    assert [ask.path for ask in asks] == [
        "/v1/chat/completions",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
    ]


def test_the_key_is_the_same_in_every_run_and_another_for_another_body() -> None:
    (first,), (again,) = read_asks(lines(WRAPPED)), read_asks(lines(WRAPPED))
    (other,) = read_asks(lines({**WRAPPED, "body": {**BODY, "seed": 1}}))

    assert first.key == again.key != other.key


def test_two_equal_bare_bodies_are_two_requests() -> None:
    first, second = read_asks(lines(BODY, BODY))

    assert first.key != second.key


def test_a_model_option_replaces_every_model() -> None:
    assert read_asks(lines(BODY), model="tiny")[0].body["model"] == "tiny"


def test_empty_lines_are_skipped_and_numbers_are_those_of_the_file() -> None:
    asks = read_asks([b"\n", *lines(BODY), b"   \n"])

    assert [ask.number for ask in asks] == [2]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"{", "line 1"),
        (b"[]", "not a JSON object"),
        (b'{"a":1,"a":2}', "line 1"),
        (b'{"body": 1}', "body is not"),
        (b'{"custom_id": 3, "body": {}}', "custom_id"),
        (b'{"url": "/v1/files", "body": {}}', "url is not one of"),
        (b'{"url": [], "body": {}}', "url is not one of"),
        (b'{"method": "GET", "body": {}}', "method"),
        (b'{"messages": [], "stream": true}', "stream"),
        (b"\xff", "line 1"),
    ],
)
def test_a_bad_line_is_named(raw: bytes, said: str) -> None:
    with pytest.raises(BadLine, match=said):
        read_asks([raw])


def test_a_custom_id_twice_names_both_lines() -> None:
    with pytest.raises(BadLine, match="line 2: custom_id is that of line 1"):
        read_asks(lines(WRAPPED, WRAPPED))


def test_the_answered_lines_of_an_output_are_done() -> None:
    first, second = read_asks(lines(BODY, WRAPPED))
    answer = {"id": "batch_req_1", "custom_id": first.custom_id, "response": {}, "error": None}
    output = name_results(json.dumps(answer).encode() + b"\n", (first, second))

    assert read_done(output.splitlines(keepends=True)) == {first.key}


@pytest.mark.parametrize("other", [b"hello", b"hello\n", b'{"custom_id":', b"{}\n", b"[]\n"])
def test_another_file_is_not_taken_for_a_result(other: bytes) -> None:
    with pytest.raises(BadLine, match=r"line 1 .* another file"):
        read_done([other])


def test_a_request_is_a_line_that_reads_as_itself() -> None:
    (ask,) = read_asks(lines(WRAPPED))

    assert json.loads(ask.line) == WRAPPED
    assert read_asks([ask.line]) == (ask,)


def test_bodies_travel_as_they_are() -> None:
    (ask,) = read_asks([b'{"prompt": "\xc3\xa9", "x": 1.5}'])

    assert json.loads(ask.line)["body"] == {"prompt": "é", "x": 1.5}


def test_a_byte_order_mark_and_line_ends_of_windows_are_passed_over() -> None:
    plain = read_asks(lines(WRAPPED, BODY))
    marked = [raw.rstrip(b"\n") + b"\r\n" for raw in lines(WRAPPED, BODY)]
    assert read_asks([b"\xef\xbb\xbf" + marked[0], b"\r\n", marked[1]])[0] == plain[0]
    assert read_asks([b"\xef\xbb\xbf\r\n", *marked])[0].key == plain[0].key
