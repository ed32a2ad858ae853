"""Work that goes on while something is broken: background requests, what was accepted of them, and how each ended."""

import threading
import time
from typing import Any, Self

import httpx
from door import Door

TAIL_S = 60.0
ENDED = {"completed", "failed", "expired", "cancelled"}


class Load:
    """Sends one background chat every `pause_s` until left; an attempt that was not accepted counts for nothing."""

    def __init__(self, door: Door, model: str, *, pause_s: float = 0.1, prompt: str = "") -> None:
        self.accepted: dict[str, str] = {}
        """Request ids with the nonce that their answers must carry."""
        self.refused = 0
        self._http = door.http
        self._model, self._pause_s, self._prompt = model, pause_s, prompt
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60.0)

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(self._pause_s):
            number += 1
            nonce = f"nonce:load-{id(self)}-{number}."
            messages = [{"role": "user", "content": f"{self._prompt} {nonce}"}]
            body = {"model": self._model, "messages": messages, "max_tokens": 8}
            try:
                answer = self._http.post(
                    "/v1/chat/completions",
                    json=body,
                    headers={"Prefer": "respond-async"},
                    timeout=30.0,
                )
            except httpx.HTTPError:
                self.refused += 1
                continue
            if answer.status_code == 202:
                self.accepted[answer.headers["x-pickspin-request-id"]] = nonce
            else:
                self.refused += 1

    def await_accepted(self, count: int, timeout_s: float = 60.0) -> None:
        """Waits until `count` more were accepted."""
        wanted, deadline = len(self.accepted) + count, time.monotonic() + timeout_s
        while len(self.accepted) < wanted:
            assert time.monotonic() < deadline, f"{len(self.accepted)} of {wanted} were accepted"
            time.sleep(0.05)

    def await_answers(self, timeout_s: float) -> dict[str, dict[str, Any]]:
        """The final state of every accepted request.

        Raises:
            AssertionError: one has none in time.
        """
        found: dict[str, dict[str, Any]] = {}
        deadline = time.monotonic() + timeout_s
        while len(found) < len(self.accepted):
            for request in self.accepted.keys() - found.keys():
                try:
                    answer = self._http.get(f"/v1/requests/{request}", timeout=10.0)
                except httpx.HTTPError:
                    break
                if answer.status_code == 200 and answer.json()["state"] in ENDED:
                    found[request] = answer.json()
            missing = self.accepted.keys() - found.keys()
            assert time.monotonic() < deadline, (
                f"{len(missing)} of {len(self.accepted)} never ended: {missing}"
            )
            time.sleep(0.2)
        return found

    def assert_nothing_lost(self, outcomes: dict[str, set[str]], timeout_s: float = 180.0) -> None:
        """Every accepted request completed with its own answer, and has one outcome on the log."""
        assert self.accepted, "nothing was accepted: nothing is proven"
        answers = self.await_answers(timeout_s)
        deadline = time.monotonic() + TAIL_S
        # Who reads the log for the tests comes back from an outage when it does.
        while not all(outcomes[request] for request in answers) and time.monotonic() < deadline:
            time.sleep(0.2)
        for request, found in answers.items():
            assert found["state"] == "completed", found
            assert self.accepted[request] in str(found["response"]), found
            assert len(outcomes[request]) == 1, (request, outcomes[request])
