"""Trains the encoder: the DistilBERT architecture, from MiniLM or from a user's own DistilBERT directory. Needs torch.

The paper's recipe (DistilBERT routing): AdamW, rate 2e-5, batch 32, a softmax over [CLS] (Eq. 3-4). Here the softmax
is one of two losses; the other is the success of every model that was asked. Rate and passes are in the recipe.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tokenizers
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import DistilBertConfig, DistilBertModel

from router_model.classifier.encoder_stage import MAX_CHARS, MAX_TOKENS
from router_model.training.dataset import Dataset
from router_model.training.head_training import CLASS_SHARE, label_weights

Floats = npt.NDArray[np.float32]
Ids = Sequence[Sequence[int]]
MEAN_GAIN: Final = 4.0
"""The mean over tokens is scaled to the size of the [CLS] state."""
SORTED_BATCHES: Final = 50
"""Prompts of this many batches are sorted by length, so that a batch wastes little on padding."""
WARM_UP: Final = 150
CHECKPOINT_EVERY: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderRecipe:
    """`rates` of the network by pass, `head_rates` of what stands on it (the last counts for further ones); each falls
    linearly to 0 within its pass. From the second pass on, `soft_share` of the loss follows the teacher.
    """

    epochs: int = 2
    batch: int = 32
    rates: tuple[float, ...] = (1e-4, 8e-5)
    head_rates: tuple[float, ...] = (1e-3, 5e-4)
    decay: float = 0.01
    latent: int = 64
    soft_share: float = 0.4


class UnusableEncoder(Exception):
    """The directory to start from is no DistilBERT or BERT model that can be read; the message says why."""


_UNREADABLE: Final = (KeyError, OSError, RuntimeError, SafetensorError, TypeError, ValueError)
"""What files that are no such model make of each step of reading them."""


def load_encoder(directory: Path, *, layers: int | None = None) -> Any:
    """A DistilBertModel from a Hugging Face directory of a DistilBERT, or of a BERT such as MiniLM, folded exactly.

    `layers`: the first so many are kept; None, or more than there are: all.

    BERT adds a token-type row to every position; with one segment it is always row 0, so that adding it to the position
    table gives the same network.

    Raises:
        UnusableEncoder: config or weights are missing, or of another architecture.
    """
    try:
        model = _read_encoder(directory)
    except _UNREADABLE as error:
        raise UnusableEncoder(f"{directory}: {error!r}") from error
    positions = model.config.max_position_embeddings
    if positions < MAX_TOKENS:
        raise UnusableEncoder(f"{directory}: {positions} positions, {MAX_TOKENS} are needed")
    if layers is not None:
        del model.transformer.layer[layers:]
        model.config.n_layers = len(model.transformer.layer)
    return model


def _read_encoder(directory: Path) -> Any:
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    state = load_file(directory / "model.safetensors")
    if config.get("model_type") == "distilbert":
        model = DistilBertModel(DistilBertConfig(**config))
        named = {name.removeprefix("distilbert."): value for name, value in state.items()}
    elif config.get("model_type") == "bert":
        model = DistilBertModel(_folded_config(config))
        named = _folded({name.removeprefix("bert."): value for name, value in state.items()})
    else:
        raise UnusableEncoder(
            f"{directory}: model_type {config.get('model_type')!r} is neither bert nor distilbert"
        )
    missing = set(model.state_dict()) - set(named)
    if missing:
        raise UnusableEncoder(f"{directory}: weights are missing: {', '.join(sorted(missing)[:3])}")
    model.load_state_dict({name: named[name] for name in model.state_dict()})
    return model


def _folded_config(config: dict[str, Any]) -> Any:
    return DistilBertConfig(
        vocab_size=config["vocab_size"],
        max_position_embeddings=config["max_position_embeddings"],
        n_layers=config["num_hidden_layers"],
        n_heads=config["num_attention_heads"],
        dim=config["hidden_size"],
        hidden_dim=config["intermediate_size"],
        activation=config["hidden_act"],
    )


_LAYER: Final = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}


def _folded(state: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in state.items():
        if name.startswith("encoder.layer."):
            number, _, rest = name.removeprefix("encoder.layer.").partition(".")
            part, _, kind = rest.rpartition(".")
            if part in _LAYER:
                found[f"transformer.layer.{number}.{_LAYER[part]}.{kind}"] = value
        elif name.startswith("embeddings."):
            found[name] = value
    types = found.pop("embeddings.token_type_embeddings.weight")
    positions = "embeddings.position_embeddings.weight"
    found[positions] = found[positions] + types[0]
    return found


def tokenized(tokenizer: Path, prompts: Sequence[str]) -> list[list[int]]:
    """Token ids of every prompt, cut as the serving stage cuts them.

    Raises:
        UnusableEncoder: there is no tokeniser in this file.
    """
    try:
        found = tokenizers.Tokenizer.from_file(str(tokenizer))
    except Exception as error:  # the binding raises plain Exception
        raise UnusableEncoder(f"{tokenizer}: {error}") from error
    found.enable_truncation(MAX_TOKENS)
    found.no_padding()
    cut = [prompt[:MAX_CHARS].encode("utf-8", "replace").decode("utf-8") for prompt in prompts]
    return [encoding.ids for encoding in found.encode_batch(cut)]


def check_ids(model: Any, ids: Ids) -> None:
    """Raises UnusableEncoder where the tokeniser gives a prompt no token, or one that the network has no row for."""
    largest, shortest = max(max(each, default=0) for each in ids), min(map(len, ids))
    if largest >= model.config.vocab_size or not shortest:
        raise UnusableEncoder(
            f"tokeniser and network do not fit: token {largest} of {model.config.vocab_size}, {shortest} at least"
        )


def pooled(model: Any, tokens: Any, mask: Any) -> Any:
    """[CLS] state and scaled mean over tokens, side by side: [B, 2 * dim]."""
    states = model(input_ids=tokens, attention_mask=mask).last_hidden_state.float()
    spread = mask.unsqueeze(-1).to(states.dtype)
    mean = (states * spread).sum(1) / spread.sum(1)
    return torch.cat([states[:, 0], MEAN_GAIN * mean], 1)


def pooled_of(
    model: Any,
    ids: Ids,
    *,
    told: Callable[[float], None] = lambda _: None,
    is_exact: bool = False,
) -> Floats:
    """Pooled output [N, 2 * dim] of every prompt; `is_exact`: in float32 even where bfloat16 is fast."""
    is_short = not is_exact and _is_fast_bfloat16()
    model.eval()
    order = np.argsort([len(each) for each in ids], kind="stable")
    found = np.zeros((len(ids), 2 * model.config.dim), np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), 64):
            rows = order[start : start + 64]
            with torch.autocast("cpu", torch.bfloat16, enabled=is_short):
                found[rows] = pooled(model, *_batch(ids, rows)).float().numpy()
            told(start / len(order))
    return found


@dataclass(slots=True)
class Training:
    """One run of the encoder's training that can stop and go on: `resume` reads what `checkpoint` wrote."""

    model: Any
    heads: Any
    epoch: int = 0
    step: int = 0
    """Batches of the running pass that are done."""
    optimiser: Any = None
    """State of the optimiser after them."""

    def checkpoint(self, path: Path) -> None:
        whole = {"model": self.model.state_dict(), "heads": self.heads.state_dict()}
        where = {"epoch": self.epoch, "step": self.step, "optimiser": self.optimiser}
        torch.save({**whole, **where}, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def resume(self, path: Path) -> bool:
        """Whether there was something to go on from."""
        if not path.exists():
            return False
        held = torch.load(path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(held["model"])
        self.heads.load_state_dict(held["heads"])
        self.epoch, self.step, self.optimiser = held["epoch"], held["step"], held["optimiser"]
        return True


def training_of(model: Any, dataset: Dataset, recipe: EncoderRecipe, *, seed: int) -> Training:
    """A training at its start: the network as given, new heads on it, embeddings kept as they are."""
    torch.manual_seed(seed)
    wide, models = 2 * model.config.dim, dataset.labels.shape[1]
    heads = nn.ModuleDict(
        {
            "latent": nn.Linear(wide, recipe.latent),
            "success": nn.Linear(recipe.latent, models),
            "classes": nn.Linear(model.config.dim, 3),
        }
    )
    nn.init.normal_(heads["success"].weight, 0, 0.1)
    for parameter in model.embeddings.parameters():
        parameter.requires_grad_(requires_grad=False)  # 35,000 prompts would overfit 30,000 rows
    return Training(model, heads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What an encoder learns from, and how: `ids` token ids of every prompt of the dataset."""

    dataset: Dataset
    ids: Ids
    recipe: EncoderRecipe
    seed: int


def train_epoch(
    training: Training,
    lesson: Lesson,
    *,
    kept: Path,
    teacher: Floats | None = None,
    told: Callable[[float, float], None] = lambda _, __: None,
) -> None:
    """One pass over the training part, or what is left of it; checkpoints go to `kept`. `told` gets the share done and
    the running loss. On one GPU where there is one; bfloat16 where it is fast.
    """
    dataset, ids, recipe = lesson.dataset, lesson.ids, lesson.recipe
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, heads = training.model.to(device).train(), training.heads.to(device).train()
    network = [value for value in model.parameters() if value.requires_grad]
    optimiser = torch.optim.AdamW(
        [{"params": network}, {"params": heads.parameters()}], weight_decay=recipe.decay
    )
    loss_of = _loss(dataset, teacher, recipe.soft_share, device)
    batches = list(_batches(lesson, np.random.default_rng([lesson.seed, training.epoch])))
    if training.optimiser is not None:
        optimiser.load_state_dict(training.optimiser)
    running, begun = 0.0, training.step
    for step, taken in enumerate(batches[begun:], start=begun):
        for group, rates in zip(
            optimiser.param_groups, (recipe.rates, recipe.head_rates), strict=True
        ):
            group["lr"] = _rate(rates, training.epoch, step, len(batches))
        tokens, mask = _batch(ids, taken)
        with torch.autocast(
            device, torch.bfloat16, enabled=device == "cuda" or _is_fast_bfloat16()
        ):
            seen = pooled(model, tokens.to(device), mask.to(device))
            logits = heads["success"](heads["latent"](nn.functional.dropout(seen, 0.1)))
            classes = heads["classes"](seen[:, : model.config.dim])
        loss = loss_of(logits.float(), classes.float(), taken)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*network, *heads.parameters()], 1.0)
        optimiser.step()
        running += (loss.item() - running) * max(0.02, 1 / (step - begun + 1))
        told((step + 1) / len(batches), running)
        if not (step + 1) % CHECKPOINT_EVERY:
            training.step, training.optimiser = step + 1, optimiser.state_dict()
            training.checkpoint(kept)
    training.epoch, training.step, training.optimiser = training.epoch + 1, 0, None
    training.model, training.heads = model.cpu(), heads.cpu()
    training.checkpoint(kept)


def _rate(rates: Sequence[float], epoch: int, step: int, steps: int) -> float:
    """The rate of one batch: rising for a while (of a short pass a quarter), then falling to 0."""
    warm_up = min(WARM_UP, max(1, steps // 4))
    return rates[min(epoch, len(rates) - 1)] * min(1.0, (step + 1) / warm_up) * (1 - step / steps)


def success_logits(training: Training, features: Floats) -> Floats:
    """Logits [N, M] of the training's own success heads over pooled features."""
    training.heads.eval()
    with torch.inference_mode():
        latent = training.heads["latent"](torch.from_numpy(features))
        found: Floats = training.heads["success"](latent).numpy()
    return found


def success_rows(training: Training) -> tuple[Floats, Floats]:
    """The same heads as one matrix [M, 2 * dim] and bias [M]: two linear maps are one."""
    inner, outer = training.heads["latent"], training.heads["success"]
    with torch.inference_mode():
        weight: Floats = (outer.weight @ inner.weight).numpy()
        bias: Floats = (outer.weight @ inner.bias + outer.bias).numpy()
    return weight, bias


def class_rows(training: Training) -> tuple[Floats, Floats]:
    """The class heads over pooled states: weight [3, 2 * dim] (zero beyond [CLS], Eq. 3) and bias [3]."""
    head = training.heads["classes"]
    with torch.inference_mode():
        weight: Floats = head.weight.numpy()
        bias: Floats = head.bias.numpy().copy()
    return np.hstack([weight, np.zeros_like(weight)]), bias


def _loss(
    dataset: Dataset, teacher: Floats | None, soft_share: float, device: str
) -> Callable[[Any, Any, npt.NDArray[np.intp]], Any]:
    labels, weights = label_weights(dataset.labels)
    targets, cells = torch.from_numpy(labels).to(device), torch.from_numpy(weights).to(device)
    wanted = torch.from_numpy(dataset.classes).to(device)
    soft = None if teacher is None else torch.sigmoid(torch.from_numpy(teacher)).to(device)
    entropy = nn.functional.binary_cross_entropy_with_logits

    def loss_of(logits: Any, classes: Any, rows: npt.NDArray[np.intp]) -> Any:
        taken = torch.from_numpy(rows).to(device)
        hard = (entropy(logits, targets[taken], reduction="none") * cells[taken]).sum() / len(rows)
        if soft is not None:
            followed = entropy(logits, soft[taken], reduction="none").sum() / len(rows)
            hard = (1 - soft_share) * hard + soft_share * followed / labels.shape[1] ** 0.5
        return hard + CLASS_SHARE * nn.functional.cross_entropy(classes, wanted[taken])

    return loss_of


def _batches(lesson: Lesson, order: np.random.Generator) -> Iterator[npt.NDArray[np.intp]]:
    ids, size = lesson.ids, lesson.recipe.batch
    shuffled = order.permutation(lesson.dataset.rows_of("train"))
    for start in range(0, len(shuffled), size * SORTED_BATCHES):
        taken = shuffled[start : start + size * SORTED_BATCHES]
        near = np.array(sorted(taken, key=lambda row: len(ids[row])))
        batches = [near[first : first + size] for first in range(0, len(near), size)]
        yield from (batches[number] for number in order.permutation(len(batches)))


def _batch(ids: Ids, rows: npt.NDArray[np.intp]) -> tuple[Any, Any]:
    longest = max(len(ids[row]) for row in rows)
    tokens = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for number, row in enumerate(rows):
        tokens[number, : len(ids[row])] = torch.tensor(ids[row])
        mask[number, : len(ids[row])] = 1
    return tokens, mask


def _is_fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware; elsewhere it is slower than float32."""
    found: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001 - torch asks itself the same way
    return found
