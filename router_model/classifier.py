"""Complexity classes of a prompt and the rule-based classifier of the paper ("Keyword Based Routing").

Three classes stand for the three tiers: low -> L1, medium -> L2, high -> L3. Other classifiers satisfy
the same Protocol.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from router_model.catalogue import Tier
from router_model.features import PromptFeatures

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
    """A class and why. `reason` is one of a few fixed words (it is a metric label)."""

    route_class: RouteClass
    reason: str

    @property
    def tier(self) -> Tier:
        return TIER_OF[self.route_class]


class Classifier(Protocol):
    """Pure: the same features give the same class."""

    def classify(self, features: PromptFeatures) -> Classification: ...


class KeywordClassifier:
    """Whole words, any case. A word of high complexity outweighs one of low; no word at all is medium."""

    def __init__(
        self,
        low: Iterable[str] = LOW_WORDS + MORE_LOW_WORDS,
        high: Iterable[str] = HIGH_WORDS + MORE_HIGH_WORDS,
    ) -> None:
        self._low = _any_of(low)
        self._high = _any_of(high)

    def classify(self, features: PromptFeatures) -> Classification:
        text = features.text.lower()
        if self._high.search(text):
            return Classification("high", "keyword")
        if self._low.search(text):
            return Classification("low", "keyword")
        return Classification("medium", "no_keyword")


def _any_of(words: Iterable[str]) -> re.Pattern[str]:
    spaced = (re.escape(word).replace(r"\ ", r"\s+") for word in words)
    return re.compile(rf"\b(?:{'|'.join(spaced)})\b")
