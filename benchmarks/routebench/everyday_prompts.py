"""The everyday suite's prompts: what people type, each labelled with the class that it should get, and why.

docs/routebench.md has the rubric. The halves are by a hash of the prompt: choices are made on `dev`, `held_out` is
reported.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from router_model.classifier.keyword_rules import RouteClass

FILE: Final = Path(__file__).with_name("everyday.jsonl")
LEARNED: Final = Path(__file__).with_name("everyday_learned.jsonl")
"""Further labelled prompts that are no part of the suite: written to be learned from, never scored."""
HALVES: Final = ("dev", "held_out")
Half = Literal["dev", "held_out"]
Text = Annotated[str, msgspec.Meta(min_length=1)]


class EverydayPrompt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One prompt, the class that the rubric gives it, and the reason in a line."""

    prompt: Text
    label: RouteClass = msgspec.field(name="class")
    why: Text
    kind: Text
    language: Text

    @property
    def half(self) -> Half:
        return half_of(self.prompt)


def half_of(prompt: str) -> Half:
    """Fixed by the prompt alone, so that no choice can be made on one prompt more."""
    digest = hashlib.sha256(f"everyday-1:{prompt}".encode()).hexdigest()
    return "dev" if int(digest[:8], 16) % 2 == 0 else "held_out"


def prompts_to_learn() -> tuple[EverydayPrompt, ...]:
    """What the shipped heads have learned from: the dev half and the further prompts."""
    return (*(each for each in load_everyday() if each.half == "dev"), *load_everyday(LEARNED))


def load_everyday(path: Path = FILE) -> tuple[EverydayPrompt, ...]:
    lines = path.read_bytes().splitlines()
    return tuple(msgspec.json.decode(line, type=EverydayPrompt) for line in lines)
