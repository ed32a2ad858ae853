"""What the linear stage sees of a prompt: terms and numbers, the same when training and when serving."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_model.classifier.prompt_terms import (
    MAX_CHARS,
    NUMBER_NAMES,
    SCHEME,
    count_terms,
    extract_numbers,
    extract_terms,
)

anything = st.text(st.characters(codec=None), max_size=200)
"""Lone surrogates and NUL too."""
texts = anything | st.text("ab'z 2९?\n-Z", max_size=60)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def words_one_by_one(text: str) -> list[str]:
    """The rule, said without a regular expression."""
    found, rest = [], text[:MAX_CHARS].lower()
    while rest:
        first = rest[0]
        if first in LETTERS:
            word = "".join(itertools.takewhile((LETTERS + "'").__contains__, rest))
        elif first.isdecimal():
            word = "".join(itertools.takewhile(str.isdecimal, rest))
        else:
            word = first
        if not word.isspace():
            found.append(word)
        rest = rest[len(word) :]
    return found


def named(text: str) -> dict[str, float]:
    return dict(zip(NUMBER_NAMES, extract_numbers(text).tolist(), strict=True))


@given(texts)
def test_terms_are_the_words_and_then_the_pairs_of_neighbours(text: str) -> None:
    words = words_one_by_one(text)
    pairs = [f"{one} {other}" for one, other in itertools.pairwise(words)]
    assert list(extract_terms(text)) == words + pairs
    assert count_terms(text) == Counter(words + pairs)


@given(texts)
def test_any_text_has_all_numbers_and_they_are_finite(text: str) -> None:
    found = extract_numbers(text)
    assert found.shape == (len(NUMBER_NAMES),)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert (found >= 0).all()


def test_terms_of_a_question() -> None:
    assert list(extract_terms("Don't add 12+3!")) == [
        *("don't", "add", "12", "+", "3", "!"),
        *("don't add", "add 12", "12 +", "+ 3", "3 !"),
    ]


def test_numbers_of_a_question_with_options() -> None:
    text = "Q: Which is NOT prime = 2_$?\n(A) 4\n(B) 5\n(C) 7\n(D) 11\nAnswer:"
    found = named(text)
    assert found["log_chars"] == pytest.approx(math.log1p(len(text)))
    assert found["log_words"] == pytest.approx(math.log1p(len(text.split())))
    assert found["options"] == pytest.approx(0.4)
    assert (found["has_options"], found["has_four_options"], found["has_nine_options"]) == (1, 1, 0)
    assert found["log_digits"] == pytest.approx(math.log1p(6))
    assert found["log_lines"] == pytest.approx(math.log1p(5))
    assert found["log_dollars"] == found["log_equals"] == found["log_blanks"]
    assert found["log_brackets"] == pytest.approx(math.log1p(4))
    assert found["capital_share"] == pytest.approx(10 / (len(text) + 1))
    assert (
        found["negations"] == found["begins_q"] == found["ends_answer"] == found["ends_colon"] == 1
    )
    assert found["ends_question"] == found["code"] == found["foreign_share"] == 0


@pytest.mark.parametrize(
    ("letters", "has", "four", "nine"), [("A", 1, 0, 0), ("ABCD", 1, 1, 0), ("ABCDEFGHI", 1, 0, 1)]
)
def test_options_at_the_begin_of_lines_are_counted(letters, has, four, nine) -> None:
    found = named("Which?\n" + "\n".join(f"{letter}. one" for letter in letters))
    assert found["options"] == pytest.approx(len(letters) / 10)
    assert (found["has_options"], found["has_four_options"], found["has_nine_options"]) == (
        has,
        four,
        nine,
    )


def test_of_a_long_text_only_the_length_is_seen_beyond_the_cut() -> None:
    head = "word 7 " * 500
    assert len(head) > MAX_CHARS
    assert count_terms(head) == count_terms(head + "further words")
    one, other = named(head), named(head + "FURTHER ???")
    assert one.pop("log_chars") < other.pop("log_chars")
    assert one == other


def test_the_scheme_changes_with_what_trained_weights_depend_on() -> None:
    """Whoever changes terms or numbers changes this value and `SCHEME` with it."""
    text = "Prove, in 3 steps:\n(A) x_1 = \\sqrt{2}$? def f(): return 'é'\nA. yes not ANSWER:"
    expected = [
        4.369448, 2.833213, 4.588235, 0.2, 1.0, 0.0, 0.0, 1.386294, 0.037975, 1.098612, 0.693147, 0.693147, 0.693147,
        0.693147, 0.693147, 1.098612, 2.0, 0.113924, 0.025316, 1.0, 1.0, 0.0, 0.0, 1.0,
    ]  # fmt: skip
    assert SCHEME == "terms-1"
    assert extract_numbers(text) == pytest.approx(expected, abs=1e-5)
