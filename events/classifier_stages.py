"""What of a classifier found a class, said in words."""

from collections.abc import Mapping
from typing import Final

import msgspec

from events.payloads import DecisionInfo

_WORDS: Final[Mapping[str, str]] = {
    "linear": "the linear stage judged it",
    "encoder": "the encoder stage judged it",
    "abstained": "the learned stage could not judge this prompt; the keyword rules decided",
    "unusable": ("the learned stage gave numbers that cannot be right; the keyword rules decided"),
    "keyword": "a word of the keyword rules decided",
    "no_keyword": "no word of the keyword rules occurs",
}
NOT_JUDGED: Final = frozenset({"abstained", "unusable"})
"""Where a learned stage was asked and did not find the class."""


def stage_in_words(stage: str, route_class: str) -> str:
    """A sentence that ends with the class."""
    words = _WORDS.get(stage) or f"{stage or 'an unnamed stage'} found it"
    return f"{words}: {route_class}"


def why_not_judged(stage: str, route_class: str) -> str | None:
    """The sentence where the learned stage did not find the class, else None."""
    return stage_in_words(stage, route_class) if stage in NOT_JUDGED else None


def explain_decision(decision: DecisionInfo) -> DecisionInfo:
    """The decision with that sentence as its explanation, where there is one."""
    sentence = why_not_judged(decision.stage or "", decision.route_class)
    return msgspec.structs.replace(decision, explanation=sentence or msgspec.UNSET)
