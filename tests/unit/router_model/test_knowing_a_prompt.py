"""Features: the question, an estimate of its tokens, a lower bound, the length of the answer."""

import re

from hypothesis import given
from hypothesis import strategies as st

from events.names import Operation
from router_model.classifier.features import MAX_CLASSIFIED_CHARS, TAIL_CHARS, extract_features

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def test_the_question_is_the_last_user_message() -> None:
    body = {
        "messages": [
            {"role": "system", "content": "prove everything"},
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "answer"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "second"}, {"type": "image_url"}],
            },
        ]
    }
    found = extract_features(Operation.CHAT, body)
    assert found.text == "second"
    assert found.tokens > found.least_tokens == 5


def test_tokens_given_as_numbers_are_counted_exactly() -> None:
    found = extract_features(Operation.COMPLETIONS, {"prompt": [5] * 700})
    assert (found.tokens, found.least_tokens, found.text) == (700, 700, "")


def test_of_several_inputs_the_longest_counts() -> None:
    found = extract_features(Operation.EMBEDDINGS, {"input": ["a", "b " * 50, "c"]})
    assert found.least_tokens == 50
    assert found.answer_tokens == 0


def test_the_callers_limit_bounds_the_expected_answer() -> None:
    assert (
        extract_features(Operation.COMPLETIONS, {"prompt": "x", "max_tokens": 5}).answer_tokens == 5
    )
    assert extract_features(Operation.COMPLETIONS, {"prompt": "x"}).answer_tokens == 256


def test_a_classifier_reads_a_bounded_part() -> None:
    found = extract_features(Operation.COMPLETIONS, {"prompt": "word " * 100_000})
    assert len(found.text) == MAX_CLASSIFIED_CHARS
    assert len(found.tail) == TAIL_CHARS
    assert found.least_tokens == 100_000


@given(
    st.sampled_from(Operation),
    st.dictionaries(st.sampled_from(["messages", "prompt", "input", "max_tokens"]), json_values),
)
def test_no_shape_of_body_raises(operation: Operation, body: dict[str, object]) -> None:
    found = extract_features(operation, body)
    assert found.tokens >= 1
    assert found.least_tokens >= 0


@given(st.text())
def test_the_lower_bound_counts_what_stands_between_white_space(text: str) -> None:
    """Only that of ASCII: anything else between two blanks is a token at least."""
    found = extract_features(Operation.COMPLETIONS, {"prompt": text})
    pieces = re.split(r"[\t-\r\x1c-\x1f ]+", text)
    assert found.least_tokens == len([piece for piece in pieces if piece])
    if text.isascii():
        assert found.least_tokens == len(text.split())


def test_tools_and_images_are_needs() -> None:
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}
    plain = {"role": "user", "content": "hi"}
    assert extract_features(Operation.CHAT, {"messages": [plain]}).needs == ()
    body = {"messages": [image, plain], "functions": [{"name": "f"}]}
    assert extract_features(Operation.CHAT, body).needs == ("tools", "vision")
    assert extract_features(Operation.COMPLETIONS, body).needs == ()
