"""What a run found: a table on the terminal, results.json and requests.csv."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.table3.driving import Answered
from benchmarks.table3.figures import COLUMNS, Change, Column, Draws, Row, row_of
from benchmarks.table3.running import Runs
from benchmarks.table3.strategies import LATENCY_ONLY, MULTI_OBJECTIVE, RANDOM, Strategy
from benchmarks.table3.tuned import Tuned

SINGLES = "hull of single models"


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Rows of the table; `against_random` and `against_latency_only` by strategy and column; `above_hull`, for
    the router's strategies, by what stands on the other axis (`usd`, `seconds`). Empty where a run is missing.
    """

    rows: tuple[Row, ...]
    against_random: Mapping[str, Mapping[Column, Change]]
    against_latency_only: Mapping[str, Mapping[Column, Change]]
    above_hull: Mapping[str, Mapping[Column, Change]]


def find(runs: Runs, chosen: Sequence[Strategy], seed: int) -> Findings:
    """Every figure of a run."""
    draws = Draws(next(iter(runs.values())), seed)
    alone = {one.name for one in chosen if one.is_alone}
    singles = [run for name, run in runs.items() if name in alone]
    return Findings(
        rows=tuple(row_of(name, run) for name, run in runs.items()),
        against_random=_against(RANDOM, runs, draws),
        against_latency_only=_against(LATENCY_ONLY, runs, draws),
        above_hull={
            name: {axis: draws.above_hull(run, singles, axis) for axis in COLUMNS[1:]}
            for name, run in runs.items()
            if len(singles) > 1 and name not in alone
        },
    )


def _against(other: str, runs: Runs, draws: Draws) -> dict[str, dict[Column, Change]]:
    if other not in runs:
        return {}
    return {
        name: {column: draws.change(run, runs[other], column) for column in COLUMNS}
        for name, run in runs.items()
        if name != other
    }


def write(findings: Findings, runs: Runs, about: Mapping[str, Any], out: Path) -> None:
    """results.json and requests.csv."""
    out.mkdir(parents=True, exist_ok=True)
    found = {"about": about, **asdict(findings)}
    text = msgspec.json.format(msgspec.json.encode(found), indent=1)
    out.joinpath("results.json").write_bytes(text + b"\n")
    with out.joinpath("requests.csv").open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["strategy", *(field.name for field in fields(Answered))])
        for name, run in runs.items():
            lines.writerows([name, *asdict(one).values()] for one in run)


def show(findings: Findings, tuned: Tuned, console: Console) -> None:
    """The table, the differences, and whether the promise is kept."""
    console.print(_table(findings))
    console.print(_said_of_tuned(tuned))
    console.print("classifier stages of the router's rows: " + _stages(findings))
    if findings.above_hull:
        console.print(_hull_table(findings))
    ours = findings.against_random.get(MULTI_OBJECTIVE)
    if ours is not None:
        for column, change in ours.items():
            verdict = "better" if change.is_better(column) else "NOT better"
            console.print(
                f"multi-objective against random, {column}: {_said(column, change)}: {verdict}"
            )


def _table(findings: Findings) -> Table:
    table = Table(
        title="success, latency and cost of a request; changes against random, 95 % interval"
    )
    for column in (
        "strategy",
        "success %",
        "latency s",
        "p95 s",
        "USD / 1k",
        "busy USD / 1k",
        "failed",
    ):
        table.add_column(column, justify="left" if column == "strategy" else "right")
    for name in ("success", "latency", "cost"):
        table.add_column(f"{name} vs random", justify="right")
    table.add_column("models")
    for row in findings.rows:
        changes = findings.against_random.get(row.name)
        said = ("", "", "") if changes is None else (_said(c, changes[c]) for c in COLUMNS)
        shares = ", ".join(f"{name} {share:.0%}" for name, share in list(row.shares.items())[:3])
        table.add_row(
            row.name, f"{100 * row.success:.1f}", f"{row.seconds:.2f}", f"{row.p95_s:.1f}",
            f"{1000 * row.usd:.4f}", f"{1000 * row.busy_usd:.4f}", str(row.failed), *said, shares,
        )  # fmt: skip
    return table


def _hull_table(findings: Findings) -> Table:
    table = Table(
        title=f"success above the {SINGLES} at the same mean cost, and at the same mean latency (points)"
    )
    for column in ("strategy", "at its cost", "at its latency"):
        table.add_column(column)
    for name, changes in findings.above_hull.items():
        table.add_row(name, *(_said("success", changes[axis]) for axis in COLUMNS[1:]))
    return table


def _said(column: Column, change: Change) -> str:
    unit = "" if column == "success" else " %"
    value, low, high = (f"{100 * one:+.1f}" for one in (change.value, change.low, change.high))
    return f"{value}{unit} [{low}, {high}]"


def _said_of_tuned(tuned: Tuned) -> str:
    profile = tuned.trial.profile
    return (
        f"tuned on {tuned.prompts} questions of the tune part: alpha {profile.alpha:.3g}, lambda {profile.latency:.3g},"
        f" mu {profile.cost:.3g}; there it got {100 * tuned.trial.accuracy:.1f} %"
    )


def _stages(findings: Findings) -> str:
    routed = next((row for row in findings.rows if row.name == MULTI_OBJECTIVE), findings.rows[0])
    return ", ".join(f"{name} {share:.0%}" for name, share in routed.stages.items())
