"""The trained encoder as an ONNX graph with int8 weights. Needs torch and onnx."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers import optimizer
from onnxruntime.transformers.fusion_options import FusionOptions
from torch import nn

from router_model.classifier.weights import load_network, pack_strings
from router_model.training.encoder_torch import pooled, pooled_of, tokenized

OPSET: Final = 17
PARITY_PROMPTS: Final = (
    "What is 2 + 2?",
    "hi",
    "Prove that there are infinitely many primes.",
    "Write a Python function that returns the n-th Fibonacci number.",
    "Which of these is a mammal?\nA. trout\nB. whale\nC. eagle\nD. newt\nAnswer:",
    "Summarise the causes of the First World War in three sentences.",
    "Natalia sold 48 clips in April and half as many in May. How many did she sell altogether?",
    "def add(a, b):\n    return a - b\n\nFix the bug.",
    "¿Cuál es la capital de Francia?",
    "请用一句话介绍法国的首都。",
    "Translate to German: The weather is fine today.",
    "Let f(x) = x^2 \\sin(1/x) for x \\neq 0 and f(0) = 0. Is f' continuous at 0?",
    "Is the following sentiment positive or negative? I would not watch it again.",
    "A train leaves at 9:40 and arrives at 13:05. How long is the journey?",
    "Give me 5 names for a cat 🐱",
    "The patient presents with chest pain and ST elevation in II, III and aVF. Which artery is blocked?",
    "SELECT name FROM users WHERE id = 7; -- what does this return if no such row exists?",
    "In contract law, which of the following is NOT a requirement of a valid offer?",
    "   ",
    "long " * 300,
)
"""Questions, code, several scripts, next to nothing, and more than the network reads."""


def export_encoder(model: Any, whole: Path, small: Path) -> None:
    """Writes the float32 graph to `whole` and the int8 one to `small`."""
    model.config._attn_implementation = "eager"  # noqa: SLF001 - what the exporter can trace
    module = _Pooling.of(model)
    tokens = torch.tensor([[1, 2, 3, 1], [1, 2, 1, 0]])  # what they mean matters to no graph
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    axes = {"input_ids": {0: "batch", 1: "tokens"}, "attention_mask": {0: "batch", 1: "tokens"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns of branches that never differ here
        torch.onnx.export(
            module,
            (tokens, mask),
            str(whole),
            input_names=list(axes),
            output_names=["pooled"],
            dynamic_axes={**axes, "pooled": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )
    fused = whole.with_suffix(".fused.onnx")
    with _without_advice():
        _fuse(model, whole, fused)
        quantize_dynamic(
            str(fused),
            str(small),
            weight_type=QuantType.QInt8,
            per_channel=True,
            # Fused operators carry no type of their own.
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )


def _fuse(model: Any, whole: Path, fused: Path) -> None:
    """Attention and activations as one operator each: a quarter less time on two threads.

    Layer norms keep their additions beside them: as one operator (SkipLayerNormalization) onnxruntime 1.31 takes four
    times as long for them on a CPU, a sixth of the whole network. Whoever loads the graph keeps it from fusing them
    (`router_model.classifier.weights`).
    """
    options = FusionOptions("bert")
    options.enable_skip_layer_norm = options.enable_bias_skip_layer_norm = False
    found = optimizer.optimize_model(
        str(whole),
        model_type="bert",
        num_heads=model.config.n_heads,
        hidden_size=model.config.dim,
        optimization_options=options,
        opt_level=1,
    )
    found.save_model_to_file(str(fused))


@contextmanager
def _without_advice() -> Iterator[None]:
    """Keeps the quantiser from advising a preparation, on the root logger, that dynamic quantisation can do without."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def write_parity(model: Any, tokenizer: Path, path: Path) -> None:
    """Writes `prompts` (packed strings) and `pooled` [20, K], the network's float32 output for them, as an npz file."""
    pooled_exactly = pooled_of(model, tokenized(tokenizer, PARITY_PROMPTS), is_exact=True)
    np.savez_compressed(path, prompts=pack_strings(PARITY_PROMPTS), pooled=pooled_exactly)


class _Pooling:
    """Makes the module that is traced: network and pooling in one."""

    @staticmethod
    def of(model: Any) -> Any:
        module = nn.Module()
        module.add_module("model", model)
        module.forward = lambda input_ids, attention_mask: pooled(model, input_ids, attention_mask)
        return module.eval()


def pooled_by_graph(
    graph: Path, ids: list[list[int]], *, told: Callable[[float], None] = lambda _: None
) -> npt.NDArray[np.float32]:
    """Pooled output [N, K] of a written graph, prompt by prompt, as it is served."""
    session = load_network(graph.read_bytes(), threads=os.cpu_count() or 1)
    rows = []
    for each in ids:
        tokens = np.array([each], dtype=np.int64)
        inputs = {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
        rows.append(session.run(None, inputs)[0][0])
        told(len(rows) / len(ids))
    return np.stack(rows).astype(np.float32)


def least_cosine(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """Smallest cosine similarity of corresponding rows."""
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / lengths).min())
