"""What the suites that train share: prompts whose outcomes can be learned, and a tiny encoder in a user's directory."""

import gzip
import json
import random
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import tokenizers

collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]
"""Without torch (`make test`) there is nothing here to read."""

HARD = ("prove", "derive", "integrate", "factorise")
EASY = ("hello", "thanks", "greet", "welcome")
NOUNS = ("cat", "dog", "sum", "field", "ring", "river", "engine", "poem")
SMALL, LARGE = "small-1b", "large-70b"


def prompts_of(count: int, seed: int) -> list[tuple[str, bool]]:
    """Prompts, and whether they are hard."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        is_hard = draw.random() < 0.5
        verb = draw.choice(HARD if is_hard else EASY)
        nouns = " and the ".join(draw.sample(NOUNS, 3))
        found.append((f"{verb} the {nouns} {draw.randint(10, 99)}", is_hard))
    return found


def write_outcomes(directory: Path, count: int, *, seed: int = 1) -> Path:
    """The small model fails on what is hard, the large one nearly never; both with some noise."""
    directory.mkdir(parents=True, exist_ok=True)
    draw = random.Random(seed + 1)
    with gzip.open(directory / "made.jsonl.gz", "wt", encoding="utf-8") as out:
        for number, (prompt, is_hard) in enumerate(prompts_of(count, seed)):
            small = draw.random() < (0.1 if is_hard else 0.9)
            row = {
                "id": f"made/{number}", "source": "made", "benchmark": "made", "qkey": f"{seed}/{number}",
                "prompt": prompt, "outcomes": {SMALL: float(small), LARGE: float(draw.random() < 0.9)},
                "out_chars": {SMALL: 200, LARGE: 200 + 4 * is_hard * 200},
            }  # fmt: skip
            out.write(json.dumps(row) + "\n")
    return directory


def word_tokenizer() -> Any:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *HARD, *EASY, *NOUNS, "the", "and"]
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel(
            {word: row for row, word in enumerate(words)}, unk_token="[UNK]"
        )
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_outcomes(tmp_path_factory.mktemp("outcomes"), 400)


@pytest.fixture(scope="session")
def distilbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as `save_pretrained` writes it: a DistilBERT of two small layers, drawn at random."""
    import torch  # noqa: PLC0415 - not there in `make test`
    import transformers  # noqa: PLC0415

    directory = tmp_path_factory.mktemp("distilbert")
    torch.manual_seed(5)
    config = transformers.DistilBertConfig(
        vocab_size=32, dim=32, hidden_dim=64, n_layers=2, n_heads=2, max_position_embeddings=128
    )
    transformers.DistilBertModel(config).save_pretrained(directory)
    word_tokenizer().save(str(directory / "tokenizer.json"))
    return directory


class Made:
    """Makes prompts and outcome files; names of the models in them."""

    small, large = SMALL, LARGE
    prompts = staticmethod(prompts_of)
    write = staticmethod(write_outcomes)


@pytest.fixture(scope="session")
def made() -> Made:
    return Made()
