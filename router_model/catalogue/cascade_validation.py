"""What types cannot say about the cascades of a catalogue. Each check yields problems with their key paths."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from router_model.cascade.confidence import are_points_valid
from router_model.catalogue.model import Cascade, Catalogue
from router_model.catalogue.strict_yaml import Problem

LEAST_STEPS: Final = 2
MOST_STEPS: Final = 4
"""All steps travel in one attribute of the routed event."""
_OPERATIONS: Final = frozenset({"chat", "completions"})


def check_cascades(catalogue: Catalogue) -> Iterator[Problem]:
    """Steps, thresholds and maps of every cascade."""
    for name, cascade in catalogue.cascades.items():
        path = f"cascades.{name}"
        yield from _steps(path, cascade)
        yield from _abilities(path, cascade, catalogue)
        yield from _numbers(path, cascade.min_confidence, cascade.hold_tokens)
        for model, own in cascade.judging.items():
            below = f"{path}.judging.{model}"
            if model not in cascade.steps[:-1]:
                yield Problem(below, "is not a step, or the last one, which always answers")
            yield from _numbers(below, own.min_confidence, own.hold_tokens)
            if not are_points_valid(own.calibration):
                yield Problem(
                    f"{below}.calibration",
                    "must be [raw, chance] pairs in 0 to 1: raw rising, chance never falling",
                )


def _steps(path: str, cascade: Cascade) -> Iterator[Problem]:
    if not LEAST_STEPS <= len(cascade.steps) <= MOST_STEPS:
        yield Problem(f"{path}.steps", f"must be {LEAST_STEPS} to {MOST_STEPS} models")
    for model, count in Counter(cascade.steps).items():
        if count > 1:
            yield Problem(f"{path}.steps", f"{model!r} is there twice")


def _abilities(path: str, cascade: Cascade, catalogue: Catalogue) -> Iterator[Problem]:
    models = [model for step in cascade.steps if (model := catalogue.model(step)) is not None]
    common = _OPERATIONS.intersection(*(model.capabilities for model in models))
    if models and not common:
        yield Problem(f"{path}.steps", "the models have neither chat nor completions in common")


def _numbers(path: str, confidence: float | None, hold: int | None) -> Iterator[Problem]:
    if confidence is not None and not 0 <= confidence <= 1:
        yield Problem(f"{path}.min_confidence", "must be from 0 to 1")
    if hold is not None and hold < 1:
        yield Problem(f"{path}.hold_tokens", "must be at least 1")
