"""`pickspin train` before any training: what it says when something is missing, and how it tells how far it is."""

import sys
from pathlib import Path
from typing import Any

import pytest

from functions.cli import main
from functions.cli.training_progress import LINE_EVERY_S, ProgressBars, ProgressLines, open_progress


@pytest.fixture(autouse=True)
def _no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "transformers", "onnx"):
        monkeypatch.setitem(sys.modules, name, None)


def refused(capsys: Any, *arguments: str) -> str:
    assert main(["train", *arguments]) != 0
    found: str = capsys.readouterr().err
    assert found.count("\n") == 1
    return found


def test_without_torch_the_extra_is_named(capsys: Any, tmp_path: Path) -> None:
    found = refused(capsys, "--data", str(tmp_path), "--out", str(tmp_path / "w"), "--linear-only")
    assert (
        "training needs torch, transformers, onnx: in a checkout, pip install '.[train]'" in found
    )
    assert "--linear-only needs it too" in found
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--data DIR, --from-store, or both"),
        (["--source", "a", "--from-store"], "--source names files of --data"),
        (["--data", ".", "--since", "7d"], "go with --from-store"),
        (["--data", ".", "--linear-only", "--epochs", "3"], "trains no encoder"),
        (["--data", ".", "--linear-only", "--layers", "3"], "trains no encoder"),
        (["--data", ".", "--linear-only", "--encoder", "d"], "trains no encoder"),
        (["--data", ".", "--epochs", "0"], "epochs"),
        (["--data", ".", "--seed", "-1"], "seed"),
        (["--data", ".", "--min-labels", "x"], "min-labels"),
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(
    capsys: Any, tmp_path: Path, arguments: list[str], said: str
) -> None:
    assert main(["train", "--out", str(tmp_path / "w"), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_the_help_shows_examples(capsys: Any) -> None:
    assert main(["train", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "pickspin train --data outcomes --out weights" in said
    assert "pickspin train --from-store --out weights" in said


@pytest.fixture
def _torch_looks_there(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["functions.cli.train"]  # the package has a function of this name
    monkeypatch.setattr(module, "NEEDED", ())


@pytest.mark.usefixtures("_torch_looks_there")
def test_a_place_that_cannot_hold_weights_is_refused_first(capsys: Any, tmp_path: Path) -> None:
    data = ("--data", str(tmp_path))
    (tmp_path / "file").write_text("mine")
    assert "is a file" in refused(capsys, *data, "--out", str(tmp_path / "file"))
    assert "cannot write" in refused(capsys, *data, "--out", str(tmp_path / "file" / "below"))
    assert "not empty and holds no weights" in refused(capsys, *data, "--out", str(tmp_path))
    assert (tmp_path / "file").read_text() == "mine"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lines_tell_begin_end_and_now_and_then_what_is_left() -> None:
    said: list[str] = []
    clock = Clock()
    with ProgressLines(said.append, clock) as told:
        told("terms", 0.0)
        clock.now += 1
        told("encoder", 0.0)
        for step in range(1, 100):
            clock.now += 0.5
            told("encoder", step / 100, "loss 0.5")
    assert said[:3] == ["terms", "terms: done in 1.0 s", "encoder"]
    assert said[3] == "encoder: 20% in 10 s, 40 s left loss 0.5"
    assert len(said) == 3 + int(99 * 0.5 / LINE_EVERY_S) + 1
    assert said[-1] == "encoder: done in 49.5 s"


def test_an_interrupted_stage_is_not_called_done() -> None:
    said: list[str] = []

    def interrupted() -> None:
        with ProgressLines(said.append, Clock()) as told:
            told("encoder", 0.5)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert said == ["encoder"]


def test_bars_are_for_terminals(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert isinstance(open_progress(), ProgressLines)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    bars = open_progress()
    assert isinstance(bars, ProgressBars)
    with bars:
        bars("terms", 0.5)
        bars("encoder", 0.5, "loss 0.4")
    assert [task.completed for task in bars._bars.tasks] == [1.0, 1.0]
    assert capsys.readouterr().out == ""
