"""What a fit sees and what it comes to: linear maps over terms and numbers, in numpy."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from router_model.training.vocabulary import SparseRows

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a stage sees of N prompts: sparse terms (None: none) over `size` columns, and dense numbers [N, D]."""

    dense: Floats
    terms: SparseRows | None = None
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """Latent = terms @ table + dense @ mixing + offset; logits = latent @ weight.T + bias, models then classes."""

    table: Floats | None
    mixing: Floats
    offset: Floats
    weight: Floats
    bias: Floats

    def latent(self, inputs: Inputs) -> Floats:
        """Latent [N, K] of every prompt."""
        found: Floats = inputs.dense @ self.mixing + self.offset
        if self.table is not None and inputs.terms is not None:
            rows = inputs.terms
            for row, (start, end) in enumerate(zip(rows.starts, rows.starts[1:], strict=False)):
                found[row] += rows.weights[start:end] @ self.table[rows.columns[start:end]]
        return found

    def logits(self, inputs: Inputs) -> Floats:
        """Logits [N, M + 3]."""
        found: Floats = self.latent(inputs) @ self.weight.T + self.bias
        return found
