"""The paper's Table 3 with real outcomes: `make table3`.

Questions whose answers by real models are recorded go through the running service (ingress, log, router, log, worker,
simulated model servers), once for each strategy, at the same times. Success is the recorded outcome of the model that
answered, in time; latency is measured end to end; cost is list price x tokens. pool.json fixes everything beforehand.
"""

import argparse
import os
import platform
import sys
import time
from pathlib import Path

from rich.console import Console

from benchmarks.table3.comparing import find
from benchmarks.table3.pool import Pool, load_pool, wrong_prices
from benchmarks.table3.questions import arrivals, questions
from benchmarks.table3.reporting import show, write
from benchmarks.table3.running import Load, run_all, tuned_profiles
from benchmarks.table3.strategies import Strategy, alone, strategies
from router_model.replay.outcome_dataset import BadOutcomes
from router_model.replay.profile_search import NothingToTune

WIDTH = 120
"""Of tables that no terminal shows."""


def main() -> None:
    options = _options()
    console, pool, began_s = _console(), load_pool(), time.monotonic()
    try:
        dev, tune = (questions(pool, options.data, part) for part in ("dev", "tune"))
        wrong = wrong_prices(pool, options.data)
    except (BadOutcomes, OSError) as error:
        sys.exit(
            f"table3: {error}\n--data is a directory with outcomes/*.jsonl.gz and model_prices.json"
        )
    if wrong:
        sys.exit(f"table3: prices in pool.json are not those of the list: {', '.join(wrong)}")
    try:
        tuned = tuned_profiles(pool, tune, options.scale)
    except NothingToTune as error:
        sys.exit(f"table3: {error}")
    requests = arrivals(dev, per_s=pool.arrivals_per_s, passes=pool.passes, seed=pool.seed)
    load = Load(pool=pool, requests=requests[: options.requests], scale=options.scale)
    chosen = _chosen(pool, options.only)
    lasts_s = load.requests[-1].at_s / options.scale
    console.print(
        f"{len(load.requests)} requests for {len(dev)} questions, {len(chosen)} strategies,"
        f" about {lasts_s:.0f} s each"
    )
    runs = run_all(load, tuned, chosen, lambda name: console.print(f"  {name}"))
    findings = find(runs, chosen, pool.seed)
    show(findings, tuned, console)
    about = {
        "requests": len(load.requests),
        "questions": len({one.row.qkey for one in load.requests}),
        "scale": options.scale,
        "tuned": tuned,
        "machine": f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} CPUs",
        "load_average": os.getloadavg(),
        "seconds": round(time.monotonic() - began_s),
    }
    write(findings, runs, about, options.out)
    console.print(
        f"{about['seconds']} s; results.json, tables.md and requests.csv are in {options.out}"
    )


def _console() -> Console:
    found = Console()
    return found if found.is_terminal else Console(width=WIDTH)


def _chosen(pool: Pool, only: list[str] | None) -> list[Strategy]:
    known = [*strategies(pool), *alone(pool)]
    return [one for one in known if only is None or any(part in one.name for part in only)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="table3", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("build/table3"))
    parser.add_argument(
        "--scale", type=float, default=10.0, help="simulated seconds in a second of the clock"
    )
    parser.add_argument("--requests", type=int, help="only the first so many (a trial)")
    parser.add_argument("--only", nargs="+", help="strategies whose name contains one of these")
    return parser.parse_args()


if __name__ == "__main__":
    main()
