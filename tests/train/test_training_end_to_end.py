"""`pickspin train` as a whole, on a tiny encoder: weights that serve, repeatable, resumable, better than a prior."""

import json
import sys
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx
import onnxruntime
import pytest

from events.names import Operation
from functions.cli import main
from router_model.classifier import weights
from router_model.classifier.features import extract_features
from router_model.classifier.hybrid import MODES
from router_model.training import encoder_torch, onnx_export

pytestmark = pytest.mark.train


def features(text: str) -> Any:
    return extract_features(Operation.CHAT, {"messages": [{"role": "user", "content": text}]})


def train(arguments: list[str]) -> int:
    """One thread: nets of this size lose time to a second one."""
    return main(["train", *arguments, "--threads", "1"])


@pytest.fixture(scope="session")
def trained(outcomes: Path, distilbert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "weights"
    arguments = ["--data", str(outcomes), "--encoder", str(distilbert), "--epochs", "3"]
    arguments += ["--licence", "Ours alone."]
    assert train([*arguments, "--out", str(out)]) == 0
    return out


def work_of(out: Path) -> Path:
    return out.with_name("weights.work")


@pytest.mark.parametrize("mode", MODES)
def test_trained_weights_serve_in_every_mode(trained: Path, made: Any, mode: Any) -> None:
    classifier = weights.load_learned(trained, mode=mode)
    reasons = set()
    for prompt, _ in made.prompts(60, 9):
        found = classifier.classify(features(prompt), (made.small, made.large, "unheard-of"))
        reasons.add(found.reason)
        if found.reason != "abstained":
            assert set(found.success) == {made.small, made.large}
            assert set(found.tier_success) == {"L1", "L3"}
            assert all(0 < chance < 1 for chance in found.success.values())
    stages = {"linear": {"linear"}, "transformer": {"encoder"}, "hybrid": {"linear", "encoder"}}[
        mode
    ]
    assert reasons - {"abstained"} == stages


@pytest.mark.parametrize("mode", MODES)
def test_what_was_learned_beats_the_prior_on_prompts_never_seen(
    trained: Path, made: Any, mode: Any
) -> None:
    """Half of the prompts are hard for the small model: the prior says 0.5 of each, which costs log 2."""
    classifier = weights.load_learned(trained, mode=mode)
    losses, right, seen = [], 0, 0
    for prompt, is_hard in made.prompts(300, 1234):
        found = classifier.classify(features(prompt), (made.small,))
        if found.reason != "abstained":
            seen += 1
            chance, truth = found.success[made.small], 0.1 if is_hard else 0.9
            losses.append(-truth * np.log(chance) - (1 - truth) * np.log(1 - chance))
            right += (chance < 0.5) == is_hard
    assert seen > 200
    assert np.mean(losses) < 0.6 < np.log(2)
    assert right / seen > 0.8


def test_the_manifest_says_how_they_were_made(trained: Path, distilbert: Path) -> None:
    manifest = weights.read_manifest(trained)
    assert set(manifest.files) == {
        "MODEL_CARD.md", "encoder.npz", "encoder.onnx", "linear.npz", "tokenizer.json",
    }  # fmt: skip
    for name in manifest.files:
        weights.verify_files(trained, name, manifest)
    training = manifest.training
    assert training["data"]["sources"] == ["made"]
    assert training["recipe"]["encoder"]["epochs"] == 3
    assert training["start"]["name"].startswith(distilbert.name)
    assert set(training["figures"]) == {"linear", "encoder"}
    assert training["figures"]["linear"]["log_loss"] < 0.6
    card = " ".join((trained / "MODEL_CARD.md").read_text(encoding="utf-8").split())
    assert "as its makers state" in card
    assert "Ours alone." in card
    assert "public benchmark" not in card


def parity(trained: Path) -> tuple[tuple[str, ...], Any]:
    with np.load(work_of(trained) / "parity.npz", allow_pickle=False) as held:
        return tuple(bytes(held["prompts"]).decode().split("\0")), held["pooled"]


def test_the_float_graph_says_what_torch_says(trained: Path, distilbert: Path) -> None:
    prompts, pooled = parity(trained)
    assert prompts == onnx_export.PARITY_PROMPTS
    assert pooled.shape == (20, 64)
    ids = encoder_torch.tokenized(distilbert / "tokenizer.json", prompts)
    found = onnx_export.pooled_by_graph(work_of(trained) / "encoder.fp32.onnx", ids)
    assert np.abs(found - pooled).max() < 1e-3


def test_the_served_int8_graph_points_where_torch_points(trained: Path) -> None:
    prompts, pooled = parity(trained)
    stage = weights.load_learned(trained, mode="transformer")._encoder
    assert stage is not None
    served = np.stack([stage.pooled(prompt) for prompt in prompts])
    assert onnx_export.least_cosine(served, pooled) > 0.98
    figures = weights.read_manifest(trained).training["figures"]["encoder"]
    assert figures["least_int8_cosine"] > 0.98


def test_additions_stay_beside_layer_norms_which_are_slow_as_one_operator(trained: Path) -> None:
    operators = {node.op_type for node in onnx.load(work_of(trained) / "encoder.onnx").graph.node}
    assert "LayerNormalization" in operators
    assert "SkipLayerNormalization" not in operators


def test_the_graph_takes_batches_of_any_size_and_ignores_padding(trained: Path) -> None:
    session = onnxruntime.InferenceSession(str(work_of(trained) / "encoder.fp32.onnx"))
    tokens = np.array([[2, 5, 12, 3, 0, 0], [2, 9, 13, 14, 15, 3]], dtype=np.int64)
    mask = (tokens > 0).astype(np.int64)
    both = session.run(None, {"input_ids": tokens, "attention_mask": mask})[0]
    alone = session.run(None, {"input_ids": tokens[:1, :4], "attention_mask": mask[:1, :4]})[0]
    np.testing.assert_allclose(both[0], alone[0], atol=1e-4)


def linear(out: Path, data: Path, *more: str) -> int:
    return train(["--data", str(data), "--out", str(out), "--linear-only", *more])


def test_the_same_seed_gives_the_same_bytes(outcomes: Path, tmp_path: Path) -> None:
    for name, seed in (("one", "3"), ("two", "3"), ("other", "4")):
        assert linear(tmp_path / name, outcomes, "--seed", seed) == 0
    one, two, other = ((tmp_path / n / "linear.npz").read_bytes() for n in ("one", "two", "other"))
    assert one == two
    assert one != other


def test_an_encoder_repeats_too(
    trained: Path, outcomes: Path, distilbert: Path, tmp_path: Path
) -> None:
    arguments = ["--data", str(outcomes), "--encoder", str(distilbert), "--epochs", "3"]
    arguments += ["--licence", "Ours alone."]
    assert train([*arguments, "--out", str(tmp_path / "w")]) == 0
    again = (tmp_path / "w" / "linear.npz").read_bytes()
    assert again == (trained / "linear.npz").read_bytes()


def test_linear_weights_are_small_and_say_how_to_use_them(
    outcomes: Path, tmp_path: Path, capsys: Any
) -> None:
    assert linear(tmp_path / "w", outcomes) == 0
    said = capsys.readouterr().out
    version = weights.read_manifest(tmp_path / "w").version
    assert f"weights {version} in" in said
    assert f"PICKSPIN_ROUTER_WEIGHTS={tmp_path / 'w'} PICKSPIN_ROUTER_CLASSIFIER=linear" in said
    weights.load_learned(tmp_path / "w", mode="linear")
    with pytest.raises(weights.WeightsUnusable, match="no encoder"):
        weights.load_learned(tmp_path / "w", mode="hybrid")


def test_json_is_the_manifest_and_nothing_else(outcomes: Path, tmp_path: Path, capsys: Any) -> None:
    assert linear(tmp_path / "w", outcomes, "--json") == 0
    printed = capsys.readouterr()
    written = json.loads((tmp_path / "w" / "manifest.json").read_text())
    assert json.loads(printed.out) == written
    assert "linear stage" in printed.err


def test_tens_of_prompts_of_one_model_make_weights(
    made: Any, tmp_path: Path, distilbert: Path
) -> None:
    data = made.write(tmp_path / "data", 45, seed=8)
    out = tmp_path / "w"
    arguments = ["--data", str(data), "--encoder", str(distilbert), "--min-labels", "10"]
    assert train([*arguments, "--epochs", "1", "--out", str(out)]) == 0
    for mode in MODES:
        weights.load_learned(out, mode=mode).classify(features("prove the cat"), (made.small,))


class Heard:
    """Progress that remembers the first share of each stage, and presses ctrl-C in the middle of one."""

    def __init__(self, interrupted: str | None = None) -> None:
        self.first: dict[str, float] = {}
        self._interrupted = interrupted

    def __call__(self, stage: str, share: float, note: str = "") -> None:
        self.first.setdefault(stage, share)
        if stage == self._interrupted and share > 0.5:
            raise KeyboardInterrupt

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None


def test_an_interrupted_training_goes_on_where_it_stopped(
    outcomes: Path, distilbert: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(encoder_torch, "CHECKPOINT_EVERY", 2)
    arguments = ["--data", str(outcomes), "--encoder", str(distilbert)]
    arguments += ["--epochs", "2", "--out", str(tmp_path / "w")]
    command = sys.modules["functions.cli.train"]
    monkeypatch.setattr(command, "open_progress", lambda: Heard("encoder, pass 2 of 2"))
    assert train(arguments) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert list((tmp_path / "w").iterdir()) == []

    again = Heard()
    monkeypatch.setattr(command, "open_progress", lambda: again)
    assert train(arguments) == 0
    done = {"encoder as it starts", "teacher: terms", "encoder, pass 1 of 2"}
    assert not done & again.first.keys()
    assert again.first["encoder, pass 2 of 2"] > 0.4
    for mode in MODES:
        weights.load_learned(tmp_path / "w", mode=mode)


def refused(capsys: Any, *arguments: str) -> str:
    capsys.readouterr()
    assert train([*arguments]) == 1
    *before, last = capsys.readouterr().err.splitlines()
    assert not [line for line in before if line.startswith("pickspin:")]
    return str(last)


def test_what_cannot_be_trained_is_said_in_one_line(
    outcomes: Path, made: Any, distilbert: Path, tmp_path: Path, capsys: Any
) -> None:
    out = ("--out", str(tmp_path / "w"))
    few = made.write(tmp_path / "few", 30)
    told = refused(capsys, "--data", str(few), *out)
    assert "too little data" in told
    assert "a model needs 40, and the most have: " in told
    told = refused(capsys, "--data", str(outcomes), "--source", "other", *out)
    assert "no such file" in told
    assert "no such directory" in refused(capsys, "--data", str(tmp_path / "none"), *out)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.jsonl.gz").write_bytes(b"not gzip")
    assert "x.jsonl.gz" in refused(capsys, "--data", str(tmp_path / "bad"), *out)

    data = ("--data", str(outcomes))
    assert "--encoder" in refused(capsys, *data, "--encoder", str(tmp_path), *out)
    (tmp_path / "model.safetensors").write_bytes(b"x" * 20)
    told = refused(capsys, *data, "--encoder", str(tmp_path), *out)
    assert "cannot start from this encoder" in told


def test_a_work_directory_of_another_training_is_left_alone(
    outcomes: Path, tmp_path: Path, capsys: Any
) -> None:
    work = ("--work", str(tmp_path / "work"))
    assert linear(tmp_path / "w", outcomes, *work) == 0
    for other in (("--seed", "1"), ("--min-labels", "41")):
        told = refused(
            capsys, "--data", str(outcomes), "--out", str(tmp_path / "w2"), "--linear-only", *work, *other
        )  # fmt: skip
        assert "holds another training" in told
    assert linear(tmp_path / "w", outcomes, *work) == 0
