"""Lines of batch files: what is read, what is refused, what a later run still has to do."""

import json

import pytest

from functions.batch.file_format import (
    Answer,
    Ask,
    BadLine,
    output_line,
    read_asks,
    read_written,
    remaining,
)

BODY = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
WRAPPED = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": BODY}


def lines(*objects: object) -> list[bytes]:
    return [json.dumps(each).encode() + b"\n" for each in objects]


def answered(ask: Ask, status: int | None = 200) -> bytes:
    problem = "no answer" if status is None else None
    return output_line(Answer(ask=ask, status=status, request_id="req_1", body={}, problem=problem))


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
    assert len(first.idempotency_key) <= 128


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


def test_what_was_completed_is_left_out() -> None:
    first, second = read_asks(lines(BODY, BODY))
    done, failed = read_written([answered(first)]), read_written([])

    assert remaining((first, second), done, failed) == (second,)


def test_what_failed_with_an_answer_gets_a_new_idempotency_key_each_time() -> None:
    (ask,) = read_asks(lines(BODY))
    nothing = read_written([])
    (again,) = remaining((ask,), nothing, read_written([answered(ask, 500)]))
    (third,) = remaining((ask,), nothing, read_written([answered(again, 500)]))

    assert len({ask.idempotency_key, again.idempotency_key, third.idempotency_key}) == 3
    assert ask.key == again.key == third.key


def test_what_got_no_answer_keeps_its_key_so_that_no_work_is_repeated() -> None:
    (ask,) = read_asks(lines(BODY))
    (again,) = remaining((ask,), read_written([]), read_written([answered(ask, None)]))

    assert again.idempotency_key == ask.idempotency_key


@pytest.mark.parametrize("cut", [1, 5, -1])
def test_a_torn_last_line_is_cut_off(cut: int) -> None:
    first, second = read_asks(lines(BODY, BODY))
    whole, torn = answered(first), answered(second)[:cut]
    written = read_written([whole, torn])

    assert set(written.retries) == {first.key}
    assert written.good_bytes == len(whole)


def test_another_file_is_not_taken_for_a_result() -> None:
    with pytest.raises(BadLine, match=r"line 1 .* another file"):
        read_written([b"hello\n", b"world\n"])


@pytest.mark.parametrize("torn", [b"hello", b"hello\n", b'{"custom_id":'])
def test_a_last_line_that_cannot_be_ours_is_not_cut_off(torn: bytes) -> None:
    with pytest.raises(BadLine, match=r"line 1 .* another file"):
        read_written([torn])


def test_an_output_line_is_openai_s() -> None:
    (ask,) = read_asks(lines(WRAPPED))
    line = json.loads(answered(ask))

    assert line["custom_id"] == "a"
    assert line["response"] == {"status_code": 200, "request_id": "req_1", "body": {}}
    assert line["error"] is None


def test_a_byte_order_mark_and_line_ends_of_windows_are_passed_over() -> None:
    plain = read_asks(lines(WRAPPED, BODY))
    marked = [raw.rstrip(b"\n") + b"\r\n" for raw in lines(WRAPPED, BODY)]
    assert read_asks([b"\xef\xbb\xbf" + marked[0], b"\r\n", marked[1]])[0] == plain[0]
    assert read_asks([b"\xef\xbb\xbf\r\n", *marked])[0].key == plain[0].key
