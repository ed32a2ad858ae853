"""Results as files: results.json, metrics.csv, differences.csv, curves.csv."""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.routebench.running import Results
from benchmarks.routebench.verdicts import Judged


def write_results(results: Results, about: Mapping[str, object], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tree = _plain({**about, **_tree(results)})
    (folder / "results.json").write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
    names = sorted({name for score in results.scores for name in score.metrics})
    _write_table(
        folder / "metrics.csv",
        ("case", "router", "honest", *names),
        (
            (
                score.case,
                score.router,
                score.is_honest,
                *(score.metrics.get(name) for name in names),
            )
            for score in results.scores
        ),
    )
    _write_table(
        folder / "differences.csv",
        ("unit", "name", "ours", "baseline", "difference", "low", "high", "verdict"),
        (
            (unit, item.name, item.value, router, found.value, found.low, found.high, found.verdict)
            for unit, judged in (("case", results.cases), ("suite", results.suites))
            for item in judged
            for router, found in item.differences.items()
        ),
    )
    _write_table(
        folder / "curves.csv",
        ("case", "router", "share_or_usd", "accuracy"),
        ((score.case, score.router, *point) for score in results.scores for point in score.curve),
    )


def _tree(results: Results) -> dict[str, object]:
    return {
        "questions": {
            name: {"train": train, "scored": scored}
            for name, (train, scored) in results.questions.items()
        },
        "missing_cases": results.missing,
        "scored_questions_in_the_training_part": results.seen,
        "suites": [_judged(item) for item in results.suites],
        "cases": [_judged(item) for item in results.cases],
        "metrics": [
            {"case": score.case, "router": score.router, "honest": score.is_honest, **score.metrics}
            for score in results.scores
        ],
        "benchmark_left_out": results.left_out,
        "shipped": results.shipped,
        "seconds": results.seconds,
    }


def _judged(item: Judged) -> dict[str, object]:
    return {
        "name": item.name,
        "cases": item.cases,
        "ours": item.value,
        "low": item.low,
        "high": item.high,
        "target": item.target,
        "verdict": item.verdict,
        "differences": {
            name: {
                "value": found.value,
                "low": found.low,
                "high": found.high,
                "verdict": found.verdict,
            }
            for name, found in item.differences.items()
        },
    }


def _plain(value: object) -> object:
    """Numbers rounded to what can be read, NaN as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    return value


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([_cell(item) for item in row] for row in rows)


def _cell(item: object) -> object:
    if isinstance(item, float):
        return f"{item:.6g}" if math.isfinite(item) else ""
    return "" if item is None else item
