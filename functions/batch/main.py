"""`pickspin batch`: uploads a file, follows its batches at the ingress and downloads their results.

Resume is the server's: the idempotency key of a batch is made of its content, so that a second run
over the same input follows the batch that the first one made. Finished work is never repeated.
"""

import contextlib
import fcntl
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from events import ids
from functions.batch.file_format import (
    Ask,
    name_results,
    read_asks,
    read_done,
    split_batches,
)
from functions.runtime.backoff import Backoff, jittered
from functions.runtime.errors import PickspinError, StartupFailed
from functions.storage.whole_files import replace_file

MAX_ATTEMPTS: Final = 8
TIMEOUT: Final = httpx.Timeout(130.0, connect=10.0)
WINDOW: Final = "7d"
"""As long as the ingress allows: lines have deadlines of their own."""
ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})
CONCURRENCY: Final = "x-pickspin-concurrency"
_RETRIED: Final = frozenset({408, 429, 500, 502, 503, 504})
_RETRIES: Final = Backoff(0.5, 30.0)
_MOST_RETRY_AFTER_S: Final = 120.0
_POLLS: Final = Backoff(0.2, 2.0, factor=1.2)


class BatchRefused(PickspinError):
    """The ingress takes a batch or its file not at all; the message says why.

    `is_gone`: what was made under the idempotency key was deleted.
    """

    def __init__(self, message: str, *, is_gone: bool = False) -> None:
        super().__init__(message)
        self.is_gone = is_gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a batch goes, and how many of its lines run at once. `url` is without `/v1`."""

    url: str
    key: str | None
    concurrency: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Successes go to `output`, failures to `errors`, which every run writes anew."""

    input: Path
    output: Path
    errors: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How a run went: lines of the input, those done before, and what became of the rest."""

    total: int
    skipped: int
    completed: int
    failed: int


class Run:
    """One run over a file.

    Raises:
        BadLine: a line of the input, or an output that is another file.
        StartupFailed: a file cannot be read.
    """

    def __init__(self, files: Files, target: Target, *, model: str | None) -> None:
        self._files, self._target = files, target
        self.asks: tuple[Ask, ...] = read_asks(_read_lines(files.input), model=model)
        self._done = read_done(_read_lines(files.output)) if files.output.exists() else frozenset()
        self.skipped = sum(ask.key in self._done for ask in self.asks)

    def send(
        self,
        on_progress: Callable[[int], None],
        transport: httpx.BaseTransport | None = None,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> Summary:
        """Runs what is left; `on_progress` hears how many lines of the input are done.

        `on_wait` hears why a call is made again.

        Raises:
            BatchRefused: the ingress refuses, or does not answer.
        """
        headers = {"authorization": f"Bearer {self._target.key}"} if self._target.key else {}
        _add(self._files.output, b"")  # before hours of work
        errors, completed = b"", 0
        with httpx.Client(
            base_url=self._target.url, headers=headers, timeout=TIMEOUT, transport=transport
        ) as http:
            client = _Client(http, self._target.concurrency, on_wait)
            for part in split_batches(self.asks):
                left = tuple(ask for ask in part if ask.key not in self._done)
                if not left:
                    continue
                ended = self.skipped + completed + errors.count(b"\n")
                for batch in client.follow(left):
                    on_progress(ended + _ended_lines(batch))
                successes = name_results(client.download(batch["output_file_id"]), left)
                _add(self._files.output, successes)
                completed += successes.count(b"\n")
                errors += name_results(client.download(batch["error_file_id"]), left)
                _write(self._files.errors, errors)
        if not errors:
            self._files.errors.unlink(missing_ok=True)
        return Summary(
            total=len(self.asks),
            skipped=self.skipped,
            completed=completed,
            failed=errors.count(b"\n"),
        )


class _Client:
    """Files and batches of an ingress; what passes is waited out."""

    def __init__(
        self, http: httpx.Client, concurrency: int, on_wait: Callable[[str], None]
    ) -> None:
        self._http, self._concurrency, self._on_wait = http, concurrency, on_wait

    def follow(self, asks: Sequence[Ask]) -> Iterator[dict[str, Any]]:
        """The batch of these requests, time and again, at last when it has ended."""
        batch = self._create(asks)
        yield batch
        for looks in itertools.count(1):
            if batch["status"] in ENDED:
                break
            time.sleep(_POLLS.delay_s(looks))
            batch = self._call("GET", f"/v1/batches/{batch['id']}").json()
            yield batch
        if batch["errors"] and not batch["error_file_id"]:
            first = batch["errors"]["data"][0]
            raise BatchRefused(f"batch {batch['id']} is refused: {first['message']}")

    def download(self, file_id: str | None) -> bytes:
        """The content of a file; empty where there is none."""
        return self._call("GET", f"/v1/files/{file_id}/content").content if file_id else b""

    def _create(self, asks: Sequence[Ask]) -> dict[str, Any]:
        """A batch of these requests: that of an earlier run, unless none of its lines succeeded."""
        content = b"".join(ask.line for ask in asks)
        key = ids.content_hash(content)
        while True:
            try:
                batch = self._create_under(key, asks[0].path, content)
            except BatchRefused as error:
                if not error.is_gone:
                    raise
                batch_id = "gone"
            else:
                if batch["status"] not in ENDED or batch["request_counts"]["completed"]:
                    return batch
                batch_id = batch["id"]
            key = ids.content_hash(f"{key} {batch_id}".encode())

    def _create_under(self, key: str, path: str, content: bytes) -> dict[str, Any]:
        file = self._call(
            "POST",
            "/v1/files",
            headers={"idempotency-key": f"batch-file-{key}"},
            files={"file": ("batch.jsonl", content)},
            data={"purpose": "batch"},
        ).json()
        body = {"input_file_id": file["id"], "endpoint": path, "completion_window": WINDOW}
        headers = {"idempotency-key": f"batch-{key}", CONCURRENCY: str(self._concurrency)}
        batch: dict[str, Any] = self._call("POST", "/v1/batches", headers=headers, json=body).json()
        return batch

    def _call(self, method: str, path: str, **content: Any) -> httpx.Response:
        retrying = Retrying(
            retry=retry_if_exception(_is_worth_a_retry),
            wait=_pause_s,
            stop=stop_after_attempt(MAX_ATTEMPTS),
            before_sleep=self._say_why,
            reraise=True,
        )
        try:
            return retrying(self._call_once, method, path, **content)
        except httpx.HTTPStatusError as error:
            reply = error.response
            is_gone = b"request_gone" in reply.content
            raise BatchRefused(
                f"{method} {path} answers {reply.status_code}: {reply.text[:300]}", is_gone=is_gone
            ) from error
        except httpx.HTTPError as error:
            where, why = self._http.base_url, type(error).__name__
            raise BatchRefused(
                f"no answer from {where} after {MAX_ATTEMPTS} attempts ({why})"
            ) from error

    def _say_why(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else None
        why = f"it answers {status}" if status else f"no answer ({type(error).__name__})"
        pause_s = state.next_action.sleep if state.next_action else 0.0
        attempt = f"attempt {state.attempt_number} of {MAX_ATTEMPTS}"
        self._on_wait(f"{self._http.base_url}: {why}, {attempt}; again in {pause_s:.0f} s")

    def _call_once(self, method: str, path: str, **content: Any) -> httpx.Response:
        return self._http.request(method, path, **content).raise_for_status()


def _ended_lines(batch: dict[str, Any]) -> int:
    counts: dict[str, int] = batch["request_counts"]
    return counts["completed"] + counts["failed"]


def _is_worth_a_retry(error: BaseException) -> bool:
    """Whether the same call may go better later: `x-should-retry` decides, else the status."""
    if isinstance(error, httpx.HTTPStatusError):
        wish = error.response.headers.get("x-should-retry")
        return error.response.status_code in _RETRIED if wish is None else wish.lower() == "true"
    return isinstance(error, httpx.TransportError)


def _pause_s(state: RetryCallState) -> float:
    """`Retry-After` in seconds is obeyed, at most two minutes; else the back-off."""
    error = state.outcome.exception() if state.outcome else None
    headers = error.response.headers if isinstance(error, httpx.HTTPStatusError) else {}
    try:
        return min(_MOST_RETRY_AFTER_S, max(0.0, float(headers.get("retry-after", ""))))
    except ValueError:
        return jittered(_RETRIES.delay_s(state.attempt_number))


def _read_lines(path: Path) -> list[bytes]:
    try:
        with path.open("rb") as file:
            return file.readlines()
    except OSError as error:
        raise StartupFailed(f"cannot read {path}: {error.strerror}") from error


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _add(path: Path, results: bytes) -> None:
    """Adds results that the file lacks: another run over the same files may have written some."""
    with _lock_folder(path):
        before = _read(path)
        done = read_done(before.splitlines(keepends=True))
        new = [one for one in results.splitlines(keepends=True) if not read_done([one]) <= done]
        _write(path, before + b"".join(new))


@contextlib.contextmanager
def _lock_folder(path: Path) -> Iterator[None]:
    """While inside, no other run adds to a file of the same folder."""
    try:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)
    except OSError as error:
        raise StartupFailed(f"cannot write {path}: {error.strerror}") from error


def _write(path: Path, content: bytes) -> None:
    try:
        with replace_file(path) as file:
            file.write(content)
    except OSError as error:
        raise StartupFailed(f"cannot write {path}: {error.strerror}") from error
