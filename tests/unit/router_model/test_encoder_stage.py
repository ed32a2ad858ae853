"""What the encoder stage hands to tokeniser and network, and the real ones on a small graph."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from router_model.classifier import weights
from router_model.classifier.encoder_stage import MAX_CHARS, MAX_TOKENS, EncoderStage
from router_model.classifier.heads import Heads, OutlierGate


@dataclass
class Letters:
    """One token a character."""

    seen: list[str] = field(default_factory=list)

    def encode(self, text: str) -> Any:
        self.seen.append(text)
        return SimpleNamespace(ids=[ord(letter) for letter in text[:MAX_TOKENS]])


@dataclass
class Sums:
    """Gives [sum, count] of the tokens."""

    seen: list[dict[str, Any]] = field(default_factory=list)

    def run(self, outputs: None, inputs: dict[str, Any]) -> list[Any]:
        assert outputs is None
        self.seen.append(inputs)
        ids = inputs["input_ids"]
        return [np.stack([ids.sum(axis=1), inputs["attention_mask"].sum(axis=1)], axis=1)]


def stage(network: Any, tokenizer: Any) -> EncoderStage:
    none = np.zeros((0, 2), np.float32)
    heads = Heads((), none, none[:, 0], np.zeros((3, 2), np.float32), np.zeros(3, np.float32))
    return EncoderStage(network, tokenizer, heads, OutlierGate(np.eye(2, dtype=np.float32), -1))


def test_one_text_is_one_row_without_padding() -> None:
    network = Sums()
    assert stage(network, Letters()).pooled("abc").tolist() == [97 + 98 + 99, 3]
    (inputs,) = network.seen
    assert set(inputs) == {"input_ids", "attention_mask"}
    for array in inputs.values():
        assert array.dtype == np.int64
        assert array.shape == (1, 3)


def test_text_that_would_be_cut_anyway_is_not_tokenised() -> None:
    tokenizer = Letters()
    stage(Sums(), tokenizer).pooled("x" * 1_000_000)
    assert len(tokenizer.seen[0]) == MAX_CHARS


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\x00", "😀", "שלום"])
def test_the_tokeniser_gets_text_that_can_be_encoded(text: str) -> None:
    tokenizer = Letters()
    stage(Sums(), tokenizer).pooled(text)
    assert tokenizer.seen[0].encode("utf-8").decode() == text.encode("utf-8", "replace").decode()


def test_onnxruntime_and_tokenizers_give_what_numpy_gives(tiny, tmp_path) -> None:
    encoder = weights.load_learned(tiny.write(tmp_path), mode="transformer")._encoder
    embeddings = tiny.embeddings
    rows = [embeddings[0], embeddings[1], embeddings[3], embeddings[2]]  # [UNK] prove the sum
    assert encoder.pooled("please prove the sum") == pytest.approx(np.mean(rows, axis=0), abs=1e-6)


def test_at_most_the_first_tokens_are_read(tiny, tmp_path) -> None:
    encoder = weights.load_learned(tiny.write(tmp_path), mode="transformer")._encoder
    assert len(encoder.tokenizer.encode("sum " * 300).ids) == MAX_TOKENS
    ends_otherwise = encoder.pooled("sum " * MAX_TOKENS + "prove " * 20)
    assert ends_otherwise == pytest.approx(tiny.embeddings[2], abs=1e-6)
