"""The weights in `router_model/weights`: whole, small enough, as good as when trained, and used without torch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from events.names import Operation
from router_model.classifier import weights
from router_model.classifier.features import PromptFeatures
from router_model.classifier.heads import CLASSES
from router_model.classifier.hybrid import MODES

PARITY = Path(__file__).parents[2] / "golden" / "encoder_parity.npz"
MAX_BYTES = 30_000_000
LEAST_COSINE = 0.98
PROMPTS = (
    "What is the capital of France?",
    (
        "Janet's ducks lay 16 eggs per day. She eats three for breakfast every morning and bakes muffins for her "
        "friends every day with four. She sells the remainder at the market for $2 per egg. How much is that "
        "a day?"
    ),
    (
        "Which of the following is a consequence of the second law of thermodynamics?\n(A) Energy is conserved\n"
        "(B) Entropy of an isolated system does not fall\n(C) Heat is work\n(D) None of these\nAnswer:"
    ),
    "Write a Python function `merge(a, b)` that merges two sorted lists in linear time.\n```python\ndef merge(a, b):\n",
    "Let $f(x) = x^3 - 3x + 1$. Prove that $f$ has exactly three real roots and find the sum of their squares.",
)
DECIDING = """
import sys
from events.names import Operation
from router_model.classifier import weights
from router_model.classifier.features import PromptFeatures
found = weights.load_learned(mode="transformer")
asked = PromptFeatures(operation=Operation.CHAT, text=sys.argv[1], tokens=1, least_tokens=1)
print(found.classify(asked).reason, *sorted({name.split(".")[0] for name in sys.modules}))
"""

pytestmark = pytest.mark.skipif(
    not (weights.SHIPPED / weights.MANIFEST).exists(), reason="no shipped weights"
)


@pytest.fixture(scope="module")
def by_mode():
    return {mode: weights.load_learned(mode=mode) for mode in MODES}


@pytest.fixture(scope="module")
def models(by_mode):
    names = by_mode["linear"]._linear.heads.names
    return tuple(name for name in names if not name.startswith("tier:"))


def asked(text: str) -> PromptFeatures:
    return PromptFeatures(operation=Operation.CHAT, text=text, tokens=1, least_tokens=1)


def test_every_file_is_the_one_that_the_manifest_names() -> None:
    manifest = weights.read_manifest(weights.SHIPPED)
    expected = {weights.LINEAR, weights.ENCODER, weights.NETWORK, weights.TOKENIZER}
    assert expected <= set(manifest.files)
    for name in manifest.files:
        assert weights.verify_files(weights.SHIPPED, name, manifest)


def test_all_weights_together_are_small() -> None:
    files = [path for path in weights.SHIPPED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_plain_question_finds_a_class_chances_and_lengths(by_mode, models, mode, prompt) -> None:
    found = by_mode[mode].classify(asked(prompt), (*models, "nobody knows"))
    assert found.reason in ({"linear", "encoder"} if mode != "transformer" else {"encoder"})
    assert found.route_class in CLASSES
    assert set(found.success) == set(models)
    assert set(found.tier_success) == {"L1", "L2", "L3"}
    chances = [*found.success.values(), *found.tier_success.values()]
    assert all(0 < chance < 1 for chance in chances)
    assert len({round(chance, 6) for chance in found.success.values()}) > len(models) // 2
    assert 1 <= found.typical_answer_tokens <= 10_000
    assert all(1 <= tokens <= 10_000 for tokens in found.answer_tokens.values())


@pytest.mark.parametrize("mode", MODES)
def test_an_average_large_model_answers_at_least_as_well_as_a_small_one(by_mode, mode) -> None:
    found = [by_mode[mode].classify(asked(prompt)).tier_success for prompt in PROMPTS]
    assert sum(each["L3"] for each in found) > sum(each["L1"] for each in found)


def test_text_without_any_known_word_is_left_to_the_rule(by_mode) -> None:
    for mode in MODES:
        found = by_mode[mode].classify(asked("\u13a0\u13b3\u13a9 \u13a6\u13ec\u13c2 " * 40))
        assert (found.reason, found.success) == ("abstained", {})


@pytest.mark.parametrize(
    ("prompt", "route_class"),
    [
        ("What is the capital of Norway?", "low"),
        ("Say hello.", "low"),
        ("Thanks!", "low"),
        (
            "Write an invitation to my father's 70th birthday, warm, with a line on parking.",
            "medium",
        ),
        ("Prove that there are infinitely many primes.", "high"),
    ],
)
def test_everyday_prompts_have_the_class_that_anybody_expects(by_mode, prompt, route_class) -> None:
    found = by_mode["transformer"].classify(asked(prompt))
    assert (found.route_class, found.reason) == (route_class, "encoder")


@pytest.fixture(scope="module")
def parity():
    with np.load(PARITY, allow_pickle=False) as held:
        return weights._strings(held["prompts"]), held["pooled"]


def test_the_int8_network_agrees_with_torch(by_mode, parity) -> None:
    prompts, expected = parity
    encoder = by_mode["transformer"]._encoder
    assert len(prompts) == len(expected) > 0
    for prompt, there in zip(prompts, expected, strict=True):
        here = encoder.pooled(prompt)
        cosine = here @ there / (np.linalg.norm(here) * np.linalg.norm(there))
        assert cosine >= LEAST_COSINE, prompt


def test_a_decision_imports_nothing_that_trains() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DECIDING, PROMPTS[0]], check=True, capture_output=True, text=True
    )
    reason, *modules = done.stdout.split()
    assert reason == "encoder"
    assert not {"torch", "transformers", "sklearn", "onnx", "safetensors"} & set(modules)
