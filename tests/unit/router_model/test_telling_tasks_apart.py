"""Which task a prompt looks like: by its operation, and by what stands at either end of the question."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.names import Operation
from router_model.classifier.features import MAX_CLASSIFIED_CHARS, extract_features
from router_model.classifier.task_detection import TaskName, detect_task

FILLER = "The council met again on Thursday and heard the report of the harbour master. " * 200


def looks_like(text: str) -> TaskName:
    body = {"messages": [{"role": "user", "content": text}]}
    return detect_task(extract_features(Operation.CHAT, body))


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("coding", "Write a Python function to find the shared elements of two lists."),
        ("coding", "What does this do?\n```\nx = y >> 2\n```"),
        ("coding", "def add(a, b):\n    return a + b\n\nIs there an error?"),
        ("coding", "Why is this slow?\nSELECT name FROM users WHERE age > 30"),
        ("coding", "fix the bug in my sorting algorithm"),
        ("summarize", "Summarise the following article: " + FILLER),
        ("summarize", FILLER + "\n\nTL;DR:"),
        ("summarize", "Summarize this code:\n```\nprint(1)\n```"),
        ("classify", "Classify this review as positive or negative: I liked it."),
        ("classify", "Which category does this ticket belong to: billing, outage, other?"),
        ("classify", FILLER + "\nDetermine the sentiment of the text above."),
        ("chat", "Hello there"),
        ("chat", "What is the largest city of the state of New South Wales?"),
        ("chat", "Let f be a linear function with f(2) = 3 and f(4) = 7. What is f(10)?"),
        ("chat", "Which class of antibiotics does penicillin belong to?"),
        ("chat", "Natalia sold clips to 48 of her friends. How many clips did she sell?"),
        ("chat", ""),
    ],
)
def test_a_prompt_looks_like_its_task(task: TaskName, text: str) -> None:
    assert looks_like(text) == task


def test_an_embedding_is_one_whatever_the_text() -> None:
    features = extract_features(Operation.EMBEDDINGS, {"input": "Summarize this code"})
    assert detect_task(features) == "embed"


def test_the_end_of_a_question_that_was_cut_still_counts() -> None:
    text = "x " * MAX_CLASSIFIED_CHARS + "\nPlease summarize the text above."
    assert looks_like(text) == "summarize"


@given(st.text(max_size=300))
def test_any_text_has_one_of_the_tasks(text: str) -> None:
    assert looks_like(text) in {"coding", "chat", "summarize", "classify"}
