"""How the strategies of a run compare with each other. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.table3.driving import Answered
from benchmarks.table3.figures import COLUMNS, Change, Column, Draws, Row, row_of
from benchmarks.table3.strategies import LATENCY_ONLY, RANDOM, Strategy

Runs = dict[str, list[Answered]]
"""Requests in order of arrival, by strategy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Rows of the table, and how strategies compare, by name and column. Empty where a run is missing.

    `against_expected_random`: the mean of all random draws. `above_hull`: of strategies that share the pool, above the
    single models that ran, by what stands on the other axis (`usd`, `seconds`).
    """

    rows: tuple[Row, ...]
    against_random: Mapping[str, Mapping[Column, Change]]
    against_latency_only: Mapping[str, Mapping[Column, Change]]
    against_expected_random: Mapping[str, Mapping[Column, Change]]
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
        against_expected_random={name: draws.against_expected(run) for name, run in runs.items()},
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
