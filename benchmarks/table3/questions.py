"""What is asked: questions with recorded outcomes and lengths, and when each arrives."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.table3.pool import Pool
from router_model.classifier.features import CHARS_PER_TOKEN
from router_model.replay.outcome_dataset import OutcomeRow, Part, assign_part, read_outcomes


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: the question's row and seconds of simulated time since the start."""

    row: OutcomeRow
    at_s: float


def questions(pool: Pool, data: Path, part: Part) -> list[OutcomeRow]:
    """Rows of one part that every model of the pool answered, with the length of the answer. Raises BadOutcomes."""
    names = {model.learned_as for model in pool.models}
    return [
        row
        for row in read_outcomes(data, sources=pool.sources)
        if assign_part(row.qkey) == part and names <= row.outcomes.keys() and names <= row.out_chars.keys()
    ]  # fmt: skip


def arrivals(rows: Sequence[OutcomeRow], *, per_s: float, passes: int, seed: int) -> list[Arrival]:
    """Every question once a pass, each pass in an order of its own, as a Poisson process of that rate."""
    lots, found, at_s = random.Random(seed), [], 0.0
    for _ in range(passes):
        for row in lots.sample(rows, len(rows)):
            at_s += lots.expovariate(per_s)
            found.append(Arrival(row, at_s))
    return found


def tokens_out(row: OutcomeRow, learned_as: str) -> int:
    """Tokens of the recorded answer, by its characters; at least one."""
    return max(1, round(row.out_chars[learned_as] / CHARS_PER_TOKEN))


def tokens_in(row: OutcomeRow) -> int:
    return max(1, round(len(row.prompt) / CHARS_PER_TOKEN))


def lengths(rows: Iterable[OutcomeRow], pool: Pool) -> dict[str, dict[str, int]]:
    """Tokens of the answers: by model id, then by prompt."""
    kept = list(rows)
    return {
        model.id: {row.prompt: tokens_out(row, model.learned_as) for row in kept}
        for model in pool.models
    }
