"""The classifiers of the product that are scored and timed, by name, each with how to load it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from benchmarks.routebench.ours import ShippedRouter
from benchmarks.routebench.verdicts import OURS
from router_model.classifier import Classifier, KeywordClassifier

STAGES: Final[Mapping[str, Callable[[], Classifier]]] = {"keyword": KeywordClassifier}
DEFAULT: Final = "keyword"
"""What the product uses where nothing is configured: this one is `ours`."""


def shipped_routers(models: Sequence[str]) -> list[ShippedRouter]:
    """`ours` first, then every other stage as `ours <name>`. `models` are all models of all cases."""
    names = [DEFAULT, *(name for name in STAGES if name != DEFAULT)]
    return [
        ShippedRouter(OURS if name == DEFAULT else f"{OURS} {name}", STAGES[name](), models)
        for name in names
    ]
