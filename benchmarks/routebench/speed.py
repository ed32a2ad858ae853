"""How fast one decision is (`make routebench-speed`): every classifier alone, and the router's whole `handle()`.

Each classifier runs in a process of its own, so that memory and cold load are its own. Times are of features and
classification of one prompt, warm, one at a time and eight at once.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.routebench.off_distribution import strange_prompts
from benchmarks.routebench.ours import chat_features
from benchmarks.routebench.questions import read_sources
from benchmarks.routebench.stages import stages_of
from benchmarks.routebench.suites import load_suites
from events import names
from events.event import Event
from events.names import Topics
from events.timestamps import to_rfc3339
from functions.router.handler import RouterRules, handle
from router_model.catalogue.loader import load_catalogue
from router_model.catalogue.merge import with_demo_fleet
from router_model.classifier.keyword_rules import Classifier
from router_model.classifier.weights import WeightsUnusable
from router_model.replay.outcome_dataset import BadOutcomes, assign_part
from router_model.routing.context import RoutingContext
from router_model.service_registry import Registry

PROMPTS: Final = 2_000
WARM: Final = 100
CONCURRENT: Final = 8
CORES: Final = 2
_CATALOGUE: Final = Path(__file__).parents[2] / "functions" / "local" / "catalogue.yaml"
_MEBI: Final = 1024 * 1024


def main() -> None:
    options = _options()
    _keep_to(CORES if options.stage != "handle" else 1)
    if options.stage:
        prompts = json.loads(options.prompts.read_bytes())
        try:
            print(json.dumps(_measured(options.stage, prompts, options.weights)))
        except WeightsUnusable as exc:
            sys.exit(f"{options.stage}: {exc}")
        return
    console = Console() if sys.stdout.isatty() else Console(width=120)
    prompts, what = _prompts(options.train)
    console.print(f"{len(prompts)} {what}, {platform.machine()}, at most {CORES} cores")
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "speed-prompts.json"
    kept.write_text(json.dumps(prompts), encoding="utf-8")
    found = []
    for stage in (*stages_of(None), "handle"):
        console.print(f"measuring {stage}")
        try:
            found.append(_in_own_process(stage, kept, options.weights))
        except subprocess.CalledProcessError:
            console.print(f"[red]{stage} could not be measured[/]")
    console.print(_table(found))
    about = {
        "prompts": len(prompts),
        "kind": what,
        "machine": platform.machine(),
        "weights": str(options.weights) if options.weights else "as shipped",
        "measured": found,
    }
    (options.out / "speed.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    console.print(f"written to {options.out / 'speed.json'}")


def _measured(stage: str, prompts: Sequence[str], weights: Path | None) -> dict[str, object]:
    if stage == "handle":
        return _handling(prompts, weights)
    return _classifying(stage, prompts, weights)


def _classifying(stage: str, prompts: Sequence[str], weights: Path | None) -> dict[str, object]:
    before, began = _memory_mib(), time.perf_counter()
    classifier = stages_of(weights)[stage]()
    models = next(case.models for case in load_suites().cases if case.name == "E-5")
    classifier.classify(chat_features(prompts[0]), models)
    loaded_s, memory = time.perf_counter() - began, _memory_mib() - before

    def decide(prompt: str) -> None:
        classifier.classify(chat_features(prompt), models)

    return {
        "what": stage,
        **_timed(decide, prompts),
        "cold_load_s": round(loaded_s, 3),
        "memory_mib": round(memory, 1),
    }


def _handling(prompts: Sequence[str], weights: Path | None) -> dict[str, object]:
    """The pure router function on one core, without the append of what it gives."""
    stage, classifier = _cheap_stage(weights)
    topics, now = Topics("bench."), datetime.now(UTC)
    catalogue = with_demo_fleet(load_catalogue(_CATALOGUE.read_text(encoding="utf-8")))
    rules = RouterRules(topics=topics)
    context = RoutingContext(
        catalogue=catalogue, registry=Registry(), now=now, classifier=classifier
    )
    events = {prompt: _event(prompt, topics, now) for prompt in prompts}

    def decide(prompt: str) -> None:
        if not handle(events[prompt], context, rules=rules).decision:
            raise SystemExit(f"not routed: {prompt[:80]!r}")

    alone = _alone(decide, prompts)
    return {"what": f"handle(), {stage}, one core", **alone}


def _cheap_stage(weights: Path | None) -> tuple[str, Classifier]:
    stages = stages_of(weights)
    try:
        return "linear", stages["linear"]()
    except WeightsUnusable:
        return "keyword", stages["keyword"]()


def _event(prompt: str, topics: Topics, now: datetime) -> Event:
    body = {"model": "auto", "messages": [{"role": "user", "content": prompt}]}
    return Event(
        id=f"req_{abs(hash(prompt))}",
        source="/benchmark",
        type=names.REQUEST,
        subject="auto",
        time=to_rfc3339(now),
        data=json.dumps(body).encode(),
        extensions={
            names.EXPIRY_TIME: to_rfc3339(now + timedelta(hours=1)),
            names.REPLY_TOPIC: topics.replies,
            names.REPLY_PARTITION: "0",
            names.REPLY_EPOCH: "e",
            names.TENANT: "bench",
        },
    )


def _timed(decide: Callable[[str], None], prompts: Sequence[str]) -> dict[str, float]:
    alone = _alone(decide, prompts)
    began = time.perf_counter()
    with ThreadPoolExecutor(CONCURRENT) as pool:
        together = list(pool.map(lambda prompt: _one(decide, prompt), prompts))
    rate = len(prompts) / (time.perf_counter() - began)
    return {**alone, **_percentiles(together, "_8"), "per_s_8": round(rate, 1)}


def _alone(decide: Callable[[str], None], prompts: Sequence[str]) -> dict[str, float]:
    for prompt in prompts[:WARM]:
        decide(prompt)
    began = time.perf_counter()
    times = [_one(decide, prompt) for prompt in prompts]
    rate = len(prompts) / (time.perf_counter() - began)
    return {**_percentiles(times, ""), "per_s": round(rate, 1)}


def _one(decide: Callable[[str], None], prompt: str) -> float:
    began = time.perf_counter()
    decide(prompt)
    return time.perf_counter() - began


def _percentiles(times: Sequence[float], suffix: str) -> dict[str, float]:
    p50, p99 = np.quantile(times, [0.5, 0.99]) * 1000
    return {f"p50_ms{suffix}": round(float(p50), 3), f"p99_ms{suffix}": round(float(p99), 3)}


def _prompts(train: Path) -> tuple[list[str], str]:
    """The first questions of part dev by qkey, a hash, so that every source is in it; made-up ones where none are."""
    try:
        sources = {source for case in load_suites().cases for source in case.sources}
        rows = (row for found in read_sources(train, sources).values() for row in found)
        dev = {row.qkey: row.prompt for row in rows if assign_part(row.qkey) == "dev"}
    except BadOutcomes:
        dev = {}
    if len(dev) < PROMPTS:
        return list(strange_prompts(PROMPTS)), "made-up prompts (TRAIN has too few real ones)"
    return [dev[qkey] for qkey in sorted(dev)][:PROMPTS], "real prompts of part dev"


def _in_own_process(stage: str, prompts: Path, weights: Path | None) -> dict[str, object]:
    command = [sys.executable, "-m", "benchmarks.routebench.speed", "--stage", stage]
    command += [] if weights is None else ["--weights", str(weights)]
    done = subprocess.run([*command, "--prompts", str(prompts)], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout.splitlines()[-1])


def _keep_to(cores: int) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def _memory_mib() -> float:
    """Resident set of this process now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / _MEBI


def _table(found: Sequence[dict[str, object]]) -> Table:
    columns = {
        "what": "what",
        "p50_ms": "p50 ms",
        "p99_ms": "p99 ms",
        "per_s": "decisions/s",
        "p50_ms_8": "p50 ms, 8 at once",
        "p99_ms_8": "p99 ms, 8 at once",
        "per_s_8": "decisions/s, 8 at once",
        "cold_load_s": "cold load s",
        "memory_mib": "memory MiB",
    }
    table = Table(title="one decision, warm", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in columns.values():
        table.add_column(title, justify="left" if title == "what" else "right")
    for item in found:
        table.add_row(*(str(item.get(name, "-")) for name in columns))
    return table


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="routebench-speed", description=__doc__)
    parser.add_argument("--train", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("build/routebench"))
    parser.add_argument("--weights", type=Path, help="weights to time instead of the shipped ones")
    parser.add_argument("--stage", help="measure one here and print JSON; needs --prompts")
    parser.add_argument("--prompts", type=Path, help="a JSON list of prompts")
    return parser.parse_args()


if __name__ == "__main__":
    main()
