"""Weights of the learned classifier: found, verified by hash, loaded. The shipped ones lie in `router_model/weights/`.

A directory holds `manifest.json` (a `Manifest`), `linear.npz`, and where there is an encoder `encoder.onnx`,
`encoder.npz` and `tokenizer.json`. Nothing is unpickled; nothing is read before its hash was checked.
"""

import hashlib
import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from router_model.classifier.encoder_stage import MAX_TOKENS, EncoderStage, Network, Tokenizer
from router_model.classifier.everyday_rule import EverydayRule
from router_model.classifier.heads import ComplexityHead, Heads, LengthHead, OutlierGate
from router_model.classifier.hybrid import LearnedClassifier, Mode
from router_model.classifier.keyword_rules import Classifier
from router_model.classifier.linear_stage import LinearStage
from router_model.classifier.prompt_terms import NUMBER_NAMES, SCHEME
from router_model.classifier.weights_checks import check_encoder, check_linear

SHIPPED: Final = Path(__file__).parent.parent / "weights"
MANIFEST: Final = "manifest.json"
LINEAR, ENCODER, NETWORK, TOKENIZER = "linear.npz", "encoder.npz", "encoder.onnx", "tokenizer.json"
COMPLEXITY_WEIGHT, COMPLEXITY_BIAS = "complexity_weight", "complexity_bias"
"""Arrays of both npz files that older weights, and those without labelled prompts, do not have."""
FORMAT: Final = 1
MAX_FILE_BYTES: Final = 512 * 1024 * 1024
REMEDY: Final = "reinstall, or train again with `pickspin train`"
_SEPARATOR: Final = "\x00"
_UNREADABLE: Final = (
    AttributeError, EOFError, KeyError, NotImplementedError, OSError, OverflowError, TypeError, ValueError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy, zipfile and the stages raise of arrays that are not what they should be."""


class WeightsUnusable(Exception):
    """Weights are missing, corrupt or of another format; the message, one line, says what to do."""

    def __init__(self, problem: str, remedy: str = REMEDY) -> None:
        super().__init__(" ".join(f"{problem}: {remedy}".splitlines()))


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a weights directory states of itself. `files`: sha256 by name. `band`: see `LearnedClassifier`."""

    format: int
    scheme: str
    files: Mapping[str, str]
    band: float
    least_coverage: float
    linear_threshold: float
    encoder_threshold: float | None = None
    least_known_words: float = 0.0
    """See `LinearStage`; counts only where there are complexity heads."""
    version: str = ""
    """First 12 hex digits of the hash over `files`: names these weights in decisions and on pages."""
    training: Mapping[str, Any] = {}
    """How they were made: data, hashes, seeds, figures. Not read when serving."""


def load_learned(
    directory: Path | None = None,
    *,
    mode: Mode = "hybrid",
    fallback: Classifier | None = None,
    threads: int = 2,
) -> LearnedClassifier:
    """The learned classifier from a weights directory (None: the shipped weights).

    Args:
        directory: where the weights are.
        mode: `linear` reads nothing of an encoder.
        fallback: decides where the classifier abstains; None: the everyday rule.
        threads: that onnxruntime may use for one prompt.

    Raises:
        WeightsUnusable: a file is missing or not what the manifest says, or the format is another one.
    """
    where = SHIPPED if directory is None else directory
    manifest = read_manifest(where)
    linear, encoder = load_stages(where, manifest, has_encoder=mode != "linear", threads=threads)
    rule = EverydayRule() if fallback is None else fallback
    return LearnedClassifier(linear, encoder, rule, mode=mode, band=manifest.band)


def load_stages(
    directory: Path, manifest: Manifest, *, has_encoder: bool = True, threads: int = 2
) -> tuple[LinearStage, EncoderStage | None]:
    """The stages of a weights directory; without `has_encoder` nothing of an encoder is read.

    Raises:
        WeightsUnusable: as `load_learned`.
    """
    try:
        linear = _linear(load_arrays(directory, LINEAR, manifest), manifest)
        check_linear(linear)
        if not has_encoder:
            return linear, None
        encoder = _encoder(directory, manifest, threads)
        check_encoder(encoder, linear)
    except _UNREADABLE as error:
        raise WeightsUnusable(
            f"{directory}: the weights do not hold together: {error!r}"
        ) from error
    return linear, encoder


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a weights directory, of this format and this way of taking features.

    Raises:
        WeightsUnusable: there is none, or it is another one.
    """
    path = directory / MANIFEST
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise WeightsUnusable(f"no router weights at {path}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WeightsUnusable(f"{path} is not a manifest: {error}") from error
    if found.format != FORMAT or found.scheme != SCHEME:
        raise WeightsUnusable(
            f"{path} has format {found.format}, {found.scheme}; this version reads {FORMAT}, {SCHEME}",
            "train again with `pickspin train`",
        )
    return found


def verify_files(directory: Path, name: str, manifest: Manifest) -> bytes:
    """The bytes of one file whose hash is the manifest's.

    Raises:
        WeightsUnusable: missing, too large, or other bytes.
    """
    path = directory / name
    if name not in manifest.files:
        raise WeightsUnusable(f"{directory / MANIFEST} does not name {name}")
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise WeightsUnusable(f"{path} is larger than {MAX_FILE_BYTES} bytes")
        raw = path.read_bytes()
    except OSError as error:
        raise WeightsUnusable(f"cannot read {path}: {error.strerror}") from error
    found = hashlib.sha256(raw).hexdigest()
    if found != manifest.files[name]:
        raise WeightsUnusable(
            f"{path} has sha256 {found[:12]}..., the manifest says {manifest.files[name][:12]}...: "
            "the file is damaged"
        )
    return raw


def load_arrays(directory: Path, name: str, manifest: Manifest) -> dict[str, Any]:
    """The arrays of one verified npz file, all finite.

    Raises:
        WeightsUnusable: as `verify_files`; or a value is not finite.
    """
    with np.load(io.BytesIO(verify_files(directory, name, manifest)), allow_pickle=False) as held:
        found = {key: held[key] for key in held.files}
    for key, array in found.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise WeightsUnusable(f"{directory / name}: {key} holds values that are not finite")
    return found


def _linear(held: dict[str, Any], manifest: Manifest) -> LinearStage:
    if len(held["mean"]) != len(NUMBER_NAMES):
        raise WeightsUnusable(f"{LINEAR} has other numbers than this version computes")
    vocabulary = {term: row for row, term in enumerate(_strings(held["terms"]))}
    if not len(vocabulary) == len(held["table"]) == len(held["idf"]):
        raise WeightsUnusable(f"{LINEAR}: vocabulary and table differ in length")
    usual, *verbosity = held["length_bias"].tolist()
    return LinearStage(
        vocabulary=vocabulary,
        idf=_floats(held["idf"]),
        table=held["table"],
        scale=_floats(held["scale"]),
        mean=_floats(held["mean"]),
        deviation=_floats(held["deviation"]),
        mixing=_floats(held["mixing"]),
        offset=_floats(held["offset"]),
        heads=_heads(held),
        lengths=LengthHead(
            weight=_floats(held["length_weight"]),
            bias=usual,
            verbosity=dict(zip(_strings(held["length_names"]), verbosity, strict=True)),
        ),
        gate=OutlierGate(_floats(held["centroids"]), manifest.linear_threshold),
        least_coverage=manifest.least_coverage,
        complexity=_complexity(held),
        least_known_words=manifest.least_known_words,
    )


def _encoder(directory: Path, manifest: Manifest, threads: int) -> EncoderStage:
    if manifest.encoder_threshold is None:
        raise WeightsUnusable(
            f"{directory} has no encoder", "set PICKSPIN_ROUTER_CLASSIFIER to linear, or train one"
        )
    held = load_arrays(directory, ENCODER, manifest)
    return EncoderStage(
        network=load_network(verify_files(directory, NETWORK, manifest), threads),
        tokenizer=_tokenizer(verify_files(directory, TOKENIZER, manifest)),
        heads=_heads(held),
        gate=OutlierGate(_floats(held["centroids"]), manifest.encoder_threshold),
        complexity=_complexity(held),
    )


def load_network(raw: bytes, threads: int) -> Network:
    """The network in these bytes of an ONNX file, on so many threads.

    Raises:
        WeightsUnusable: onnxruntime refuses them.
    """
    import onnxruntime  # noqa: PLC0415 - 100 ms and 40 MB that the linear mode does without

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that wait for each other within a prompt do so awake; a single one never spins.
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(threads > 1)))
    try:
        session: Network = onnxruntime.InferenceSession(
            raw,
            options,
            providers=["CPUExecutionProvider"],
            # Slower than what it fuses (`router_model.training.onnx_export`).
            disabled_optimizers=["SkipLayerNormFusion", "BiasSkipLayerNormFusion"],
        )
    except Exception as error:  # onnxruntime's exceptions share no public base
        raise WeightsUnusable(f"onnxruntime refuses {NETWORK}: {error}") from error
    return session


def _tokenizer(raw: bytes) -> Tokenizer:
    import tokenizers  # noqa: PLC0415 - as onnxruntime

    try:
        found = tokenizers.Tokenizer.from_buffer(raw)
    except Exception as error:  # the binding raises plain Exception
        raise WeightsUnusable(f"{TOKENIZER} is refused: {error}") from error
    found.enable_truncation(MAX_TOKENS)
    found.no_padding()
    made: Tokenizer = found
    return made


def _heads(held: dict[str, Any]) -> Heads:
    return Heads(
        names=_strings(held["names"]),
        weight=_floats(held["weight"]),
        bias=_floats(held["bias"]),
        class_weight=_floats(held["class_weight"]),
        class_bias=_floats(held["class_bias"]),
    )


def _complexity(held: dict[str, Any]) -> ComplexityHead | None:
    if COMPLEXITY_WEIGHT not in held:
        return None
    return ComplexityHead(_floats(held[COMPLEXITY_WEIGHT]), _floats(held[COMPLEXITY_BIAS]))


def pack_strings(strings: tuple[str, ...]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Strings as one byte array: no pickles in weights. The strings must not hold NUL."""
    return np.frombuffer(_SEPARATOR.join(strings).encode("utf-8"), dtype=np.uint8)


def _strings(packed: Any) -> tuple[str, ...]:
    text = bytes(packed).decode("utf-8")
    return tuple(text.split(_SEPARATOR)) if text else ()


def _floats(array: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.ascontiguousarray(array, dtype=np.float32)
