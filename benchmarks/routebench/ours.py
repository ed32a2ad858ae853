"""The shipped router under test: the classifiers of `router_model`, asked as the router function asks them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.routebench.questions import Questions
from events.names import Operation
from router_model.classifier.features import PromptFeatures, extract_features
from router_model.classifier.keyword_rules import TIER_OF, Classification, Classifier

Array = NDArray[np.float64]


class ShippedRouter:
    """Nothing is learned here: what is scored is what is installed.

    `models` are all models of all cases, so that each prompt is classified once. Where the classifier gives no chance,
    the router function takes the quality that the catalogue states of a model; the mean score on the training
    questions stands for that here.
    """

    is_honest = True

    def __init__(self, name: str, classifier: Classifier, models: Sequence[str]) -> None:
        self.name = name
        self._classifier = classifier
        self._models = tuple(models)
        self._known: dict[str, Classification] = {}
        self._stated: dict[str, float] = {}

    def fit(self, train: Questions) -> None:
        """What a catalogue would state of the models. The weights are those that are shipped."""
        self._stated = dict(zip(train.models, train.scores.mean(axis=0).tolist(), strict=True))

    def classified(self, prompts: Sequence[str]) -> list[Classification]:
        for prompt in prompts:
            if prompt not in self._known:
                self._known[prompt] = self._classifier.classify(chat_features(prompt), self._models)
        return [self._known[prompt] for prompt in prompts]

    def pair_scores(self, prompts: Sequence[str], weak: str, strong: str) -> Array:
        """Difference of the chances where both are known, else the class (low, medium, high)."""
        chances = self.success(prompts, (weak, strong))
        if chances is not None:
            return chances[:, 1] - chances[:, 0]
        classes = tuple(TIER_OF)
        return np.array(
            [classes.index(found.route_class) for found in self.classified(prompts)], float
        )

    def success(self, prompts: Sequence[str], models: Sequence[str]) -> Array | None:
        """None when not one model is known on any prompt: a classifier without success heads."""
        found = self.classified(prompts)
        if not any(model in item.success for item in found for model in models):
            return None
        stated = self._stated
        return np.array(
            [[item.success.get(model, stated[model]) for model in models] for item in found]
        )

    def unknown_share(self, prompts: Sequence[str], models: Sequence[str]) -> float:
        """Share of (question, model) pairs without a learned chance."""
        found = self.classified(prompts)
        return float(np.mean([[model not in item.success for model in models] for item in found]))

    def reasons(self, prompts: Sequence[str]) -> dict[str, float]:
        """Share of each reason the classifier gave."""
        names, counts = np.unique(
            [item.reason for item in self.classified(prompts)], return_counts=True
        )
        return {
            str(name): float(count / len(prompts))
            for name, count in zip(names, counts, strict=True)
        }

    def encoder_share(self, prompts: Sequence[str]) -> float:
        """Share of prompts that the encoder decided."""
        return sum(share for reason, share in self.reasons(prompts).items() if "encoder" in reason)

    def abstained_share(self, prompts: Sequence[str]) -> float:
        """Share of prompts on which no model's chance was given: the decision falls back to what the catalogue says."""
        return float(np.mean([not item.success for item in self.classified(prompts)]))


def chat_features(prompt: str) -> PromptFeatures:
    body = {"messages": [{"role": "user", "content": prompt}]}
    return extract_features(Operation.CHAT, body)
