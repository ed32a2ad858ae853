"""`make routebench-everyday`: classes of everyday prompts by every classifier, and how often each abstains."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.routebench.everyday_prompts import (
    HALVES,
    EverydayPrompt,
    load_everyday,
    prompts_to_learn,
)
from benchmarks.routebench.everyday_scores import CLASSES, EverydayScore, Share, score_everyday
from benchmarks.routebench.stages import DEFAULT, stages_of
from router_model.classifier.weights import WeightsUnusable


def main() -> None:
    options = _options()
    if options.write_learned is not None:
        _write_learned(options.write_learned)
        return
    prompts = load_everyday()
    console = Console() if sys.stdout.isatty() else Console(width=120)
    halves = HALVES if options.half == "both" else (options.half,)
    found = {
        half: list(
            _scores([each for each in prompts if each.half == half], options.weights, console)
        )
        for half in halves
    }
    for half, scores in found.items():
        console.print(_table(half, scores))
        for score in scores:
            console.print(_confusion(score))
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "everyday.json"
    plain = {half: [_plain(score) for score in scores] for half, scores in found.items()}
    path.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    console.print(f"written to {path}")


def _scores(
    prompts: Sequence[EverydayPrompt], weights: Path | None, console: Console
) -> Iterator[EverydayScore]:
    for name, load in stages_of(weights).items():
        try:
            classifier = load()
        except WeightsUnusable as exc:
            console.print(f"[red]not scored: {name}: {exc}[/]")
            continue
        shown = f"{name} (default)" if name == DEFAULT else name
        yield score_everyday(shown, classifier, prompts)


def _table(half: str, scores: Sequence[EverydayScore]) -> Table:
    count = scores[0].prompts if scores else 0
    table = Table(
        title=f"everyday prompts, {half} half, {count}: share [95 %]",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("classifier", no_wrap=True)
    for name in ("exact", "within one tier", "balanced", "abstained", "with chances", "by"):
        table.add_column(name, justify="left" if name == "by" else "right")
    for score in scores:
        table.add_row(
            score.classifier,
            _shown(score.exact),
            _shown(score.within_one),
            f"{score.balanced:.3f}",
            _shown(score.abstained),
            f"{score.chances:.3f}",
            ", ".join(f"{reason} {share:.0%}" for reason, share in score.reasons.items()),
        )
    return table


def _shown(share: Share) -> str:
    return f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"


def _confusion(score: EverydayScore) -> str:
    rows = (
        f"{label} as " + ", ".join(map("{} {}".format, CLASSES, counts))
        for label, counts in zip(CLASSES, score.confusion.tolist(), strict=True)
    )
    return f"{score.classifier}: " + "; ".join(rows)


def _plain(score: EverydayScore) -> dict[str, object]:
    return asdict(score) | {"confusion": score.confusion.tolist()}


def _write_learned(path: Path) -> None:
    """The prompts to learn from, as `pickspin extend --classes` reads them."""
    kept = [{"prompt": each.prompt, "class": each.label} for each in prompts_to_learn()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in kept))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="routebench-everyday", description=__doc__)
    parser.add_argument("--half", choices=(*HALVES, "both"), default="held_out")
    parser.add_argument("--out", type=Path, default=Path("build/routebench"))
    parser.add_argument("--weights", type=Path, help="weights to score instead of the shipped ones")
    parser.add_argument(
        "--write-learned",
        type=Path,
        metavar="FILE",
        help="only write the labelled prompts to learn from, for `pickspin extend --classes`",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
