"""Results on the terminal: one table of routers by case, then verdicts in words."""

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.routebench.running import Results
from benchmarks.routebench.suites import Suites
from benchmarks.routebench.verdicts import OURS, Judged, summary

_MARKS = {"above": "[green]above[/]", "tie": "[yellow]tie[/]", "below": "[red]below[/]"}


def report(results: Results, suites: Suites, console: Console) -> None:
    console.print(_table(results, suites))
    for item in results.suites:
        console.print(f"suite {item.name} ({suites.suites[item.name]}): {_sentence(item)}")
    extra = [item for item in results.cases if (item.name,) not in suites.headlines.values()]
    for item in extra:
        console.print(f"case {item.name}: {_sentence(item)}")
    for name in results.missing:
        console.print(f"[yellow]case {name}: missing, its files or models are not in the data[/]")
    if results.seen:
        console.print(
            f"[red]{results.seen} scored questions lie in the training part of TRAIN: ours may know them[/]"
        )
    for case, found in results.left_out.items():
        console.print(f"{case}, a benchmark left out of training (APGR): {_left_out(found)}")
    for name, facts in results.shipped.items():
        console.print(
            f"{name}: {facts['encoder_share']:.0%} of prompts went to the encoder; abstained on "
            f"{facts['abstained_on_strange_prompts']:.0%} of 200 made-up prompts"
        )
    for line in summary(results.suites, len(suites.suites), extra):
        console.print(f"[bold]{line}[/]")


def _table(results: Results, suites: Suites) -> Table:
    cases = [case for case in suites.cases if case.name in results.questions]
    table = Table(
        title="primary metric: APGR of a pair, AIQ of a pool (higher is better)",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("router", no_wrap=True)
    for case in cases:
        kind = "APGR" if case.kind == "pair" else "AIQ"
        table.add_column(
            f"{case.name}\n{kind}\nn={results.questions[case.name][1]}", justify="right"
        )
    values = {(score.router, score.case): score for score in results.scores}
    for router in dict.fromkeys(score.router for score in results.scores):
        found = [values.get((router, case.name)) for case in cases]
        is_honest = all(score.is_honest for score in found if score)
        if any(score and score.primary is not None for score in found):
            cells = [_number(score.primary if score else None) for score in found]
            table.add_row(
                router if is_honest else f"{router} (not honest)",
                *cells,
                style="bold" if router == OURS else "" if is_honest else "dim",
            )
    published = [max((item.apgr for item in case.published), default=None) for case in cases]
    table.add_row("published, other split", *map(_number, published), style="dim")
    table.add_row("target", *(_number(case.target) for case in cases), style="dim")
    judged = {item.name: item for item in results.cases}
    verdicts = [judged.get(case.name) for case in cases]
    table.add_row("verdict", *(_MARKS[item.verdict] if item else "-" for item in verdicts))
    return table


def _sentence(item: Judged) -> str:
    text = f"{_MARKS[item.verdict]}, {item.value:.3f} [{item.low:.3f}, {item.high:.3f}]"
    against = [
        f"{name} {item.differences[name].value:+.3f} "
        f"[{item.differences[name].low:+.3f}, {item.differences[name].high:+.3f}]"
        for name in item.unbeaten
    ]
    return f"{text}; not above: {', '.join(against)}" if against else text


def _left_out(found: dict[str, dict[str, float]]) -> str:
    return "; ".join(
        f"{router}: " + ", ".join(f"{name} {value:.2f}" for name, value in values.items())
        for router, values in found.items()
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
