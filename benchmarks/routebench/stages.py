"""The classifiers of the product that are scored and timed, by name, each with how to load it."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.routebench.ours import ShippedRouter
from benchmarks.routebench.verdicts import OURS
from router_model.classifier.hybrid import MODES
from router_model.classifier.keyword_rules import Classifier, KeywordClassifier
from router_model.classifier.weights import WeightsUnusable, load_learned

DEFAULT: Final = "transformer"
"""What the product uses where nothing is configured: this one is `ours`."""


def stages_of(weights: Path | None) -> Mapping[str, Callable[[], Classifier]]:
    """How each stage is loaded. `weights`: a directory as `pickspin train` writes it; None: the shipped one."""
    learned = {mode: partial(load_learned, weights, mode=mode) for mode in MODES}
    return {"keyword": KeywordClassifier, **learned}


def shipped_routers(
    models: Sequence[str],
    warn: Callable[[str], None],
    weights: Path | None = None,
    *,
    called: str = OURS,
) -> list[ShippedRouter]:
    """`ours` (`called`) first, then every other stage as `ours <name>`. `models` are all models of all cases.

    What cannot be loaded is told to `warn` and left out; without the default, `ours` is the keyword rule, as it is when
    the product serves.
    """
    loaded: dict[str, Classifier] = {}
    for name, load in stages_of(weights).items():
        try:
            loaded[name] = load()
        except WeightsUnusable as exc:
            warn(f"{name}: {exc}")
    default = DEFAULT if DEFAULT in loaded else "keyword"
    names = [default, *(name for name in loaded if name != default)]
    return [
        ShippedRouter(called if name == default else f"{called} {name}", loaded[name], models)
        for name in names
    ]
