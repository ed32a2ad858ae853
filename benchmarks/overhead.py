"""What the path ingress -> Kafka -> router -> Kafka -> worker -> Kafka -> ingress costs over a bare call: `make bench`.

The same fake model at zero delay is called directly and through the whole product, alternately, in one run, at
concurrency 1 (and more with --concurrency), on the embedded broker and, where java and mvn are there, on Apache
Kafka. Printed: p50, p95, p99 of both, the difference of the medians, and what the load generator itself reaches
against the bare model (its ceiling).
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from examples.local_stack import free_port, local_stack

MODEL = "bench"
TARGET_MS = {"embedded": 20.0, "kafka": 15.0}
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "ping"}], "max_tokens": 4}


@dataclass(frozen=True)
class Figures:
    """One measured series, in milliseconds, and its rate in calls a second."""

    broker: str
    path: str
    concurrency: int
    calls: int
    p50: float
    p95: float
    p99: float
    rate: float


def figures(
    broker: str, path: str, concurrency: int, times: Sequence[float], seconds: float
) -> Figures:
    """Percentiles of call times given in seconds."""
    cuts = statistics.quantiles(times, n=100)
    return Figures(
        broker,
        path,
        concurrency,
        len(times),
        *(round(1000 * cuts[cut], 2) for cut in (49, 94, 98)),
        round(len(times) / seconds, 1),
    )


async def drive(client: httpx.AsyncClient, url: str, calls: int, concurrency: int) -> list[float]:
    """Times of `calls` chat calls, `concurrency` at a time (closed loop)."""
    times: list[float] = []
    left = iter(range(calls))

    async def one_after_another() -> None:
        for _ in left:
            began = time.perf_counter()
            answer = await client.post(f"{url}/v1/chat/completions", json=BODY)
            times.append(time.perf_counter() - began)
            answer.raise_for_status()

    await asyncio.gather(*(one_after_another() for _ in range(concurrency)))
    return times


async def measure(
    broker: str, direct: str, through: str, calls: int, concurrency: int
) -> list[Figures]:
    """Both paths in alternating rounds, so that a slow minute of the machine hits both."""
    rounds = 5
    times: dict[str, list[float]] = {"direct": [], "pickspin": []}
    spent = {"direct": 0.0, "pickspin": 0.0}
    async with httpx.AsyncClient(timeout=60.0) as client:
        await drive(client, direct, 20, concurrency)
        await drive(client, through, 20, concurrency)
        for _ in range(rounds):
            for path, url in (("direct", direct), ("pickspin", through)):
                began = time.perf_counter()
                times[path] += await drive(client, url, calls // rounds, concurrency)
                spent[path] += time.perf_counter() - began
    return [figures(broker, path, concurrency, times[path], spent[path]) for path in times]


def bench(broker: str, calls: int, concurrencies: Sequence[int]) -> list[Figures]:
    """Starts the fake model and a stack that knows it, and measures."""
    port = free_port()
    model = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "functions.backends.simulated.server",
            "--port",
            str(port),
            "--tokens",
            "4",
        ],
        cwd=Path(__file__).parent.parent,
    )
    try:
        direct = f"http://127.0.0.1:{port}"
        with (
            tempfile.TemporaryDirectory() as directory,
            local_stack(
                *("--broker", broker, "--model", f"{MODEL}={direct}/v1"), data_dir=Path(directory)
            ) as stack,
        ):
            found: list[Figures] = []
            for concurrency in concurrencies:
                found += asyncio.run(measure(broker, direct, stack.url, calls, concurrency))
            return found
    finally:
        model.terminate()
        model.wait(10)


def show(console: Console, found: Sequence[Figures]) -> None:
    """The table, and the overhead of each pair beside its target."""
    table = Table(title="overhead over the same backend called directly (ms)")
    for column in ("broker", "path", "concurrency", "calls", "p50", "p95", "p99", "calls/s"):
        table.add_column(column, justify="right" if column not in ("broker", "path") else "left")
    for one in found:
        table.add_row(*(str(value) for value in asdict(one).values()))
    console.print(table)
    for direct, through in zip(found[::2], found[1::2], strict=True):
        over = through.p50 - direct.p50
        target = TARGET_MS[direct.broker] if direct.concurrency == 1 else None
        against = "" if target is None else f" (target: below {target:.0f} ms)"
        console.print(
            f"{direct.broker}, concurrency {direct.concurrency}: p50 overhead {over:.1f} ms{against};"
            f" the generator's ceiling is {direct.rate:.0f} calls/s"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", choices=("embedded", "kafka", "both"), default="both")
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--json", action="store_true", help="figures as JSON instead of a table")
    options = parser.parse_args()
    brokers = ["embedded", "kafka"] if options.broker == "both" else [options.broker]
    console = Console()
    if "kafka" in brokers and not (shutil.which("java") and shutil.which("mvn")):
        console.print("no Apache Kafka: java and mvn are not both there; measuring embedded only")
        brokers.remove("kafka")
    found: list[Figures] = []
    for broker in brokers:
        found += bench(broker, options.calls, options.concurrency)
    machine: dict[str, Any] = {"machine": platform.platform(), "cpus": os.cpu_count()}
    if options.json:
        print(json.dumps(machine | {"figures": [asdict(one) for one in found]}))
    else:
        console.print(f"{machine['machine']}, {machine['cpus']} CPUs")
        show(console, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
