"""What a case is measured on: prompts, scores and costs as arrays, and the cut into training and scored questions."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.routebench.suites import Case, Price
from router_model.classifier.features import CHARS_PER_TOKEN, DEFAULT_ANSWER_TOKENS
from router_model.replay.outcome_dataset import (
    OutcomeRow,
    assign_part,
    list_outcome_files,
    read_outcome_file,
)

Array = NDArray[np.float64]
BySource = Mapping[str, Sequence[OutcomeRow]]
_MILLION: Final = 1e6


@dataclass(frozen=True, slots=True)
class Questions:
    """`scores` in [0, 1] and `costs` in USD are [questions, models]; NaN costs where the case needs none."""

    prompts: tuple[str, ...]
    qkeys: tuple[str, ...]
    benchmarks: tuple[str, ...]
    categories: tuple[str, ...]
    models: tuple[str, ...]
    scores: Array
    costs: Array

    def __len__(self) -> int:
        return len(self.prompts)

    def only(self, keep: NDArray[np.bool_]) -> "Questions":
        def kept(items: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(item for item, is_kept in zip(items, keep, strict=True) if is_kept)

        return Questions(
            kept(self.prompts),
            kept(self.qkeys),
            kept(self.benchmarks),
            kept(self.categories),
            self.models,
            self.scores[keep],
            self.costs[keep],
        )


def read_sources(directory: Path, wanted: Collection[str]) -> dict[str, list[OutcomeRow]]:
    """Rows by source, of those wanted sources that the directory has. Raises BadOutcomes."""
    found = list_outcome_files(directory)
    return {source: list(read_outcome_file(found[source])) for source in wanted if source in found}


def gather(case: Case, rows: BySource, prices: Mapping[str, Price]) -> Questions | None:
    """The questions of a case that all its models answered; None when a source is missing or no question is left."""
    if not all(rows.get(source) for source in case.sources):
        return None
    used = [
        row
        for source in case.sources
        for row in rows[source]
        if all(model in row.outcomes for model in case.models)
    ]
    if not used:
        return None
    costs = pool_costs(used, case.models, prices) if case.kind == "pool" else None
    return Questions(
        tuple(row.prompt for row in used),
        tuple(row.qkey for row in used),
        tuple(row.benchmark for row in used),
        tuple(row.category or "" for row in used),
        case.models,
        np.array([[row.outcomes[model] for model in case.models] for row in used]),
        np.full((len(used), len(case.models)), np.nan) if costs is None else costs,
    )


def cut(questions: Questions) -> tuple[Questions, Questions]:
    """(Parts train and tune, part dev) by the fixed cut."""
    is_dev = np.array([assign_part(qkey) == "dev" for qkey in questions.qkeys])
    return questions.only(~is_dev), questions.only(is_dev)


def pool_costs(
    rows: Sequence[OutcomeRow], models: Sequence[str], prices: Mapping[str, Price]
) -> Array:
    """USD of each call: what the row says it cost, else list price times tokens (characters / 4).

    Where the length of an answer is not known it is the model's mean over the rows, else 256 tokens. Raises KeyError
    for a model with neither cost nor price.
    """
    columns = [_model_costs(rows, model, prices) for model in models]
    return np.stack(columns, axis=1)


def _model_costs(rows: Sequence[OutcomeRow], model: str, prices: Mapping[str, Price]) -> Array:
    if all(model in row.cost for row in rows):
        return np.array([row.cost[model] for row in rows])
    price = prices[model]
    typical = _mean_or(
        DEFAULT_ANSWER_TOKENS * CHARS_PER_TOKEN, (row.out_chars.get(model) for row in rows)
    )
    tokens_in = np.array([len(row.prompt) for row in rows]) / CHARS_PER_TOKEN
    tokens_out = np.array([row.out_chars.get(model, typical) for row in rows]) / CHARS_PER_TOKEN
    return (tokens_in * price.usd_in + tokens_out * price.usd_out) / _MILLION


def _mean_or(fallback: float, values: Iterable[int | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else fallback
