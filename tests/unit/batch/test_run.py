"""A batch against an ingress double: no finished work is repeated, everything is written."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from functions.batch import main as batch_main
from functions.batch.file_format import BadLine
from functions.batch.main import MAX_ATTEMPTS, BatchRefused, Files, Run, Target
from functions.ingress.api.batches import MAX_WINDOW, parse_window
from functions.runtime.errors import StartupFailed

TARGET = Target(url="http://ingress", key="secret", concurrency=3)
Judge = Callable[[dict], int]
CONTENT = re.compile(rb'filename="batch.jsonl".*?\r\n\r\n(.*)\r\n--', re.DOTALL)


class Ingress:
    """Files and batches by idempotency key; a batch ends at the second look. `judge` gives each line its status."""

    def __init__(self) -> None:
        self.judge: Judge = lambda body: 200
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict] = {}
        self.keys: dict[str, str] = {}
        self.worked: list[str] = []
        self.requests: list[httpx.Request] = []
        self.refusals: list[httpx.Response] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.refusals:
            return self.refusals.pop(0)
        path = request.url.path
        if request.method == "POST":
            make = self._upload if path == "/v1/files" else self._create
            made = self.keys.setdefault(request.headers["idempotency-key"], make(request))
            return httpx.Response(200, json=self.batches.get(made, {"id": made}))
        name = path.split("/")[3]
        if path.endswith("/content"):
            return httpx.Response(200, content=self.files[name])
        return httpx.Response(200, json=self._end(self.batches[name]))

    def _upload(self, request: httpx.Request) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = CONTENT.search(request.content)[1]
        return name

    def _create(self, request: httpx.Request) -> str:
        name = f"batch_{len(self.batches)}"
        if request.headers["idempotency-key"] not in self.keys:
            self.batches[name] = {
                "id": name, "status": "validating", "errors": None, "output_file_id": None,
                "error_file_id": None, "request_counts": {"completed": 0, "failed": 0},
                "asked": json.loads(request.content),
            }  # fmt: skip
        return name

    def _end(self, batch: dict) -> dict:
        if batch["status"] == "completed":
            return batch
        results: tuple[list[bytes], list[bytes]] = ([], [])
        for raw in self.files[batch["asked"]["input_file_id"]].splitlines():
            line = json.loads(raw)
            assert line["url"] == batch["asked"]["endpoint"]
            self.worked.append(line["custom_id"])
            status = self.judge(line["body"])
            response = {"status_code": status, "request_id": "req_1", "body": line["body"]}
            result = {"id": "batch_req_1", "custom_id": line["custom_id"], "response": response}
            results[status >= 400].append(json.dumps(result | {"error": None}).encode() + b"\n")
        for name, lines in zip(("output_file_id", "error_file_id"), results, strict=True):
            if lines:
                batch[name] = f"file-{len(self.files)}"
                self.files[batch[name]] = b"".join(lines)
        counts = {"completed": len(results[0]), "failed": len(results[1])}
        batch.update(status="completed", request_counts=counts)
        return batch


@pytest.fixture
def pauses(monkeypatch):
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


@pytest.fixture
def ingress(pauses):
    return Ingress()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    asked = tmp_path / "in.jsonl"
    asked.write_text("".join(json.dumps({"prompt": "x", "n": n}) + "\n" for n in range(10)))
    return Files(input=asked, output=tmp_path / "out.jsonl", errors=tmp_path / "out.errors.jsonl")


def run(files: Files, ingress: Ingress, on_progress=lambda ended: None, target=TARGET):
    return Run(files, target, model=None).send(on_progress, httpx.MockTransport(ingress))


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_file_becomes_one_batch_and_its_results(files, ingress) -> None:
    ended: list[int] = []
    summary = run(files, ingress, ended.append)

    assert (summary.completed, summary.failed, summary.skipped) == (10, 0, 0)
    assert len(ingress.batches) == 1
    assert ended == [0, 10]
    (made,) = (each for each in ingress.requests if each.url.path == "/v1/batches")
    assert made.headers["x-pickspin-concurrency"] == "3"
    assert made.headers["authorization"] == "Bearer secret"
    results = lines_of(files.output)
    assert [line["custom_id"] for line in results] == [f"line-{n}" for n in range(1, 11)]
    assert results[0]["response"] == {
        "status_code": 200, "request_id": "req_1", "body": {"prompt": "x", "n": 0},
    }  # fmt: skip
    assert not files.errors.exists()


def test_each_endpoint_has_a_batch(files, ingress) -> None:
    files.input.write_text('{"prompt": "x"}\n{"input": "x"}\n{"messages": []}\n{"prompt": "y"}\n')
    summary = run(files, ingress)

    assert summary.completed == 4
    assert len(ingress.batches) == 3


def test_a_second_run_sends_nothing(files, ingress) -> None:
    run(files, ingress)
    before = len(ingress.requests)
    summary = run(files, ingress)

    assert (summary.completed, summary.skipped) == (0, 10)
    assert len(ingress.requests) == before
    assert len(lines_of(files.output)) == 10


def test_two_runs_over_the_same_files_write_each_result_once(files, ingress) -> None:
    first, second = (Run(files, TARGET, model=None) for _ in range(2))
    for one in (first, second):
        one.send(lambda ended: None, httpx.MockTransport(ingress))

    assert len({line["custom_id"] for line in lines_of(files.output)}) == 10
    assert len(lines_of(files.output)) == 10


@pytest.mark.parametrize("concurrency", [3, 5])
def test_a_run_that_was_interrupted_follows_the_same_batch(files, ingress, concurrency) -> None:
    def interrupt(ended: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(files, ingress, interrupt)
    again = Target(url=TARGET.url, key=TARGET.key, concurrency=concurrency)
    summary = run(files, ingress, target=again)

    assert summary.completed == 10
    assert len(ingress.batches) == 1
    assert len(ingress.worked) == 10, "nothing was worked on twice"


def test_a_result_that_was_deleted_is_fetched_again_without_new_work(files, ingress) -> None:
    run(files, ingress)
    files.output.unlink()
    summary = run(files, ingress)

    assert summary.completed == 10
    assert len(ingress.worked) == 10


@pytest.mark.parametrize("failing", [{3}, set(range(10))])
def test_failures_go_to_the_errors_and_are_tried_again(files, ingress, failing) -> None:
    ingress.judge = lambda body: 400 if body["n"] in failing else 200
    first = run(files, ingress)
    failures = lines_of(files.errors)
    ingress.judge = lambda body: 200
    second = run(files, ingress)

    assert (first.completed, first.failed) == (10 - len(failing), len(failing))
    assert [line["response"]["status_code"] for line in failures] == [400] * len(failing)
    assert (second.completed, second.skipped) == (len(failing), 10 - len(failing))
    assert len(ingress.worked) == 10 + len(failing), "only what failed is worked on again"
    assert not files.errors.exists()


def test_a_line_that_was_edited_is_new_work(files, ingress) -> None:
    run(files, ingress)
    text = files.input.read_text()
    files.input.write_text(text.replace('"n": 4', '"n": 44'))
    summary = run(files, ingress)

    assert (summary.completed, summary.skipped) == (1, 9)


def test_what_was_deleted_at_the_ingress_is_made_anew(files, ingress) -> None:
    ingress.refusals = [httpx.Response(410, json={"error": {"code": "request_gone"}})]
    assert run(files, ingress).completed == 10


def test_a_refusal_that_passes_is_waited_out_as_long_as_it_says(files, ingress, pauses) -> None:
    ingress.refusals = [httpx.Response(503, json={}, headers={"retry-after": "7"})] * 2
    assert run(files, ingress).completed == 10
    assert pauses[:2] == [7.0, 7.0]


def test_a_long_wait_is_not_obeyed_beyond_two_minutes(files, ingress, pauses) -> None:
    ingress.refusals = [
        httpx.Response(429, headers={"retry-after": "99999"}),
        httpx.Response(429, headers={"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}),
    ]
    run(files, ingress)
    assert pauses[0] == 120.0
    assert 0.25 <= pauses[1] <= 1.0


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
def test_the_ingress_says_what_is_worth_a_retry(files, ingress, status, headers, worth) -> None:
    ingress.refusals = [httpx.Response(status, headers=headers)]
    if worth:
        assert run(files, ingress).completed == 10
        return
    with pytest.raises(BatchRefused, match=f"answers {status}"):
        run(files, ingress)


def test_an_ingress_that_is_away_is_given_up_after_some_attempts(files, pauses) -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    said: list[str] = []
    with pytest.raises(BatchRefused, match=rf"after {MAX_ATTEMPTS} attempts \(ConnectError\)"):
        Run(files, TARGET, model=None).send(
            lambda ended: None, httpx.MockTransport(away), said.append
        )
    assert len(pauses) == MAX_ATTEMPTS - 1
    assert said[0].startswith("http://ingress: no answer (ConnectError), attempt 1 of 8; again in")
    assert len(said) == len(pauses)


def test_a_batch_that_the_ingress_refuses_says_why(files, ingress) -> None:
    def end(batch: dict) -> dict:
        batch.update(status="failed", errors={"data": [{"message": "too many lines"}]})
        return batch

    ingress._end = end
    with pytest.raises(BatchRefused, match="too many lines"):
        run(files, ingress)


def test_a_file_that_is_too_long_for_one_batch_becomes_several(files, ingress, monkeypatch) -> None:
    monkeypatch.setattr("functions.batch.file_format.MAX_LINES", 4)
    ingress.judge = lambda body: 400 if body["n"] == 0 else 200
    run(files, ingress)
    assert len(ingress.batches) == 3
    ingress.judge = lambda body: 200
    assert run(files, ingress).completed == 1
    assert len(ingress.worked) == 11


def test_another_file_as_output_is_refused_and_left_alone(files, ingress) -> None:
    files.output.write_text("my thesis\nchapter 1\n")

    with pytest.raises(BadLine, match=r"line 1 .* another file"):
        run(files, ingress)
    assert files.output.read_text() == "my thesis\nchapter 1\n"


def test_a_missing_input_is_named(files, ingress) -> None:
    files.input.unlink()

    with pytest.raises(StartupFailed, match=r"in\.jsonl"):
        run(files, ingress)


def test_an_output_that_cannot_be_written_is_named_before_any_work(files, ingress) -> None:
    away = Files(input=files.input, output=files.input.parent / "no" / "out", errors=files.errors)

    with pytest.raises(StartupFailed, match="cannot write"):
        run(away, ingress)
    assert ingress.requests == []


def test_the_window_is_one_that_the_ingress_takes() -> None:
    assert parse_window(batch_main.WINDOW) == MAX_WINDOW
