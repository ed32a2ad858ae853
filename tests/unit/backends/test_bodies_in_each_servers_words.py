"""The same wish, told to each kind of server as it wants to be told."""

import re
from typing import Any

import pytest

from functions.backends.body_translation import translate_body

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
WRAPPED = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}


@pytest.mark.parametrize(
    ("kind", "wish", "told"),
    [
        ("vllm", {"guided_json": SCHEMA}, {"response_format": WRAPPED}),
        ("ollama", {"structured_outputs": {"json": SCHEMA}}, {"response_format": WRAPPED}),
        ("openai", {"guided_json": '{"type": "object"}'}, {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": {"type": "object"}},
            }
        }),
        ("tgi", {"guided_json": SCHEMA}, {"response_format": {"type": "json", "value": SCHEMA}}),
        ("vllm", {"guided_regex": "a+"}, {"structured_outputs": {"regex": "a+"}}),
        ("sglang", {"structured_outputs": {"regex": "a+"}}, {"regex": "a+"}),
        ("trtllm", {"guided_regex": "a+"}, {"response_format": {"type": "regex", "regex": "a+"}}),
        ("vllm", {"guided_choice": ["a", "b"]}, {"structured_outputs": {"choice": ["a", "b"]}}),
        ("llamacpp", {"guided_choice": ['a"', "b"]}, {"grammar": 'root ::= "a\\"" | "b"'}),
        ("llamacpp", {"guided_grammar": "root ::= x"}, {"grammar": "root ::= x"}),
        ("sglang", {"guided_grammar": "root ::= x"}, {"ebnf": "root ::= x"}),
        ("openai", {"guided_regex": "a+"}, {"guided_regex": "a+"}),
        ("openai", {"structured_outputs": {"choice": ["a"]}}, {
            "structured_outputs": {"choice": ["a"]}
        }),
        ("sglang", {"structured_outputs": {"json_object": True}}, {
            "response_format": {"type": "json_object"}
        }),
        ("llamacpp", {"repetition_penalty": 1.2}, {"repeat_penalty": 1.2, "repeat_last_n": 65_536}),
        ("sglang", {"include_stop_str_in_output": True}, {"no_stop_trim": True}),
        ("vllm", {"chat_template_kwargs": {"a": False}}, {"chat_template_kwargs": {"a": False}}),
        ("vllm", {"ignore_eos": True, "top_k": -1}, {"ignore_eos": True, "top_k": -1}),
        ("tgi", {"ignore_eos": False, "top_k": -1, "echo": False}, {}),
        ("vllm", {"use_beam_search": False}, {}),
    ],
)  # fmt: skip
def test_a_wish_is_told_in_the_servers_words(kind: Any, wish: Any, told: Any) -> None:
    assert translate_body(kind, {"seed": 1, **wish}) == {"seed": 1, **told}


def test_an_older_vllm_is_told_in_its_older_words() -> None:
    wish = {"structured_outputs": {"regex": "a+"}}
    assert translate_body("vllm", wish, (0, 10, 2)) == {"guided_regex": "a+"}
    assert translate_body("vllm", wish, (0, 12)) == wish


def test_a_choice_as_a_pattern_matches_the_texts_and_nothing_else() -> None:
    pattern = translate_body("sglang", {"guided_choice": ["a.b", "(c)"]})["regex"]
    assert [re.fullmatch(pattern, text) is not None for text in ("a.b", "(c)", "axb", "c")] == [
        True,
        True,
        False,
        False,
    ]


def test_no_tools_are_no_tools_where_the_server_knows_no_choice_of_them() -> None:
    body = {"tools": [{}], "tool_choice": "none"}
    assert translate_body("ollama", body) == {}
    assert translate_body("vllm", body) == body
