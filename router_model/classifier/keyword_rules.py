"""Complexity classes of a prompt and the rule-based classifier of the paper ("Keyword Based Routing").

Three classes stand for the three tiers: low -> L1, medium -> L2, high -> L3. Other classifiers satisfy
the same Protocol.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from router_model.catalogue.model import Tier
from router_model.classifier.features import PromptFeatures

RouteClass = Literal["low", "medium", "high"]
TIER_OF: Final[Mapping[RouteClass, Tier]] = {"low": "L1", "medium": "L2", "high": "L3"}

LOW_WORDS: Final = ("sum", "list", "define")
"""The paper's examples of words that indicate low complexity."""
HIGH_WORDS: Final = ("prove", "derive", "explain why")
"""The paper's examples of words that indicate high complexity."""
MORE_LOW_WORDS: Final = ("what is", "who is", "when was", "name", "spell", "translate", "count")
MORE_HIGH_WORDS: Final = ("proof", "step by step", "derivation", "analyse", "analyze", "justify")
"""Ours, in the same spirit: the paper names only the examples above."""


@dataclass(frozen=True, slots=True)
class Classification:
    """A class and why. `reason` is one of a few fixed words (it is a metric label).

    `success` is the calibrated chance in [0, 1] that a model answers this prompt well, by learned name
    (`Model.learned_as`); a model that is not in it is not known to the classifier. `tier_success` is the same for an
    average model of a tier; empty where the classifier does not know or abstains. `answer_tokens` is the expected
    length of each known model's answer, `typical_answer_tokens` that of any other's; None: not predicted.
    """

    route_class: RouteClass
    reason: str
    success: Mapping[str, float] = field(default_factory=dict)
    tier_success: Mapping[Tier, float] = field(default_factory=dict)
    answer_tokens: Mapping[str, float] = field(default_factory=dict)
    typical_answer_tokens: float | None = None

    @property
    def tier(self) -> Tier:
        return TIER_OF[self.route_class]


class Classifier(Protocol):
    """Pure: the same features and models give the same classification.

    `models` are the learned names of the models that may answer; what is known of others may be left out.
    """

    def classify(self, features: PromptFeatures, models: Sequence[str] = ()) -> Classification: ...


class KeywordClassifier:
    """Whole words, any case. A word of high complexity outweighs one of low; no word at all is medium."""

    def __init__(
        self,
        low: Iterable[str] = LOW_WORDS + MORE_LOW_WORDS,
        high: Iterable[str] = HIGH_WORDS + MORE_HIGH_WORDS,
    ) -> None:
        self._low = _any_of(low)
        self._high = _any_of(high)

    def classify(self, features: PromptFeatures, models: Sequence[str] = ()) -> Classification:
        text = features.text.lower()
        if self._high.search(text):
            return Classification("high", "keyword")
        if self._low.search(text):
            return Classification("low", "keyword")
        return Classification("medium", "no_keyword")


def _any_of(words: Iterable[str]) -> re.Pattern[str]:
    spaced = (re.escape(word).replace(r"\ ", r"\s+") for word in words)
    return re.compile(rf"\b(?:{'|'.join(spaced)})\b")
