"""What knows more than a router may: the category's mean (a hint) and the outcome itself (the oracle)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.routebench.questions import Questions

Array = NDArray[np.float64]
_PRIOR_SEEN = 5


class CategoryMean:
    """Mean training score of the question's benchmark and subject, which a served prompt does not come with."""

    name = "category mean"
    is_honest = False

    def __init__(self, scored: Questions) -> None:
        self._subject_of = _subjects(scored)
        self._means: dict[tuple[str, str], Array] = {}
        self._all: Array = np.empty(0)
        self._columns: dict[str, int] = {}

    def fit(self, train: Questions) -> None:
        self._columns = {model: column for column, model in enumerate(train.models)}
        self._all = train.scores.mean(axis=0)
        subjects = list(zip(train.benchmarks, train.categories, strict=True))
        rows: dict[tuple[str, str], list[int]] = {}
        for row, subject in enumerate(subjects):
            rows.setdefault(subject, []).append(row)
        self._means = {
            subject: (train.scores[found].sum(axis=0) + _PRIOR_SEEN * self._all)
            / (len(found) + _PRIOR_SEEN)
            for subject, found in rows.items()
        }

    def pair_scores(self, prompts: Sequence[str], weak: str, strong: str) -> Array:
        chances = self.success(prompts, (weak, strong))
        return chances[:, 1] - chances[:, 0]

    def success(self, prompts: Sequence[str], models: Sequence[str]) -> Array:
        found = [self._means.get(self._subject_of[prompt], self._all) for prompt in prompts]
        return np.stack(found)[:, [self._columns[model] for model in models]]


class Oracle:
    """Knows how each model scored."""

    name = "oracle"
    is_honest = False

    def __init__(self, scored: Questions) -> None:
        self._row_of = {prompt: row for row, prompt in enumerate(scored.prompts)}
        self._scored = scored

    def fit(self, train: Questions) -> None:
        """Nothing: it knows."""

    def pair_scores(self, prompts: Sequence[str], weak: str, strong: str) -> Array:
        chances = self.success(prompts, (weak, strong))
        return chances[:, 1] - chances[:, 0]

    def success(self, prompts: Sequence[str], models: Sequence[str]) -> Array:
        rows = [self._row_of[prompt] for prompt in prompts]
        columns = [self._scored.models.index(model) for model in models]
        return self._scored.scores[rows][:, columns]


def _subjects(questions: Questions) -> dict[str, tuple[str, str]]:
    subjects = zip(questions.benchmarks, questions.categories, strict=True)
    return dict(zip(questions.prompts, subjects, strict=True))
