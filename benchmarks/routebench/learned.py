"""TF-IDF with logistic regression: the plain learned baseline. Nothing in it was tuned."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from benchmarks.routebench.questions import Questions

Array = NDArray[np.float64]
MAX_CHARS: Final = 8_000
REGULARISATION: Final = 1.0


class TfidfRouter:
    """Words and pairs of words, one logistic regression for each model; a pair is scored by the difference."""

    name = "TF-IDF + LR"
    is_honest = True

    def __init__(self) -> None:
        self._words = TfidfVectorizer()
        self._models: dict[str, LogisticRegression | float] = {}

    def fit(self, train: Questions) -> None:
        self._words = TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, min_df=2, dtype=np.float32
        )
        seen = self._words.fit_transform(_short(train.prompts))
        self._models = {
            model: _fitted(seen, train.scores[:, column] > 0.5)
            for column, model in enumerate(train.models)
        }

    def pair_scores(self, prompts: Sequence[str], weak: str, strong: str) -> Array:
        chances = self.success(prompts, (weak, strong))
        return chances[:, 1] - chances[:, 0]

    def success(self, prompts: Sequence[str], models: Sequence[str]) -> Array:
        seen = self._words.transform(_short(prompts))
        return np.stack([_chances(self._models[model], seen) for model in models], axis=1)


def _fitted(seen: object, right: NDArray[np.bool_]) -> LogisticRegression | float:
    """A regression, or the constant rate where all training questions ended alike."""
    if right.all() or not right.any():
        return float(right.mean())
    return LogisticRegression(C=REGULARISATION, solver="liblinear", random_state=0).fit(seen, right)


def _chances(model: LogisticRegression | float, seen: object) -> Array:
    if isinstance(model, float):
        return np.full(seen.shape[0], model)
    return model.predict_proba(seen)[:, 1]


def _short(prompts: Sequence[str]) -> list[str]:
    return [prompt[:MAX_CHARS] for prompt in prompts]
