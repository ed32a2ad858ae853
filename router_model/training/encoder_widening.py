"""A wider encoder that says the same as the one it is made from: MiniLM's 384 numbers a token become DistilBERT's 768.

Net2WiderNet (Chen, Goodfellow, Shlens: "Net2Net", ICLR 2016) over a whole transformer: every number of the residual
stream, of each attention head and of each feed-forward layer is copied; what reads copies divides by their number. So
a wide network need not be trained from nothing where no weights of its size can be had. Needs torch.
"""

from typing import Any, Final

import torch
from transformers import DistilBertConfig, DistilBertModel

NOISE: Final = 0.1
"""Weights of copies differ by this share of their deviation, in ways that cancel out, so that training parts them."""


def widened(model: Any, factor: int, *, seed: int) -> Any:
    """A DistilBertModel with `factor` times the numbers a token, a head and a feed-forward layer.

    Its hidden state is `factor` copies, side by side, of the given one's. Layers, heads, vocabulary and positions stay.
    """
    if factor == 1:
        return model
    small = model.config
    config = DistilBertConfig(
        **{**small.to_dict(), "dim": factor * small.dim, "hidden_dim": factor * small.hidden_dim}
    )
    wide = DistilBertModel(config)
    drawn = torch.Generator().manual_seed(seed)
    state = model.state_dict()
    wide.load_state_dict(
        {name: _widened(name, state[name], factor, small.n_heads, drawn) for name in state}
    )
    return wide


def _widened(name: str, value: Any, factor: int, heads: int, drawn: torch.Generator) -> Any:
    part, kind = name.split(".")[-2:]
    if part in ("q_lin", "k_lin", "v_lin"):
        grown = _copied_in_heads(value, factor, heads)
        if part == "q_lin":
            grown = (
                grown * factor**-0.5
            )  # a product is summed `factor` times, and divided by sqrt(size of a head)
    elif part.endswith("_embeddings"):
        return value.repeat(1, factor)
    else:
        grown = value.repeat(factor, *[1] * (value.dim() - 1))
    if kind == "bias" or value.dim() == 1:
        return grown
    if part == "out_lin":
        return _shared_by_heads(grown, factor, heads, drawn)
    return _shared(grown, factor, drawn)


def _copied_in_heads(value: Any, factor: int, heads: int) -> Any:
    """Rows of each head once more beside themselves, as heads lie one after the other."""
    parted = value.reshape(heads, -1, *value.shape[1:])
    return parted.repeat(1, factor, *[1] * (value.dim() - 1)).reshape(-1, *value.shape[1:])


def _shared(value: Any, factor: int, drawn: torch.Generator) -> Any:
    """Weights [out, in] that read `factor` copies of their inputs: [out, factor * in]; noise over copies sums to 0."""
    noise = torch.randn(factor, *value.shape, generator=drawn) * value.std() * NOISE / factor
    noise = noise - noise.mean(0)
    return torch.cat([value / factor + each for each in noise], 1)


def _shared_by_heads(value: Any, factor: int, heads: int, drawn: torch.Generator) -> Any:
    """As `_shared`, where the copies lie within each head."""
    parted = value.reshape(len(value), heads, -1).permute(1, 0, 2)
    return torch.cat([_shared(each, factor, drawn) for each in parted], 1)
