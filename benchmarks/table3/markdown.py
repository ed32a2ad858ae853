"""The tables of a run as Markdown, for its page in docs/benchmarks. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.table3.comparing import Findings
from benchmarks.table3.figures import COLUMNS, Change, Column

_HEAD = (
    "Strategy",
    "Success %",
    "Latency s",
    "p95 s",
    "of it model s",
    "USD / 1,000",
    "busy USD / 1,000",
)
_CHANGES = ("Strategy", "Success, points", "Latency", "Cost")


def markdown(findings: Findings) -> str:
    """The rows, then what they come to against random, latency-only and the hull of single models."""
    parts = ["## Means of a request", *_table(_HEAD, _means(findings))]
    for title, found in (
        ("Against random", findings.against_random),
        ("Against latency only", findings.against_latency_only),
    ):
        if found:
            parts += [f"\n## {title}", *_table(_CHANGES, _changes(found, COLUMNS))]
    head = ("Strategy", "Success, points", "Cost")
    expected = findings.against_expected_random
    parts += [
        "\n## Against the mean of all random draws",
        *_table(head, _changes(expected, ("success", "usd"))),
    ]
    if findings.above_hull:
        rows = (
            (name, *(said("success", changes[axis]) for axis in COLUMNS[1:]))
            for name, changes in findings.above_hull.items()
        )
        head = ("Strategy", "Points above at its cost", "Points above at its latency")
        parts += ["\n## Against the hull of single models", *_table(head, rows)]
    shares = ((row.name, _listed(row.shares), _listed(row.stages)) for row in findings.rows)
    parts += ["\n## Who answered", *_table(("Strategy", "Models", "Stages"), shares)]
    return "\n".join(parts) + "\n"


def said(column: Column, change: Change) -> str:
    """A change with its interval: points of success, else per cent."""
    unit = "" if column == "success" else " %"
    value, low, high = (f"{100 * one:+.1f}" for one in (change.value, change.low, change.high))
    return f"{value}{unit} [{low}, {high}]"


def _means(findings: Findings) -> Iterable[Sequence[str]]:
    for row in findings.rows:
        yield (
            row.name, f"{100 * row.success:.1f}", f"{row.seconds:.2f}", f"{row.p95_s:.1f}",
            f"{row.model_s:.2f}", f"{1000 * row.usd:.3f}", f"{1000 * row.busy_usd:.3f}",
        )  # fmt: skip


def _changes(
    found: Mapping[str, Mapping[Column, Change]], columns: Sequence[Column]
) -> Iterable[Sequence[str]]:
    for name, changes in found.items():
        yield name, *(said(column, changes[column]) for column in columns)


def _listed(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    rule = ["---"] * len(head)
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]
