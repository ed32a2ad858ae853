"""What the linear stage sees of a prompt: its terms (words and pairs of neighbouring words) and cheap numbers.

Training and serving share this module: a change of it makes trained weights wrong, so `SCHEME` is in their manifest.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

SCHEME: Final = "terms-1"
"""Name of this way of taking features; weights trained under another name are refused."""
MAX_CHARS: Final = 3_000
"""The linear stage reads this much of a prompt: bounds the time of a decision."""
CODE_WORDS: Final = ("def ", "```", "class ", "return ", "import ", "#include", "function")
NEGATIONS: Final = (" not ", "except", "least ", "false")

_WORD: Final = re.compile(r"[a-z][a-z']*|\d+|[^\sa-z\d]")
_OPTION: Final = re.compile(r"^\(?[A-P][.):] ", re.MULTILINE)
_DIGITS: Final = b"0123456789"
_CAPITALS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ASCII: Final = bytes(range(128))

NUMBER_NAMES: Final = (
    "log_chars", "log_words", "chars_a_word", "options", "has_options", "has_four_options", "has_nine_options",
    "log_digits", "digit_share", "log_lines", "log_backslashes", "log_dollars", "log_questions", "log_equals",
    "log_blanks", "log_brackets", "code", "capital_share", "foreign_share", "negations", "ends_answer", "ends_question",
    "begins_q", "ends_colon",
)  # fmt: skip
"""What `extract_numbers` returns, in order."""


def extract_terms(text: str) -> Iterator[str]:
    """Words, runs of digits and single signs of the lower-cased text, then every pair of neighbours."""
    words = _WORD.findall(text[:MAX_CHARS].lower())
    return itertools.chain(words, map(" ".join, itertools.pairwise(words)))


def count_terms(text: str) -> Counter[str]:
    return Counter(extract_terms(text))


def extract_numbers(text: str) -> npt.NDArray[np.float32]:
    """Cheap numeric features [len(NUMBER_NAMES)], not standardised. Takes the text uncut but for `MAX_CHARS`."""
    cut = text[:MAX_CHARS]
    raw = cut.encode("utf-8", "replace")
    size, words = len(cut), len(cut.split())
    digits = len(raw) - len(raw.translate(None, _DIGITS))
    capitals = len(raw) - len(raw.translate(None, _CAPITALS))
    foreign = len(raw.translate(None, _ASCII))
    options = len(_OPTION.findall(cut))
    lower, end = cut.lower(), cut.rstrip()[-12:].lower()
    return np.array(
        (
            math.log1p(len(text)), math.log1p(words), size / (words + 1), options / 10, options > 0, options == 4,
            options >= 9, math.log1p(digits), digits / (size + 1), math.log1p(cut.count("\n")),
            math.log1p(cut.count("\\")), math.log1p(cut.count("$")), math.log1p(cut.count("?")),
            math.log1p(cut.count("=")), math.log1p(cut.count("_")), math.log1p(cut.count("(")),
            sum(word in cut for word in CODE_WORDS), capitals / (size + 1), foreign / (size + 1),
            sum(word in lower for word in NEGATIONS), end.endswith("answer:"), end.endswith("?"),
            lower.startswith("q:"), end.endswith(":"),
        ),
        dtype=np.float32,
    )  # fmt: skip
