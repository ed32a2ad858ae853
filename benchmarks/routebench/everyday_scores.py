"""How well a classifier classes everyday prompts: exactly, within a tier, and how often each stage abstained."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.routebench.everyday_prompts import EverydayPrompt
from benchmarks.routebench.ours import chat_features
from router_model.classifier.keyword_rules import TIER_OF, Classifier

DRAWS: Final = 2000
SEED: Final = 17
CLASSES: Final = tuple(TIER_OF)
ABSTAINED: Final = frozenset({"abstained", "unusable"})
"""What a learned classifier says where its fallback found the class."""
_MODELS: Final = ("one", "another")
"""More than one may answer, as for `auto`: else the encoder is never asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share of prompts and the middle 95 % of the bootstrap's draws."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EverydayScore:
    """One classifier on some prompts.

    `confusion` [label, found] counts prompts, by `CLASSES`. `reasons` are shares by what found the class,
    `by_class` exact shares by label, `chances` the share of prompts for which chances by tier were given too.
    """

    classifier: str
    prompts: int
    exact: Share
    within_one: Share
    abstained: Share
    balanced: float
    chances: float
    reasons: Mapping[str, float]
    confusion: NDArray[np.int64]


def score_everyday(
    name: str, classifier: Classifier, prompts: Sequence[EverydayPrompt]
) -> EverydayScore:
    """Each prompt is asked as the router asks for `auto` with several models."""
    found = [classifier.classify(chat_features(each.prompt), _MODELS) for each in prompts]
    labels = np.array([CLASSES.index(each.label) for each in prompts])
    classes = np.array([CLASSES.index(each.route_class) for each in found])
    confusion = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    np.add.at(confusion, (labels, classes), 1)
    counts = Counter(each.reason for each in found)
    per_class = confusion.diagonal() / np.maximum(1, confusion.sum(axis=1))
    return EverydayScore(
        classifier=name,
        prompts=len(prompts),
        exact=_share(labels == classes),
        within_one=_share(np.abs(labels - classes) <= 1),
        abstained=_share(np.array([each.reason in ABSTAINED for each in found])),
        balanced=float(per_class.mean()),
        chances=float(np.mean([bool(each.tier_success) for each in found])),
        reasons={reason: count / len(found) for reason, count in counts.most_common()},
        confusion=confusion,
    )


def _share(hits: NDArray[np.bool_]) -> Share:
    rows = np.random.default_rng(SEED).integers(len(hits), size=(DRAWS, len(hits)))
    low, high = np.quantile(hits[rows].mean(axis=1), [0.025, 0.975])
    return Share(value=float(hits.mean()), low=float(low), high=float(high))
