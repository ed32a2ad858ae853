"""Weights are believed only when every byte and every shape is as it should be; else a typed error says what to do."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from router_model.classifier import weights
from router_model.classifier.weights import (
    ENCODER,
    LINEAR,
    MANIFEST,
    NETWORK,
    TOKENIZER,
    WeightsUnusable,
)

FILES = (LINEAR, ENCODER, NETWORK, TOKENIZER)
LOADING = """
import sys
from pathlib import Path
from events.names import Operation
from router_model.classifier import weights
from router_model.classifier.features import PromptFeatures
found = weights.load_learned(Path(sys.argv[1]), mode=sys.argv[2])
asked = PromptFeatures(operation=Operation.CHAT, text="prove the sum", tokens=1, least_tokens=1)
print(found.classify(asked).reason, *sorted({name.split(".")[0] for name in sys.modules}))
"""


def refusal(directory: Path, mode: weights.Mode = "hybrid") -> str:
    with pytest.raises(WeightsUnusable) as caught:
        weights.load_learned(directory, mode=mode)
    message = str(caught.value)
    assert "\n" not in message
    assert "train" in message or "PICKSPIN" in message, "says what to do"
    return message


def test_strings_are_packed_without_loss() -> None:
    strings = ("prove", "the sum", "é", "日本", "'", "a b")
    assert weights._strings(weights.pack_strings(strings)) == strings
    assert weights._strings(weights.pack_strings(())) == ()


def test_a_directory_that_is_not_there(tmp_path) -> None:
    assert "no router weights at" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"\xff\xfe", b"[]", b'{"format": 1}', b'{"training": {"a": ' + b"[" * 100_000],
    ids=["empty", "cut", "no text", "no object", "little", "deep"],
)
def test_a_manifest_that_is_none(tiny, tmp_path, raw) -> None:
    (tiny.write(tmp_path) / MANIFEST).write_bytes(raw)
    assert "is not a manifest" in refusal(tmp_path)


@pytest.mark.parametrize(("key", "value"), [("format", 2), ("scheme", "terms-0")])
def test_weights_for_another_version(tiny, tmp_path, key, value) -> None:
    tiny.manifest[key] = value
    assert str(value) in refusal(tiny.write(tmp_path))


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing(tiny, tmp_path, name) -> None:
    (tiny.write(tmp_path) / name).unlink()
    assert f"cannot read {tmp_path / name}" in refusal(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_the_manifest_does_not_name(tiny, tmp_path, name) -> None:
    path = tiny.write(tmp_path) / MANIFEST
    manifest = json.loads(path.read_text())
    del manifest["files"][name]
    path.write_text(json.dumps(manifest))
    assert f"does not name {name}" in refusal(tmp_path)


def cut(raw: bytes) -> bytes:
    return raw[: len(raw) // 2]


def with_one_bit_changed(raw: bytes) -> bytes:
    middle = len(raw) // 2
    return raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [cut, with_one_bit_changed, lambda _: b""])
def test_a_file_of_other_bytes(tiny, tmp_path, name, damage: Callable[[bytes], bytes]) -> None:
    path = tiny.write(tmp_path) / name
    path.write_bytes(damage(path.read_bytes()))
    message = refusal(tmp_path)
    assert f"{path} has sha256" in message
    assert "damaged" in message


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_too_large_is_not_read(tiny, tmp_path, name, monkeypatch) -> None:
    sizes = {each: (tiny.write(tmp_path) / each).stat().st_size for each in FILES}
    with (tmp_path / name).open("ab") as file:
        file.truncate(max(sizes.values()) + 1)
    monkeypatch.setattr(weights, "MAX_FILE_BYTES", max(sizes.values()))
    assert f"{tmp_path / name} is larger" in refusal(tmp_path)


@pytest.mark.parametrize("name", [LINEAR, ENCODER])
@pytest.mark.parametrize(
    "raw",
    [b"", b"garbage", b"PK\x03\x04 not really", b"\x93NUMPY\x01\x00v\x00{}", b"\x80\x04K\x01."],
    ids=["empty", "garbage", "half a zip", "half an array", "a pickle"],
)
def test_arrays_that_are_no_archive_though_the_hash_is_right(tiny, tmp_path, name, raw) -> None:
    tiny.write_files(tmp_path, {**tiny.files(), name: raw})
    assert "do not hold together" in refusal(tmp_path)


@pytest.mark.parametrize("name", [LINEAR, ENCODER])
def test_an_archive_that_is_cut_though_the_hash_is_right(tiny, tmp_path, name) -> None:
    raw = tiny.files()[name]
    for size in range(0, len(raw), len(raw) // 12):
        tiny.write_files(tmp_path, {**tiny.files(), name: raw[:size]})
        refusal(tmp_path)


def test_objects_are_not_unpickled(tiny, tmp_path) -> None:
    tiny.linear["idf"] = np.array([print, "x"], dtype=object)
    assert "allow_pickle" in refusal(tiny.write(tmp_path))


@pytest.mark.parametrize("which", ["linear", "encoder"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite(tiny, tmp_path, which, bad) -> None:
    for key, array in getattr(tiny, which).items():
        if array.dtype.kind == "f":
            spoiled = array.copy()
            spoiled.flat[-1] = bad
            setattr(tiny, which, {**getattr(tiny, which), key: spoiled})
            assert f"{key} holds values that are not finite" in refusal(tiny.write(tmp_path))
            getattr(tiny, which)[key] = array


@pytest.mark.parametrize("which", ["linear", "encoder"])
def test_arrays_that_are_missing(tiny, tmp_path, which) -> None:
    whole = getattr(tiny, which)
    for key in whole:
        setattr(tiny, which, {name: array for name, array in whole.items() if name != key})
        assert key in refusal(tiny.write(tmp_path))


def without_the_last(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return weights.pack_strings(weights._strings(array)[:-1])
    return array[:-1]


@pytest.mark.parametrize("which", ["linear", "encoder"])
def test_arrays_of_another_length_are_refused_at_start(tiny, tmp_path, which) -> None:
    whole = getattr(tiny, which)
    for key, array in whole.items():
        if key == "centroids":
            continue
        setattr(tiny, which, {**whole, key: without_the_last(array)})
        refusal(tiny.write(tmp_path))


@pytest.mark.parametrize("which", ["linear", "encoder"])
@pytest.mark.parametrize("key", ["weight", "class_weight", "centroids"])
def test_heads_over_another_latent_are_refused_at_start(tiny, tmp_path, which, key) -> None:
    held = getattr(tiny, which)
    held[key] = held[key][:, :-1]
    message = refusal(tiny.write(tmp_path))
    assert f"{key} has the shape" in message


@pytest.mark.parametrize("rows", [0, -1])
def test_a_gate_without_centroids_or_a_deviation_of_nothing(tiny, tmp_path, rows) -> None:
    if rows == 0:
        tiny.linear["centroids"] = tiny.linear["centroids"][:0]
    else:
        tiny.linear["deviation"][3] = 0.0
    message = refusal(tiny.write(tmp_path), "linear")
    assert "centroids" in message or "deviation" in message


def test_a_vocabulary_that_names_a_term_twice(tiny, tmp_path) -> None:
    words = weights._strings(tiny.linear["terms"])
    tiny.linear["terms"] = weights.pack_strings((*words[:-1], words[0]))
    assert "differ in length" in refusal(tiny.write(tmp_path))


@pytest.mark.parametrize("raw", [b"", b"not a graph", b"\x08\x08"])
def test_a_network_that_is_none(tiny, tmp_path, raw) -> None:
    tiny.network = raw
    assert NETWORK in refusal(tiny.write(tmp_path))


def test_a_network_that_fails_on_a_plain_question(tiny, tmp_path) -> None:
    other = tiny.network.replace(b"attention_mask", b"something_else")
    tiny.network = other
    assert "fails on a plain question" in refusal(tiny.write(tmp_path))


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff", b'{"version": "1.0"}'])
def test_a_tokeniser_that_is_none(tiny, tmp_path, raw) -> None:
    tiny.tokenizer = raw
    assert TOKENIZER in refusal(tiny.write(tmp_path))


def test_linear_needs_nothing_of_an_encoder(tiny, tmp_path) -> None:
    tiny.manifest["encoder_threshold"] = None
    tiny.write_files(tmp_path, {LINEAR: tiny.files()[LINEAR]})
    assert weights.load_learned(tmp_path, mode="linear")
    assert "PICKSPIN_ROUTER_CLASSIFIER" in refusal(tmp_path, "transformer")


@pytest.mark.parametrize("mode", ["linear", "hybrid"])
def test_serving_imports_nothing_that_trains(tiny, tmp_path, mode) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADING, str(tiny.write(tmp_path)), mode],
        check=True,
        capture_output=True,
        text=True,
    )
    reason, *modules = done.stdout.split()
    assert reason == ("linear" if mode == "linear" else "encoder")
    assert not {"torch", "transformers", "sklearn", "onnx", "safetensors"} & set(modules)
    assert ({"onnxruntime", "tokenizers"} <= set(modules)) == (mode == "hybrid")
