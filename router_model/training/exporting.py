"""The trained encoder as an ONNX graph with int8 weights. Needs torch and onnx."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn

from router_model.training.encoder_torch import pooled

OPSET: Final = 17


def export_encoder(model: Any, whole: Path, small: Path) -> None:
    """Writes the float32 graph to `whole` and the int8 one to `small`."""
    model.config._attn_implementation = "eager"  # noqa: SLF001 - what the exporter can trace
    module = _Pooling.of(model)
    tokens = torch.tensor([[101, 2054, 2003, 102], [101, 2129, 102, 0]])
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
    quantize_dynamic(str(whole), str(small), weight_type=QuantType.QInt8, per_channel=True)


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
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
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
