"""all-MiniLM-L6-v2 as an ONNX graph, made from the safetensors of its wheel, without torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.numpy import load_file

LAYERS: Final = 6
HEADS: Final = 12
WIDTH: Final = 384
_OPSET: Final = 20
_EPSILON: Final = 1e-12
_HIDDEN: Final = -1e4
"""Added to the attention of padding."""


class _Graph:
    """Nodes and weights as they are added; `add` returns the name of the one output."""

    def __init__(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._weights = weights

    def add(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def weight(self, name: str, *, turned: bool = False) -> str:
        return self.constant(name, self._weights[name].T if turned else self._weights[name])

    def constant(self, name: str, value: object) -> str:
        array = np.ascontiguousarray(value)
        self.constants.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def linear(self, value: str, name: str) -> str:
        product = self.add("MatMul", value, self.weight(f"{name}.weight", turned=True))
        return self.add("Add", product, self.weight(f"{name}.bias"))

    def normed(self, value: str, name: str) -> str:
        scale, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.add("LayerNormalization", value, scale, bias, axis=-1, epsilon=_EPSILON)

    def heads(self, value: str, order: list[int]) -> str:
        shape = self.constant("split", np.array([0, 0, HEADS, WIDTH // HEADS]))
        return self.add("Transpose", self.add("Reshape", value, shape), perm=order)


def write_minilm(safetensors: Path, target: Path) -> None:
    """Writes the encoder with int8 weights: inputs `ids` and `mask` [n, tokens], output `states` [n, tokens, 384]."""
    graph = _Graph(load_file(safetensors))
    states = _embedded(graph)
    mask = graph.add("Cast", "mask", to=TensorProto.FLOAT)
    absent = graph.add("Sub", graph.constant("one", np.float32(1)), mask)
    absent = graph.add("Unsqueeze", absent, graph.constant("inner", np.array([1, 2])))
    absent = graph.add("Mul", absent, graph.constant("hidden", np.float32(_HIDDEN)))
    for layer in range(LAYERS):
        states = _layer(graph, states, absent, f"encoder.layer.{layer}")
    plain = target.with_suffix(".plain.onnx")
    onnx.save(_model(graph, states), str(plain))
    quantize_dynamic(plain, target, weight_type=QuantType.QInt8, per_channel=True)
    plain.unlink()


def _embedded(graph: _Graph) -> str:
    words = graph.add("Gather", graph.weight("embeddings.word_embeddings.weight"), "ids")
    length = graph.add("Shape", "ids", start=1, end=2)
    places = graph.add(
        "Slice",
        graph.weight("embeddings.position_embeddings.weight"),
        graph.constant("first", np.array([0])),
        length,
    )
    kind = graph.add(
        "Gather",
        graph.weight("embeddings.token_type_embeddings.weight"),
        graph.constant("zero", np.int64(0)),
    )
    total = graph.add("Add", graph.add("Add", words, places), kind)
    return graph.normed(total, "embeddings.LayerNorm")


def _layer(graph: _Graph, states: str, absent: str, name: str) -> str:
    query, key, value = (
        graph.heads(graph.linear(states, f"{name}.attention.self.{part}"), order)
        for part, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3]))
    )
    scale = graph.constant("scale", np.float32((WIDTH // HEADS) ** -0.5))
    likeness = graph.add("Mul", graph.add("MatMul", query, key), scale)
    share = graph.add("Softmax", graph.add("Add", likeness, absent), axis=-1)
    seen = graph.add("Transpose", graph.add("MatMul", share, value), perm=[0, 2, 1, 3])
    seen = graph.add("Reshape", seen, graph.constant("join", np.array([0, 0, WIDTH])))
    seen = graph.linear(seen, f"{name}.attention.output.dense")
    states = graph.normed(graph.add("Add", seen, states), f"{name}.attention.output.LayerNorm")
    inner = graph.add("Gelu", graph.linear(states, f"{name}.intermediate.dense"))
    inner = graph.linear(inner, f"{name}.output.dense")
    return graph.normed(graph.add("Add", inner, states), f"{name}.output.LayerNorm")


def _model(graph: _Graph, states: str) -> onnx.ModelProto:
    def tensor(name: str, kind: int, shape: list[object]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    graph.nodes.append(helper.make_node("Identity", [states], ["states"], "last"))
    made = helper.make_graph(
        graph.nodes,
        "minilm",
        [tensor(name, TensorProto.INT64, ["n", "tokens"]) for name in ("ids", "mask")],
        [tensor("states", TensorProto.FLOAT, ["n", "tokens", WIDTH])],
        list(graph.constants.values()),
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9)
