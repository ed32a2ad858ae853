"""A batch against an ingress double: nothing is sent twice, everything is written, refusals are waited out."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from functions.batch import batch_client
from functions.batch import main as batch_main
from functions.batch.batch_client import MAX_ATTEMPTS, Target, send_all
from functions.batch.file_format import Ask, BadLine, read_asks
from functions.batch.main import Files, Run
from functions.batch.resend_policy import is_worth_a_retry, pause_s
from functions.runtime.errors import StartupFailed

TARGET = Target(url="http://ingress", key="secret", concurrency=3)
Reply = Callable[[httpx.Request, int], httpx.Response]


class Door:
    """Answers by `reply(request, how often this key was seen)`; remembers keys and how many ran at once."""

    def __init__(self, reply: Reply) -> None:
        self.keys: Counter[str] = Counter()
        self.requests: list[httpx.Request] = []
        self._reply, self._running, self.most_running = reply, 0, 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self._running += 1
        self.most_running = max(self.most_running, self._running)
        key = request.headers["idempotency-key"]
        self.keys[key] += 1
        self.requests.append(request)
        await asyncio.sleep(0)
        self._running -= 1
        return self._reply(request, self.keys[key])


def ok(request: httpx.Request, _seen: int) -> httpx.Response:
    body = json.loads(request.content)
    return httpx.Response(
        200, json={"echo": body}, headers={"x-pickspin-request-id": f"req_{body['n']}"}
    )


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    real = asyncio.sleep

    async def no_sleep(seconds: float) -> None:
        if seconds:
            found.append(seconds)
        await real(0)

    monkeypatch.setattr(batch_client.asyncio, "sleep", no_sleep)
    return found


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch) -> Callable[[Reply], Door]:
    """Makes every run talk to a door instead of the network."""

    def install(reply: Reply) -> Door:
        door = Door(reply)

        def sent(asks: tuple[Ask, ...], target: Target):
            return send_all(asks, target, httpx.AsyncClient(transport=httpx.MockTransport(door)))

        monkeypatch.setattr(batch_main, "send_all", sent)
        return door

    return install


@pytest.fixture
def files(tmp_path: Path) -> Files:
    asked = tmp_path / "in.jsonl"
    asked.write_text("".join(json.dumps({"prompt": "x", "n": n}) + "\n" for n in range(10)))
    return Files(input=asked, output=tmp_path / "out.jsonl", errors=tmp_path / "out.errors.jsonl")


def run(files: Files, on_answer=lambda answer: None):
    return Run(files, TARGET, model=None).send(on_answer)


def test_every_line_is_sent_once_with_its_key_and_lane(files, through) -> None:
    door = through(ok)
    summary = run(files)

    assert (summary.completed, summary.failed, summary.skipped) == (10, 0, 0)
    assert set(door.keys.values()) == {1}
    headers = door.requests[0].headers
    assert headers["x-pickspin-priority"] == "batch"
    assert headers["authorization"] == "Bearer secret"
    assert len(files.output.read_text().splitlines()) == 10
    assert not files.errors.exists()


def test_no_more_than_the_concurrency_run_at_once(files, through) -> None:
    door = through(ok)
    run(files)

    assert door.most_running <= TARGET.concurrency


def test_a_second_run_sends_nothing(files, through) -> None:
    door = through(ok)
    run(files)
    summary = run(files)

    assert (summary.completed, summary.skipped) == (0, 10)
    assert door.keys.total() == 10
    assert len(files.output.read_text().splitlines()) == 10


def test_a_run_that_was_torn_in_the_middle_goes_on(files, through) -> None:
    door = through(ok)
    run(files)
    content = files.output.read_bytes()
    files.output.write_bytes(content[: len(content) // 2])
    summary = run(files)

    lines = [json.loads(line) for line in files.output.read_text().splitlines()]
    assert len({line["custom_id"] for line in lines}) == len(lines) == 10
    assert 0 < summary.skipped < 10
    assert len(door.keys) == 10, "the same keys again: the ingress repeats no work"


def test_an_interrupted_run_has_written_what_was_answered(files, through) -> None:
    through(ok)

    def interrupt(answer: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(files, interrupt)
    assert len(files.output.read_text().splitlines()) == 1


def test_failures_go_to_the_errors_and_are_tried_again_with_a_new_key(files, through) -> None:
    def one_fails(request: httpx.Request, seen: int) -> httpx.Response:
        if json.loads(request.content)["n"] == 3:
            return httpx.Response(400, json={"error": {"code": "invalid_value"}})
        return ok(request, seen)

    through(one_fails)
    first = run(files)
    (line,) = [json.loads(line) for line in files.errors.read_text().splitlines()]
    door = through(ok)
    second = run(files)

    assert (first.completed, first.failed) == (9, 1)
    assert (line["custom_id"], line["response"]["status_code"]) == ("line-4", 400)
    assert (second.completed, second.skipped) == (1, 9)
    assert next(iter(door.keys)).endswith("-1")
    assert not files.errors.exists()


def test_a_refusal_that_passes_is_waited_out_as_long_as_it_says(files, through, pauses) -> None:
    def busy_once(request: httpx.Request, seen: int) -> httpx.Response:
        if seen == 1:
            return httpx.Response(503, json={}, headers={"retry-after": "7"})
        return ok(request, seen)

    door = through(busy_once)
    summary = run(files)

    assert summary.completed == 10
    assert set(door.keys.values()) == {2}
    assert all(7.0 <= pause <= 7.0 * 1.25 for pause in pauses)


def test_an_ingress_that_is_away_is_given_up_after_some_attempts(files, through, pauses) -> None:
    def away(request: httpx.Request, seen: int) -> httpx.Response:
        raise httpx.ConnectError("refused")

    door = through(away)
    summary = run(files)

    assert summary.failed == 10
    assert set(door.keys.values()) == {MAX_ATTEMPTS}
    assert "ConnectError" in files.errors.read_text()


@pytest.mark.parametrize(
    ("status", "headers", "worth"),
    [
        (503, {}, True),
        (429, {}, True),
        (400, {}, False),
        (504, {"x-should-retry": "false"}, False),
        (409, {"x-should-retry": "true"}, True),
    ],
)
def test_the_ingress_says_what_is_worth_a_retry(status, headers, worth) -> None:
    assert is_worth_a_retry(status, headers) is worth


def test_pauses_grow_and_are_bounded() -> None:
    assert pause_s(1, {}, 0.0) == pytest.approx(0.5)
    assert pause_s(50, {}, 0.0) == pytest.approx(30.0)
    assert pause_s(1, {"retry-after": "99999"}, 0.0) == pytest.approx(120.0)
    assert pause_s(1, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0.0) == pytest.approx(0.5)


def test_another_file_as_output_is_refused_and_left_alone(files, through) -> None:
    through(ok)
    files.output.write_text("my thesis\nchapter 1\n")

    with pytest.raises(BadLine):
        run(files)
    assert files.output.read_text() == "my thesis\nchapter 1\n"


def test_a_missing_input_is_named(files, through) -> None:
    files.input.unlink()

    with pytest.raises(StartupFailed, match=r"in\.jsonl"):
        run(files)


def test_bodies_travel_as_they_are() -> None:
    (ask,) = read_asks([b'{"prompt": "\xc3\xa9", "x": 1.5}'])

    assert dict(ask.body) == {"prompt": "é", "x": 1.5}
