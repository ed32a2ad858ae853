"""A caller reads what a model server refused, and nothing that is not meant for callers."""

from typing import Any

import pytest

from functions.backends.refusal_quotes import MAX_CHARS, read_param, read_quote

KEY = "sk-abcdefghijklmnopqrstuvwxyz0123"
PYDANTIC = (
    "1 validation error for ChatCompletionRequest\nmessages.0.content\n  Input should be a valid string "
    "[type=string_type, input_value=[{'text': 'my private prompt'}], input_type=list]"
)
QUOTED = (
    "1 validation error for ChatCompletionRequest messages.0.content Input should be a valid string "
    "[type=string_type, ..."
)


@pytest.mark.parametrize(
    ("body", "said", "param"),
    [
        (
            {"error": {"message": "messages[0].content part type invalid", "param": "messages"}},
            "messages[0].content part type invalid",
            "messages",
        ),
        ({"object": "error", "message": "n must be 1", "code": 400}, "n must be 1", None),
        ({"error": "Input validation error: `top_n`", "error_type": "validation"},
         "Input validation error: `top_n`", None),
        (
            {"detail": [{"loc": ["body", "messages", 0, "role"], "msg": "Field required", "input": "my private"}]},
            "Field required",
            "messages[0].role",
        ),
        ({"error": {"message": PYDANTIC}},
         QUOTED, None),
        ("only text", "only text", None),
        ("structured_outputs_of_tools: token limit", "structured_outputs_of_tools: token limit", None),
        (None, None, None),
        ({"error": {"message": 5, "param": 7}}, None, None),
        ([[[[[["deep"]]]]]], None, None),
    ],
)  # fmt: skip
def test_the_sentence_and_the_field_are_repeated(
    body: Any, said: str | None, param: str | None
) -> None:
    assert read_quote(body) == said
    assert read_param(body) == param


@pytest.mark.parametrize(
    "hidden",
    [
        "http://10.1.2.3:8000/v1/chat",
        "10.1.2.3",
        "gpu-7.internal:8000",
        "/models/private/llama.gguf",
        "~/weights/llama",
        KEY,
        f"Bearer {KEY}",
        "api_key=hunter2",
        "token: hunter2",
        "deadbeef0123456789abcdef01234567",
    ],
)
def test_what_is_not_for_callers_is_left_out(hidden: str) -> None:
    found = read_quote({"error": {"message": f"cannot use {hidden} here"}})
    assert found is not None
    assert hidden not in found
    assert "hunter2" not in found
    assert found.startswith("cannot use")
    assert found.endswith("here")


def test_a_quote_is_one_short_line() -> None:
    found = read_quote({"error": {"message": "no \x1b[31m\r\n\u2028" * 500}})
    assert found is not None
    assert len(found) == MAX_CHARS
    assert found.isprintable()
