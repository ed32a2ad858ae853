"""One run: reads the data, fits the baselines, scores every router on every case, judges."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.routebench.bootstrap import draw_counts, row_weights
from benchmarks.routebench.bounds import CategoryMean, Oracle
from benchmarks.routebench.off_distribution import left_out_benchmarks, strange_prompts
from benchmarks.routebench.ours import ShippedRouter
from benchmarks.routebench.predictors import Predictor
from benchmarks.routebench.questions import Questions, cut, gather, read_sources
from benchmarks.routebench.scoring import Score, Task, score_routers
from benchmarks.routebench.suites import Case, Suites
from benchmarks.routebench.verdicts import Judged, judge
from router_model.replay.outcome_dataset import assign_part

SEED: Final = 20_250_101
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Data:
    """The cases that can be measured, what is missing, and scored questions that the shipped router may have seen."""

    tasks: tuple[Task, ...]
    missing: tuple[str, ...]
    seen: int


@dataclass(slots=True)
class Results:
    """Everything found; written by `writing`, shown by `reporting`."""

    questions: dict[str, tuple[int, int]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    seen: int = 0
    scores: list[Score] = field(default_factory=list)
    cases: list[Judged] = field(default_factory=list)
    suites: list[Judged] = field(default_factory=list)
    left_out: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    shipped: dict[str, dict[str, object]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def load(suites: Suites, train: Path, test: Path | None, draws: int) -> Data:
    """Reads both directories. Without `test` the part dev of `train` is scored and the rest trains the baselines.

    With `test` all of `train` trains them, but for questions that `test` has too. Raises BadOutcomes.
    """
    wanted = {source for case in suites.cases for source in case.sources}
    rows = read_sources(train, wanted)
    asked = read_sources(test, wanted) if test else {}
    pairs: dict[str, tuple[Questions, Questions]] = {}
    for case in suites.cases:
        known = gather(case, rows, suites.prices)
        if known is None:
            continue
        parts = (
            cut(known)
            if test is None
            else _without_copies(known, gather(case, asked, suites.prices))
        )
        if parts is not None and all(map(len, parts)):
            pairs[case.name] = parts
    weights = dict(_weights(suites.cases, {name: parts[1] for name, parts in pairs.items()}, draws))
    tasks = tuple(
        Task(case, *pairs[case.name], weights[case.name])
        for case in suites.cases
        if case.name in pairs
    )
    missing = tuple(case.name for case in suites.cases if case.name not in pairs)
    return Data(tasks, missing, _seen(rows, tasks))


def _without_copies(
    known: Questions, scored: Questions | None
) -> tuple[Questions, Questions] | None:
    if scored is None:
        return None
    taken = set(scored.qkeys)
    return known.only(np.array([qkey not in taken for qkey in known.qkeys])), scored


def _weights(
    cases: Sequence[Case], scored: Mapping[str, Questions], draws: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Bootstrap weights by case. Cases of one suite share their draws of questions."""
    for suite in sorted({case.suite for case in cases}):
        names = [case.name for case in cases if case.suite == suite and case.name in scored]
        drawn = sorted({qkey for name in names for qkey in scored[name].qkeys})
        if not drawn:
            continue
        counts = draw_counts(len(drawn), draws, SEED + ord(suite[0]))
        for name in names:
            yield name, row_weights(counts, drawn, scored[name].qkeys)


def _seen(rows: Mapping[str, Sequence[object]], tasks: Sequence[Task]) -> int:
    """Scored questions that lie in the training or tuning part of the training directory."""
    learned = {
        row.qkey for found in rows.values() for row in found if assign_part(row.qkey) != "dev"
    }
    return len({qkey for task in tasks for qkey in task.scored.qkeys} & learned)


def score_all(
    data: Data,
    suites: Suites,
    baselines: Sequence[Predictor],
    shipped: Sequence[ShippedRouter],
    say: Say,
) -> Results:
    """Fits and scores case by case, telling `say` what is going on."""
    results = Results(missing=data.missing, seen=data.seen)
    for task in data.tasks:
        name, scored = task.case.name, task.scored
        results.questions[name] = (len(task.train), len(scored))
        routers = [*shipped, *baselines, CategoryMean(scored)]
        oracle = Oracle(scored)
        for router in routers:
            say(f"{name}: {router.name}")
            router.fit(task.train)
        say(f"{name}: scoring")
        results.scores += score_routers(task, routers, oracle)
    _judge_all(results, suites)
    return results


def _judge_all(results: Results, suites: Suites) -> None:
    measured = [case for case in suites.cases if case.name in results.questions]
    found = [judge(case.name, (case.name,), results.scores, case.target) for case in measured]
    results.cases = [item for item in found if item is not None]
    targets = {case.name: case.target for case in measured}
    for suite, names in suites.headlines.items():
        if all(name in targets for name in names):
            target = targets[names[0]] if len(names) == 1 else None
            judged = judge(suite, names, results.scores, target)
            results.suites += [judged] if judged else []


def leave_one_out(
    data: Data, makers: Mapping[str, Callable[[], Predictor]], results: Results, say: Say
) -> None:
    """Adds APGR on each left-out benchmark, for the pairs whose case has several."""
    for task in data.tasks:
        if task.case.kind != "pair" or len(set(task.scored.benchmarks)) < 2:
            continue
        for name, make in makers.items():
            say(f"{task.case.name}: {name} with a benchmark left out")
            found = left_out_benchmarks(task.train, task.scored, make)
            results.left_out.setdefault(task.case.name, {})[name] = found


def describe_shipped(data: Data, shipped: Sequence[ShippedRouter], results: Results) -> None:
    """Adds what each shipped classifier did: reasons by share, unknown models, abstentions on strange prompts."""
    prompts = sorted({prompt for task in data.tasks for prompt in task.scored.prompts})
    strange = strange_prompts()
    for router in shipped:
        results.shipped[router.name] = {
            "reasons": router.reasons(prompts),
            "encoder_share": router.encoder_share(prompts),
            "unknown_share": {
                task.case.name: router.unknown_share(task.scored.prompts, task.case.models)
                for task in data.tasks
            },
            "abstained_on_strange_prompts": router.abstained_share(strange),
        }
