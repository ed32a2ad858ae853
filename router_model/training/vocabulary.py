"""Terms of a training set: which ones are kept, and prompts as sparse tf-idf rows of them."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from router_model.classifier.linear_stage import CLIP
from router_model.classifier.prompt_terms import count_terms, extract_numbers
from router_model.training.dataset import TooLittleData

Floats = npt.NDArray[np.float32]
MIN_PROMPTS: Final = 3
"""A term of fewer prompts is not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseRows:
    """N rows in CSR form: row i is `columns[starts[i]:starts[i + 1]]` with `weights` (unit length)."""

    columns: npt.NDArray[np.int64]
    weights: Floats
    starts: npt.NDArray[np.int64]

    def take(
        self, rows: npt.NDArray[np.intp]
    ) -> tuple[npt.NDArray[np.int64], Floats, npt.NDArray[np.int64]]:
        """Columns, weights and starts (without the end) of some rows."""
        spans = [slice(self.starts[row], self.starts[row + 1]) for row in rows]
        sizes = np.array([span.stop - span.start for span in spans], dtype=np.int64)
        starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
        columns = np.concatenate([self.columns[span] for span in spans])
        return columns, np.concatenate([self.weights[span] for span in spans]), starts


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Features of every prompt: sparse `rows` [N, V], standardised `numbers` [N, F], and what makes them anew: `kept`
    terms by row number with `idf` [V], `mean` and `deviation` [F]. `coverage` [N]: share of a prompt's terms kept.
    """

    kept: tuple[str, ...]
    idf: Floats
    mean: Floats
    deviation: Floats
    rows: SparseRows
    numbers: Floats
    coverage: Floats


def terms_of(prompts: Sequence[str], train: npt.NDArray[np.intp], *, size: int) -> Terms:
    """Features of all prompts; vocabulary (the `size` most frequent terms), idf and scaling are the training part's.

    Raises:
        TooLittleData: no term occurs often enough.
    """
    counts = [count_terms(prompt) for prompt in prompts]
    frequency: Counter[str] = Counter()
    for row in train:
        frequency.update(counts[row].keys())
    ordered = sorted(frequency.items(), key=lambda item: (-item[1], item[0]))[:size]
    kept = tuple(term for term, seen in ordered if seen >= MIN_PROMPTS and _is_writable(term))
    if not kept:
        raise TooLittleData(f"no word occurs in {MIN_PROMPTS} training prompts")
    idf = np.array(
        [math.log((1 + len(train)) / (1 + frequency[term])) + 1 for term in kept], np.float32
    )
    raw = np.stack([extract_numbers(prompt) for prompt in prompts])
    mean, deviation = raw[train].mean(axis=0), raw[train].std(axis=0) + 1e-6
    rows, coverage = _rows(counts, {term: number for number, term in enumerate(kept)}, idf)
    return Terms(
        kept=kept,
        idf=idf,
        mean=mean,
        deviation=deviation,
        rows=rows,
        numbers=np.clip((raw - mean) / deviation, -CLIP, CLIP).astype(np.float32),
        coverage=coverage,
    )


def _is_writable(term: str) -> bool:
    """Not so: NUL, which separates terms in the file, and halves of surrogate pairs."""
    return "\x00" not in term and not any("\ud800" <= sign <= "\udfff" for sign in term)


def _rows(
    counts: Sequence[Counter[str]], number: dict[str, int], idf: Floats
) -> tuple[SparseRows, Floats]:
    columns, weights, starts, coverage = [], [], [0], []
    for found in counts:
        known = [(number[term], count) for term, count in found.items() if term in number]
        where = np.array([column for column, _ in known], dtype=np.int64)
        weight = np.array([1 + math.log(count) for _, count in known], np.float32) * idf[where]
        columns.append(where)
        weights.append(weight / max(1e-9, float(np.linalg.norm(weight))))
        starts.append(starts[-1] + len(known))
        coverage.append(len(known) / max(1, len(found)))
    rows = SparseRows(
        columns=np.concatenate(columns),
        weights=np.concatenate(weights).astype(np.float32),
        starts=np.array(starts, dtype=np.int64),
    )
    return rows, np.array(coverage, np.float32)
