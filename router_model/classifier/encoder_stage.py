"""The encoder stage: a MiniLM-sized DistilBERT network, int8, through onnxruntime and tokenizers. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from router_model.classifier.heads import Array, ComplexityHead, Heads, OutlierGate

MAX_TOKENS: Final = 96
"""The encoder reads this many tokens of a prompt: its time is nearly proportional to them."""
MAX_CHARS: Final = 1_500
"""Text beyond this is not tokenised: it would be cut anyway."""


class Network(Protocol):
    """`run(None, {"input_ids": [B, T] int64, "attention_mask": [B, T] int64})` gives [pooled [B, K]]."""

    def run(self, outputs: None, inputs: dict[str, Any]) -> Sequence[Any]: ...


class Tokenizer(Protocol):
    """Truncates to `MAX_TOKENS`."""

    def encode(self, text: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class EncoderStage:
    """Heads see [pooled network output, latent of the linear stage]. Thread-safe."""

    network: Network
    tokenizer: Tokenizer
    heads: Heads
    gate: OutlierGate
    complexity: ComplexityHead | None = None

    def pooled(self, text: str) -> Array:
        """The network's output for one text [K]: the [CLS] state, then the mean over tokens."""
        # Half of a surrogate pair is no text for the tokeniser.
        cut = text[:MAX_CHARS].encode("utf-8", "replace").decode("utf-8")
        ids = self.tokenizer.encode(cut).ids
        tokens = np.array([ids], dtype=np.int64)
        inputs = {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
        found: Array = self.network.run(None, inputs)[0][0]
        return found
