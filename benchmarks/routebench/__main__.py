"""`make routebench TRAIN=DIR TEST=DIR`: scores the shipped router beside the baselines and writes what was found."""

import argparse
import logging
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from benchmarks.routebench.embedding import Embedder
from benchmarks.routebench.learned import TfidfRouter
from benchmarks.routebench.litellm_router import litellm_router
from benchmarks.routebench.neighbours import NeighbourRouter
from benchmarks.routebench.picture import draw_suites
from benchmarks.routebench.predictors import Predictor
from benchmarks.routebench.reporting import report
from benchmarks.routebench.rules import keyword_router, length_router, random_router
from benchmarks.routebench.running import (
    Data,
    Results,
    describe_shipped,
    leave_one_out,
    load,
    score_all,
)
from benchmarks.routebench.stages import shipped_routers
from benchmarks.routebench.suites import Suites, load_suites
from benchmarks.routebench.writing import write_results
from router_model.replay.outcome_dataset import BadOutcomes


def main() -> None:
    options = _options()
    logging.getLogger().setLevel(logging.ERROR)
    console = Console() if sys.stdout.isatty() else Console(width=120)
    began = time.perf_counter()
    suites = load_suites()
    try:
        data = load(suites, options.train, options.test, options.draws)
    except BadOutcomes as exc:
        sys.exit(
            f"routebench: {exc}\nTRAIN and TEST are directories with outcomes/*.jsonl.gz (docs/routebench.md)"
        )
    if not data.tasks:
        sys.exit("routebench: no suite has all its files in TRAIN (and TEST)")
    results = _run(data, suites, options, console)
    results.seconds["total"] = time.perf_counter() - began
    write_results(results, _about(options), options.out)
    pictures = draw_suites(results, suites, options.out)
    report(results, suites, console)
    console.print(
        f"{results.seconds['total']:.0f} s; results.json, metrics.csv, differences.csv, curves.csv and "
        f"{len(pictures)} pictures are in {options.out}"
    )


def _run(data: Data, suites: Suites, options: argparse.Namespace, console: Console) -> Results:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=console.is_terminal) as progress:
        bar = progress.add_task("reading", total=None)

        def say(what: str) -> None:
            progress.update(bar, description=what)
            if not console.is_terminal:
                print(what, flush=True)

        def embedded(done: int, total: int) -> None:
            progress.update(bar, description="MiniLM embeddings", completed=done, total=total)

        embed = Embedder(options.cache, embedded)
        names = sorted({name for case in suites.cases for name in case.models})

        def warn(text: str) -> None:
            console.print(f"[red]not scored: {text}[/]")

        shipped = shipped_routers(names, warn, options.weights)
        others: list[Predictor] = [] if options.no_baselines else [*_baselines(embed)]
        if options.against is not None:
            others += shipped_routers(names, warn, options.against, called="before")
        results = score_all(data, suites, others, shipped, say)
        if not options.no_baselines:
            makers = {"TF-IDF + LR": TfidfRouter, "kNN MiniLM": lambda: NeighbourRouter(embed)}
            leave_one_out(data, makers, results, say)
        describe_shipped(data, shipped, results)
    return results


def _baselines(embed: Embedder) -> Sequence[Predictor]:
    return (
        random_router(),
        keyword_router(),
        length_router(),
        litellm_router(),
        TfidfRouter(),
        NeighbourRouter(embed),
    )


def _about(options: argparse.Namespace) -> dict[str, object]:
    return {
        "train": str(options.train),
        "test": str(options.test) if options.test else None,
        "weights": str(options.weights) if options.weights else "as shipped",
        "scored": "files of TEST" if options.test else "part dev of TRAIN",
        "against": str(options.against) if options.against else None,
        "draws": options.draws,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="routebench", description=__doc__)
    parser.add_argument("--train", type=Path, default=Path("../shared/data"))
    parser.add_argument(
        "--test", type=Path, help="score the files of this directory, not part dev of TRAIN"
    )
    parser.add_argument("--out", type=Path, default=Path("build/routebench"))
    parser.add_argument(
        "--cache", type=Path, default=Path("build/routebench-cache"), help="embeddings"
    )
    parser.add_argument("--weights", type=Path, help="weights to score instead of the shipped ones")
    parser.add_argument(
        "--against", type=Path, help="other weights, scored beside: ours is judged against them too"
    )
    parser.add_argument(
        "--no-baselines", action="store_true", help="only what the product has; takes minutes less"
    )
    parser.add_argument("--draws", type=int, default=1000, help="of the bootstrap")
    return parser.parse_args()


if __name__ == "__main__":
    main()
