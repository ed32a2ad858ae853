"""What a run found: tables on the terminal, results.json, tables.md and requests.csv."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.table3.comparing import Findings, Runs
from benchmarks.table3.driving import Answered
from benchmarks.table3.figures import COLUMNS, Change, Column
from benchmarks.table3.markdown import markdown, said
from benchmarks.table3.running import Profiles
from benchmarks.table3.strategies import LATENCY_ONLY, MULTI_OBJECTIVE, RANDOM
from benchmarks.table3.tuned import Tuned

SINGLES = "hull of single models"


def write(findings: Findings, runs: Runs, about: Mapping[str, Any], out: Path) -> None:
    """results.json, tables.md and requests.csv."""
    out.mkdir(parents=True, exist_ok=True)
    found = {"about": about, **asdict(findings)}
    text = msgspec.json.format(msgspec.json.encode(found), indent=1)
    out.joinpath("results.json").write_bytes(text + b"\n")
    out.joinpath("tables.md").write_text(markdown(findings), encoding="utf-8")
    with out.joinpath("requests.csv").open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["strategy", *(field.name for field in fields(Answered))])
        for name, run in runs.items():
            lines.writerows([name, *asdict(one).values()] for one in run)


def show(findings: Findings, tuned: Profiles, console: Console) -> None:
    """The table, the differences, and whether the promise is kept."""
    console.print(_table(findings))
    for other, found in (
        (RANDOM, findings.against_random),
        (LATENCY_ONLY, findings.against_latency_only),
    ):
        if found:
            console.print(_changes_table(f"against {other}, with the 95 % interval", found))
    if findings.above_hull:
        console.print(_hull_table(findings))
    for row in findings.rows:
        console.print(f"{row.name}: " + _listed(row.shares))
    for name, one in tuned.items():
        console.print(_said_of_tuned(name, one))
    console.print("what decided the class, in the multi-objective row: " + _stages(findings))
    for line in _verdicts(findings):
        console.print(line)


def _verdicts(findings: Findings) -> Iterator[str]:
    for column, change in findings.against_random.get(MULTI_OBJECTIVE, {}).items():
        verdict = "better" if change.is_better(column) else "NOT better"
        yield f"multi-objective against random, {column}: {said(column, change)}: {verdict}"
    for column, change in findings.against_expected_random.get(MULTI_OBJECTIVE, {}).items():
        yield f"  against the mean of all random draws, {column}: {said(column, change)}"


def _table(findings: Findings) -> Table:
    table = Table(title="means of a request")
    for column in (
        "strategy",
        "success %",
        "latency s",
        "p95 s",
        "model s",
        "USD/1k",
        "busy USD/1k",
        "failed",
    ):
        table.add_column(column, justify="left" if column == "strategy" else "right")
    for row in findings.rows:
        table.add_row(
            row.name, f"{100 * row.success:.1f}", f"{row.seconds:.2f}", f"{row.p95_s:.1f}", f"{row.model_s:.2f}",
            f"{1000 * row.usd:.3f}", f"{1000 * row.busy_usd:.3f}", str(row.failed),
        )  # fmt: skip
    return table


def _changes_table(title: str, found: Mapping[str, Mapping[Column, Change]]) -> Table:
    table = Table(title=title)
    for column in ("strategy", "success, points", "latency", "cost"):
        table.add_column(column)
    for name, changes in found.items():
        table.add_row(name, *(said(column, changes[column]) for column in COLUMNS))
    return table


def _hull_table(findings: Findings) -> Table:
    table = Table(
        title=f"success above the {SINGLES} at the same mean cost, and at the same mean latency (points)"
    )
    for column in ("strategy", "at its cost", "at its latency"):
        table.add_column(column)
    for name, changes in findings.above_hull.items():
        table.add_row(name, *(said("success", changes[axis]) for axis in COLUMNS[1:]))
    return table


def _said_of_tuned(name: str, tuned: Tuned) -> str:
    profile = tuned.trial.profile
    return (
        f"{name}, on {tuned.prompts} questions of the tune part: alpha {profile.alpha:.3g},"
        f" lambda {profile.latency:.3g}, mu {profile.cost:.3g}; there it got {100 * tuned.trial.accuracy:.1f} %"
    )


def _stages(findings: Findings) -> str:
    routed = next((row for row in findings.rows if row.name == MULTI_OBJECTIVE), findings.rows[0])
    return _listed(routed.stages)


def _listed(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
