"""The ingress of a release, as a caller outside of the cluster uses it."""

import time
from dataclasses import dataclass
from typing import Any

import httpx
from release import KEY, Release, kubectl


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered chat: its id, its text, who answered, and wall times in seconds."""

    request: str
    status: int
    text: str
    model: str
    began: float
    ended: float


class Door:
    """HTTP to the Service of the ingress."""

    def __init__(self, release: Release, *, timeout_s: float = 180.0) -> None:
        name = f"{release.name}-ingress"
        address = kubectl(
            "get", "service", name, "-n", release.namespace, "-o", "jsonpath={.spec.clusterIP}"
        )
        # No connection is ever idle: with threads httpcore 1.0.9 may close one that it has just given to another, also
        # where it is told to keep none (38 of 4,000 requests of 100 threads; with this header 0).
        headers = {"authorization": f"Bearer {KEY}", "connection": "close"}
        limits = httpx.Limits(max_connections=400)
        self.http = httpx.Client(
            base_url=f"http://{address}", headers=headers, timeout=timeout_s, limits=limits
        )

    def chat(self, model: str, prompt: str = "Say hello.", **more: Any) -> Answer:
        """One chat, waited for. Its status may be any."""
        body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 8}
        began = time.time()
        answer = self.http.post("/v1/chat/completions", json=body | more)
        ended = time.time()
        said = (
            answer.json()
            if answer.headers.get("content-type", "").startswith("application/json")
            else {}
        )
        choices = said.get("choices") or [{}]
        return Answer(
            request=answer.headers.get("x-pickspin-request-id", ""),
            status=answer.status_code,
            text=(choices[0].get("message") or {}).get("content") or answer.text,
            model=str(said.get("model", "")),
            began=began,
            ended=ended,
        )

    def await_open(self, timeout_s: float) -> None:
        """Waits until the ingress lists its models.

        Raises:
            AssertionError: it does not in time.
        """
        deadline = time.monotonic() + timeout_s
        found = "nothing"
        while time.monotonic() < deadline:
            try:
                answer = self.http.get("/v1/models", timeout=5.0)
                if answer.status_code == 200:
                    return
                found = f"{answer.status_code} {answer.text}"
            except httpx.HTTPError as error:
                found = repr(error)
            time.sleep(0.5)
        raise AssertionError(f"the ingress does not answer: {found}")

    def close(self) -> None:
        self.http.close()
