"""Every door of Pick and Spin, once, against a stack of its own: `make demo`.

Each step makes one real call and prints what came back. Nothing here imports the product: what a step uses, any
client has (httpx, a plain Kafka client, the Standard Webhooks verifier).
"""

import argparse
import json
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from kafka import KafkaConsumer, KafkaProducer
from rich.console import Console
from standardwebhooks.webhooks import Webhook

from examples.local_stack import local_stack

CHAT = "smollm2-135m-instruct"
EMBEDDINGS = "all-minilm-l6-v2"
LINES = 20
WAIT_S = 90.0


@dataclass
class Received:
    """What the callback receiver got: raw body and headers of each POST."""

    posts: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)


@dataclass
class Demo:
    """The parts that steps share."""

    http: httpx.Client
    bootstrap: str
    is_embedded: bool
    received: Received
    receiver_url: str

    def chat(self, text: str, **fields: Any) -> dict[str, Any]:
        return {
            "model": CHAT,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": 24,
            "temperature": 0.0,
            **fields,
        }

    def poll(self, path: str, wanted: set[str]) -> dict[str, Any]:
        """Asks again until the state is one of `wanted`."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            found: dict[str, Any] = self.http.get(path).raise_for_status().json()
            if (found.get("state") or found["status"]) in wanted:
                return found
            time.sleep(0.1)
        raise TimeoutError(path)


def models(demo: Demo) -> str:
    """The models, cold ones included."""
    listed = demo.http.get("/v1/models").raise_for_status().json()["data"]
    return ", ".join(f"{one['id']} is {one['pickspin']['state']}" for one in listed)


def stream_from_cold(demo: Demo) -> str:
    """A stream that wakes the model: comments while it loads, then tokens."""
    comments, text = [], ""
    body = demo.chat("Write one sentence about the sea.", stream=True)
    began = time.monotonic()
    first_s = 0.0
    with demo.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if line.startswith(":"):
                comments.append(line[1:].strip())
            elif line.startswith("data:") and line != "data: [DONE]":
                first_s = first_s or time.monotonic() - began
                for choice in json.loads(line[5:])["choices"]:
                    text += choice["delta"].get("content") or ""
    assert text, "no text came"
    assert comments, "no cold-start comment came"
    return f"{comments[0]!r} ... first token after {first_s:.1f} s: {text!r}"


def sync(demo: Demo) -> str:
    """One plain chat call; the router picks the model."""
    answer = demo.http.post("/v1/chat/completions", json=demo.chat("Say hello.", model="auto"))
    body = answer.raise_for_status().json()
    return (
        f"{answer.headers['x-pickspin-model']} ({answer.headers['x-pickspin-reason']}): "
        f"{body['choices'][0]['message']['content']!r}"
    )


def completions(demo: Demo) -> str:
    """The legacy completions call."""
    body = {"model": CHAT, "prompt": "The sky is", "max_tokens": 8}
    answer = demo.http.post("/v1/completions", json=body).raise_for_status().json()
    return repr(answer["choices"][0]["text"])


def embeddings(demo: Demo) -> str:
    """Two sentences as vectors, from the second model."""
    body = {"model": EMBEDDINGS, "input": ["A cat sits.", "A dog runs."]}
    answer = demo.http.post("/v1/embeddings", json=body).raise_for_status().json()
    return f"{len(answer['data'])} vectors of {len(answer['data'][0]['embedding'])} numbers"


def background(demo: Demo) -> str:
    """A Responses API call in the background, polled."""
    body = {"model": CHAT, "input": "Name a colour.", "background": True, "max_output_tokens": 12}
    made = demo.http.post("/v1/responses", json=body).raise_for_status().json()
    done = demo.poll(f"/v1/responses/{made['id']}", {"completed", "incomplete", "failed"})
    return f"{made['id'][:14]} went from {made['status']} to {done['status']}"


def cancel(demo: Demo) -> str:
    """A long generation, cancelled."""
    # Its end tokens are forbidden: a small model may answer "No." before the cancel comes.
    body = demo.chat("Count to a thousand.", max_tokens=900, logit_bias={"0": -100, "2": -100})
    made = demo.http.post("/v1/chat/completions", json=body, headers={"Prefer": "respond-async"})
    assert made.status_code == 202, made.text
    place = made.headers["location"]
    demo.http.post(f"{place}/cancel").raise_for_status()
    done = demo.poll(place, {"cancelled", "completed", "failed", "expired"})
    assert done["state"] == "cancelled", done
    return f"202, then {done['state']}"


def callback(demo: Demo) -> str:
    """A signed callback, checked with the Standard Webhooks verifier."""
    made = demo.http.post("/v1/callbacks", json={"url": demo.receiver_url}).raise_for_status()
    target = made.json()
    asked = demo.http.post(
        "/v1/chat/completions",
        json=demo.chat("Say yes."),
        headers={"x-pickspin-callback": target["id"]},
    )
    assert asked.status_code == 202, asked.text
    assert demo.received.arrived.wait(WAIT_S), "no callback came"
    headers, raw = demo.received.posts[0]
    verified = Webhook(target["secret"]).verify(raw, headers)
    return f"{verified['type']} with a valid signature, webhook-id {headers['webhook-id'][:8]}"


def cloud_event(demo: Demo) -> str:
    """A plain Kafka producer asks, a plain Kafka consumer gets the reply event."""
    version = {"api_version": (2, 3)} if demo.is_embedded else {}
    request_id = f"demo-{uuid.uuid4().hex[:12]}"
    consumer = KafkaConsumer(
        bootstrap_servers=demo.bootstrap, auto_offset_reset="earliest", client_id="demo", **version
    )
    consumer.subscribe(["infer.responses"])
    consumer.topics()  # kafka-python may miss a subscription made while it still fetches its first metadata
    producer = KafkaProducer(bootstrap_servers=demo.bootstrap, **version)
    headers = {
        "ce_specversion": "1.0",
        "ce_id": request_id,
        "ce_source": "/demo",
        "ce_type": "io.pickspin.inference.request.v1",
        "ce_time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "ce_replytopic": "infer.responses",
        "content-type": "application/json",
    }
    producer.send(
        "infer.requests",
        key=request_id.encode(),
        value=json.dumps(demo.chat("Say maybe.")).encode(),
        headers=[(name, value.encode()) for name, value in headers.items()],
    ).get(10)
    deadline = time.monotonic() + WAIT_S
    try:
        while time.monotonic() < deadline:
            for records in consumer.poll(timeout_ms=200).values():
                for record in records:
                    found = {name: value.decode() for name, value in record.headers}
                    if found.get("ce_subject") == request_id:
                        text = json.loads(record.value)["choices"][0]["message"]["content"]
                        return f"{found['ce_type']}: {text!r}"
        raise TimeoutError("no reply event")
    finally:
        consumer.close()
        producer.close()


def http_event(demo: Demo) -> str:
    """A CloudEvent over HTTP, structured mode."""
    event = {
        "specversion": "1.0",
        "id": f"demo-{uuid.uuid4().hex[:12]}",
        "source": "/demo",
        "type": "io.pickspin.inference.request.v1",
        "datacontenttype": "application/json",
        "data": demo.chat("Say never."),
    }
    made = demo.http.post(
        "/", content=json.dumps(event), headers={"content-type": "application/cloudevents+json"}
    )
    assert made.status_code == 202, made.text
    done = demo.poll(f"/v1/requests/{event['id']}", {"completed", "failed", "expired"})
    return f"202, then {done['state']}"


def batch(demo: Demo) -> str:
    """A batch of lines through the Files and Batches API."""
    lines = [
        {
            "custom_id": f"line-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": demo.chat(f"Say {number}.", max_tokens=4),
        }
        for number in range(LINES)
    ]
    content = "\n".join(json.dumps(line) for line in lines).encode()
    uploaded = demo.http.post(
        "/v1/files", files={"file": ("in.jsonl", content)}, data={"purpose": "batch"}
    )
    file_id = uploaded.raise_for_status().json()["id"]
    made = demo.http.post(
        "/v1/batches",
        json={
            "input_file_id": file_id,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        },
    )
    place = f"/v1/batches/{made.raise_for_status().json()['id']}"
    done = demo.poll(place, {"completed", "failed", "expired", "cancelled"})
    output = demo.http.get(f"/v1/files/{done['output_file_id']}/content").raise_for_status().text
    answered = {json.loads(line)["custom_id"] for line in output.splitlines()}
    assert len(answered) == LINES, done
    return f"{done['status']}: {done['request_counts']}"


STEPS: tuple[Callable[[Demo], str], ...] = (
    models,
    stream_from_cold,
    sync,
    completions,
    embeddings,
    background,
    cancel,
    callback,
    cloud_event,
    http_event,
    batch,
)


def receiver(received: Received) -> ThreadingHTTPServer:
    """A callback receiver outside the product's code."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            received.posts.append(({k.lower(): v for k, v in self.headers.items()}, raw))
            self.send_response(204)
            self.end_headers()
            received.arrived.set()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def run(console: Console, broker: str) -> int:
    """Starts a stack, goes through every step, prints each; the number of steps that failed."""
    environ = {
        "PICKSPIN_INGRESS_CALLBACK_ALLOW_HTTP": "true",
        "PICKSPIN_INGRESS_CALLBACK_ALLOW_PRIVATE": "true",
    }
    received = Received()
    server = receiver(received)
    failed = 0
    try:
        with (
            local_stack("--broker", broker, environ=environ) as stack,
            httpx.Client(base_url=stack.url, timeout=WAIT_S) as http,
        ):
            url = f"http://127.0.0.1:{server.server_address[1]}/hook"
            demo = Demo(http, stack.bootstrap, broker == "embedded", received, url)
            console.print(f"stack ready at {stack.url}", highlight=False)
            for step in STEPS:
                began = time.monotonic()
                title = (step.__doc__ or "").strip()
                try:
                    said, mark = step(demo), "[green]ok[/]"
                except (AssertionError, httpx.HTTPError, TimeoutError, KeyError) as error:
                    said, mark = f"{type(error).__name__}: {error}", "[red]failed[/]"
                    failed += 1
                console.print(f"{mark} [bold]{title}[/] ({time.monotonic() - began:.1f} s)")
                console.print(f"   {said}", markup=False, highlight=False)
    finally:
        server.shutdown()
        server.server_close()
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", choices=("embedded", "kafka"), default="embedded")
    broker = parser.parse_args().broker
    # So that the stack is stopped too when someone terminates the demo.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    failed = run(Console(), broker)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
