"""The tier of a model from its name: how outcomes of models that no catalogue lists teach what a tier can do."""

import re
from collections.abc import Mapping
from typing import Final

from router_model.catalogue.model import Tier

MEDIUM_FROM_B: Final = 10.0
LARGE_FROM_B: Final = 40.0
"""Billions of parameters from which a model is L2, L3. Of experts (8x7B) half count."""
_SIZE: Final = re.compile(r"(?<![\w.])(?:(\d+)x)?(\d+(?:\.\d+)?) ?b(?![a-z])", re.IGNORECASE)
_MILLIONS: Final = re.compile(r"(?<![\w.])\d+m(?![a-z])", re.IGNORECASE)
NAMED: Final[Mapping[str, Tier]] = {
    "gpt-4o-mini": "L2", "gpt-3.5": "L2", "claude-instant": "L2", "haiku": "L2", "flash": "L2", "o1-mini": "L3",
    "phi-3-mini": "L1", "phi-3.5-mini": "L1", "phi-3-medium": "L2", "davinci": "L3", "curie": "L1", "babbage": "L1",
    "ada": "L1", "codestral-22b": "L2", "mistral-nemo": "L2", "deepseek-coder-v2": "L3", "gemini-1.5-pro": "L3",
    "gpt-4": "L3", "o1-preview": "L3", "claude": "L3", "mistral-large": "L3", "command-r": "L2", "deepseek": "L3",
    "yi-large": "L3", "qwen-max": "L3", "reka-flash": "L2", "grok": "L3", "chatgpt": "L3", "jamba-1.5-large": "L3",
    "jamba-1.5-mini": "L2", "mixtral": "L3", "wizardlm-2-8x22b": "L3", "hermes-2-pro": "L1", "nemo": "L2",
}  # fmt: skip
"""For names without a size, by the first part that occurs; sizes as their makers state, else by price class."""


def tier_of(name: str) -> Tier | None:
    """The tier of a model by its name; None where the name says nothing of its size."""
    lower = name.lower()
    found = _SIZE.search(name.replace("_", "-"))
    if found is not None:
        size = float(found[2]) * (int(found[1]) / 2 if found[1] else 1)
        return "L1" if size < MEDIUM_FROM_B else "L2" if size < LARGE_FROM_B else "L3"
    if _MILLIONS.search(name):
        return "L1"
    return next((tier for part, tier in NAMED.items() if part in lower), None)
