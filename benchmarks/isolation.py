"""How much a model that is loading slows down a warm one: `python -m benchmarks.isolation`.

A warm fake model that takes 50 ms answers 1,000 requests, first alone, then again while another fake model is held
loading for 60 s with 500 requests queued behind it. Printed: p50, p95, p99 of both runs and how far p95 moved.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from examples.local_stack import local_stack

CALLS = 1000
QUEUED = 500
LOAD_S = 60
WARM_S = 0.05
TARGET_PERCENT = 10.0
CATALOGUE = f"""
models:
  - {{id: warm, simulated: true}}
  - {{id: loading, simulated: true}}
services:
  - model: warm
    backend: {{kind: fake, args: {{ttft_s: {WARM_S}, tokens: 1}}}}
    concurrency: 8
    min_warm: 1
  - model: loading
    backend: {{kind: fake, args: {{load_s: {LOAD_S}}}}}
    cold_start_s: {LOAD_S}
    start_timeout_s: 300
"""


@dataclass(frozen=True)
class Run:
    """Milliseconds of one run."""

    name: str
    calls: int
    p50: float
    p95: float
    p99: float


def body(model: str) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "ping"}]}


async def ask_warm(http: httpx.AsyncClient, name: str, calls: int, concurrency: int) -> Run:
    """`calls` requests to the warm model, `concurrency` at a time."""
    times: list[float] = []
    left = iter(range(calls))

    async def one_after_another() -> None:
        for _ in left:
            began = time.perf_counter()
            answer = await http.post("/v1/chat/completions", json=body("warm"))
            times.append(1000 * (time.perf_counter() - began))
            answer.raise_for_status()

    await asyncio.gather(*(one_after_another() for _ in range(concurrency)))
    cuts = statistics.quantiles(times, n=100)
    return Run(name, len(times), *(round(cuts[cut], 1) for cut in (49, 94, 98)))


async def queue_up(http: httpx.AsyncClient, count: int) -> None:
    """`count` background requests to the model that does not come up."""
    gate = asyncio.Semaphore(16)

    async def one() -> None:
        async with gate:
            answer = await http.post(
                "/v1/chat/completions", json=body("loading"), headers={"Prefer": "respond-async"}
            )
            answer.raise_for_status()

    await asyncio.gather(*(one() for _ in range(count)))


async def measure(url: str, calls: int, concurrency: int) -> list[Run]:
    """Alone, then beside the queue: in that order, since the queue cannot be taken back."""
    async with httpx.AsyncClient(base_url=url, timeout=60.0) as http:
        await ask_warm(http, "warming up", 100, concurrency)
        alone = await ask_warm(http, "alone", calls, concurrency)
        await queue_up(http, QUEUED)
        beside = await ask_warm(http, f"beside {QUEUED} queued", calls, concurrency)
        state = (await http.get("/v1/models/loading")).json()["pickspin"]["state"]
        if state not in ("starting", "loading"):
            raise RuntimeError(f"the other model was {state}, not loading: nothing was measured")
        return [alone, beside]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", choices=("embedded", "kafka"), default="embedded")
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--concurrency", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        catalogue = Path(directory, "catalogue.yaml")
        catalogue.write_text(CATALOGUE, encoding="utf-8")
        with local_stack("--broker", options.broker, "--catalogue", str(catalogue)) as stack:
            runs = asyncio.run(measure(stack.url, options.calls, options.concurrency))
    show(Console(), runs, is_json=options.json)
    return 0


def show(console: Console, runs: Sequence[Run], *, is_json: bool) -> None:
    """The two runs, and the movement of p95."""
    alone, beside = runs
    moved = 100 * (beside.p95 - alone.p95) / alone.p95
    if is_json:
        print(json.dumps({"runs": [asdict(run) for run in runs], "p95_moved_percent": moved}))
        return
    table = Table(title=f"a warm model of {1000 * WARM_S:.0f} ms (ms)")
    for column in ("run", "calls", "p50", "p95", "p99"):
        table.add_column(column)
    for run in runs:
        table.add_row(*(str(value) for value in asdict(run).values()))
    console.print(table)
    console.print(f"p95 moved by {moved:+.1f} % (target: less than {TARGET_PERCENT:.0f} %)")


if __name__ == "__main__":
    sys.exit(main())
