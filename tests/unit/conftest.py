"""A small weights directory that holds together: for those who load it, those who use it and those who break it."""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from router_model.classifier import weights
from router_model.classifier.prompt_terms import NUMBER_NAMES, SCHEME

TERMS = ("prove", "sum", "the", "of", "is", "2", "is the", "the sum", "?", "rain")
NAMES = ("small", "large", "tier:L1", "tier:L2", "tier:L3")
WORDS = ("[UNK]", "prove", "sum", "the", "of", "what", "is", "rain")
K, NUMBERS, POOLED = 4, len(NUMBER_NAMES), 6


@dataclass
class TinyWeights:
    """Contents of a weights directory, to be changed at will and then written.

    "prove" pulls the class to high, "sum" to low; "large" is better than "small", and better still on "prove". The
    encoder takes the mean of the embeddings of the tokens; its heads find everything high. No prompt is an outlier.
    """

    linear: dict[str, Any]
    encoder: dict[str, Any]
    embeddings: Any
    network: bytes
    tokenizer: bytes
    manifest: dict[str, Any] = field(default_factory=dict)

    def files(self) -> dict[str, bytes]:
        return {
            weights.LINEAR: packed(self.linear),
            weights.ENCODER: packed(self.encoder),
            weights.NETWORK: self.network,
            weights.TOKENIZER: self.tokenizer,
        }

    def write(self, directory: Path) -> Path:
        return self.write_files(directory, self.files())

    def write_files(self, directory: Path, files: dict[str, bytes]) -> Path:
        manifest = {
            "format": weights.FORMAT,
            "scheme": SCHEME,
            "files": {name: hashlib.sha256(raw).hexdigest() for name, raw in files.items()},
            "band": 0.2,
            "least_coverage": 0.0,
            "linear_threshold": -1.0,
            "encoder_threshold": -1.0,
            **self.manifest,
        }
        for name, raw in files.items():
            (directory / name).write_bytes(raw)
        (directory / weights.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
        return directory


@pytest.fixture(scope="session")
def make_tiny() -> Callable[[], TinyWeights]:
    return tiny_weights


@pytest.fixture
def tiny() -> TinyWeights:
    return tiny_weights()


def tiny_weights() -> TinyWeights:
    embeddings = np.random.default_rng(3).normal(size=(len(WORDS), POOLED)).astype(np.float32)
    return TinyWeights(
        linear=linear_arrays(),
        encoder=encoder_arrays(),
        embeddings=embeddings,
        network=mean_of_embeddings(embeddings),
        tokenizer=word_tokenizer(),
    )


def linear_arrays() -> dict[str, Any]:
    draw = np.random.default_rng(1)
    table = draw.integers(-9, 10, size=(len(TERMS), K)).astype(np.int8)
    table[:2] = [[127, 0, 0, 0], [0, 127, 0, 0]]
    weight = draw.normal(size=(len(NAMES), K + NUMBERS)) * 0.05
    weight[1, 0] = 3.0
    class_weight = np.zeros((3, K + NUMBERS))
    class_weight[0, 1] = class_weight[2, 0] = 4.0
    return {
        "terms": weights.pack_strings(TERMS),
        "idf": np.linspace(1, 3, len(TERMS)).astype(np.float16),
        "table": table,
        "scale": np.full(K, 1 / 127, np.float32),
        "mean": np.full(NUMBERS, 0.5, np.float32),
        "deviation": np.full(NUMBERS, 2.0, np.float32),
        "mixing": (draw.normal(size=(NUMBERS, K)) * 0.01).astype(np.float32),
        "offset": np.full(K, 0.1, np.float32),
        "length_weight": (draw.normal(size=K + NUMBERS) * 0.1).astype(np.float32),
        "length_bias": np.array([4.0, -0.5, 0.5], np.float32),
        "length_names": weights.pack_strings(("small", "large")),
        "centroids": np.full((1, K), 0.5, np.float16),
        "names": weights.pack_strings(NAMES),
        "weight": weight.astype(np.float16),
        "bias": np.array([-0.5, 0.5, -0.5, 0.0, 0.5], np.float32),
        "class_weight": class_weight.astype(np.float32),
        "class_bias": np.zeros(3, np.float32),
    }


def encoder_arrays() -> dict[str, Any]:
    seen = POOLED + K + NUMBERS
    return {
        "names": weights.pack_strings(NAMES),
        "weight": np.zeros((len(NAMES), seen), np.float16),
        "bias": np.array([-1.0, 1.0, -1.0, 0.0, 1.0], np.float32),
        "class_weight": np.zeros((3, seen), np.float32),
        "class_bias": np.array([0.0, 1.0, 2.0], np.float32),
        "centroids": np.full((1, POOLED), POOLED**-0.5, np.float16),
    }


def packed(arrays: dict[str, Any]) -> bytes:
    held = io.BytesIO()
    np.savez_compressed(held, **arrays)
    return held.getvalue()


def word_tokenizer() -> bytes:
    vocabulary = {word: row for row, word in enumerate(WORDS)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return made.to_str().encode("utf-8")


def mean_of_embeddings(table: Any) -> bytes:
    """An ONNX file, written by hand (field numbers of onnx.proto3): pooled = mean over tokens of table[input_ids]."""
    gather = _node("Gather", ("table", "input_ids"), "each")
    mean = _node("ReduceMean", ("each",), "pooled", _integers("axes", 1), _integer("keepdims", 0))
    raw = np.ascontiguousarray(table, np.float32).tobytes()
    dims = b"".join(_number(1, size) for size in table.shape)
    initializer = dims + _number(2, 1) + _text(8, "table") + _field(9, raw)
    graph = b"".join(
        (
            _field(1, gather), _field(1, mean), _text(2, "tiny"), _field(5, initializer),
            _field(11, _value("input_ids", 7, 2)), _field(11, _value("attention_mask", 7, 2)),
            _field(12, _value("pooled", 1, 2)),
        )
    )  # fmt: skip
    return _number(1, 8) + _field(8, _number(2, 13)) + _field(7, graph)


def _node(kind: str, takes: tuple[str, ...], gives: str, *attributes: bytes) -> bytes:
    inputs = b"".join(_text(1, name) for name in takes)
    return inputs + _text(2, gives) + _text(4, kind) + b"".join(_field(5, a) for a in attributes)


def _integer(name: str, value: int) -> bytes:
    return _text(1, name) + _number(3, value) + _number(20, 2)


def _integers(name: str, value: int) -> bytes:
    return _text(1, name) + _number(8, value) + _number(20, 7)


def _value(name: str, kind: int, dimensions: int) -> bytes:
    shape = b"".join(_field(1, _text(2, f"d{number}")) for number in range(dimensions))
    return _text(1, name) + _field(2, _field(1, _number(1, kind) + _field(2, shape)))


def _number(tag: int, value: int) -> bytes:
    return _varint(tag << 3) + _varint(value)


def _text(tag: int, value: str) -> bytes:
    return _field(tag, value.encode())


def _field(tag: int, raw: bytes) -> bytes:
    return _varint(tag << 3 | 2) + _varint(len(raw)) + raw


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
