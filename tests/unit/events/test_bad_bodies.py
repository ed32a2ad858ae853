"""Rows H12 and H24-H37 of the bad-input catalogue: OpenAI bodies that are JSON and still refused, or passed on."""

import base64
import contextlib
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import fields

from events.codecs.json_codec import dumps, loads_object
from events.errors import EventRejected
from events.names import Operation
from events.openai import bodies
from events.openai.body_validation import check_body, without_nulls
from events.openai.refused_fields import REFUSED_FIELDS

USER = {"role": "user", "content": "hi"}
CHAT = {"messages": [USER]}
DATA_URL = "data:image/png;base64," + base64.b64encode(b"png").decode()


def chat(**fields: object) -> dict[str, object]:
    return {**CHAT, **fields}


def message(**fields: object) -> dict[str, object]:
    return {"messages": [{"role": "user", **fields}]}


def part(**fields: object) -> dict[str, object]:
    return message(content=[{"type": "text", "text": "see"}, fields])


def schema(inner: object) -> dict[str, object]:
    return chat(
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": inner}}
    )


def nested(depth: int) -> dict[str, object]:
    found: dict[str, object] = {"type": "string"}
    for _ in range(depth):
        found = {"properties": {"a": found}}
    return found


SCHEMA_AT = "response_format.json_schema.schema"
CASES: list[tuple[str, dict[str, object], str]] = [
    ("H12-NUL-in-model", chat(model="a\x00b"), "model"),
    ("H12-escape-in-model", chat(model="a\x1b[31m"), "model"),
    ("model-empty", chat(model=""), "model"),
    ("model-number", chat(model=5), "model"),
    ("H24-messages-missing", {"model": "a"}, "messages"),
    ("H24-messages-null", {"messages": None}, "messages"),
    ("H24-messages-empty", {"messages": []}, "messages"),
    ("H24-messages-object", {"messages": {}}, "messages"),
    ("H24-100001-messages", {"messages": [USER] * 100_001}, "messages"),
    ("H24-message-text", {"messages": ["hi"]}, "messages[0]"),
    (
        "H25-role-unknown",
        {"messages": [USER, {"role": "wizard", "content": "hi"}]},
        "messages[1].role",
    ),
    ("H25-role-missing", {"messages": [{"content": "hi"}]}, "messages[0].role"),
    ("H25-content-null", message(content=None), "messages[0].content"),
    ("H25-content-missing", message(), "messages[0].content"),
    ("H25-content-number", message(content=5), "messages[0].content"),
    ("H25-content-empty-list", message(content=[]), "messages[0].content"),
    (
        "H25-2049-parts",
        message(content=[{"type": "text", "text": "a"}] * 2049),
        "messages[0].content",
    ),
    ("H25-part-unknown", part(type="hologram"), "messages[0].content[1].type"),
    ("H25-part-without-type", part(text="a"), "messages[0].content[1].type"),
    ("H25-part-nested", part(type="text", text=[{"type": "text"}]), "messages[0].content[1].text"),
    ("H26-max_tokens-0", chat(max_tokens=0), "max_tokens"),
    ("H26-max_tokens-minus-1", chat(max_tokens=-1), "max_tokens"),
    ("H26-max_tokens-1e10", chat(max_tokens=1e10), "max_tokens"),
    ("H26-max_tokens-1e12", chat(max_tokens=10**12), "max_tokens"),
    ("H26-max_tokens-text", chat(max_tokens="5"), "max_tokens"),
    ("H26-max_tokens-1.5", chat(max_tokens=1.5), "max_tokens"),
    ("H26-max_tokens-true", chat(max_tokens=True), "max_tokens"),
    ("H26-max_completion_tokens-0", chat(max_completion_tokens=0), "max_completion_tokens"),
    ("H27-temperature-NaN", chat(temperature=math.nan), "temperature"),
    ("H27-temperature-minus-1", chat(temperature=-1), "temperature"),
    ("H27-temperature-99", chat(temperature=99), "temperature"),
    ("H27-temperature-text", chat(temperature="hot"), "temperature"),
    ("H27-top_p-2", chat(top_p=2), "top_p"),
    ("H27-presence_penalty-3", chat(presence_penalty=3), "presence_penalty"),
    ("H28-n-0", chat(n=0), "n"),
    ("H28-n-17", chat(n=17), "n"),
    ("H28-n-1000", chat(n=1000), "n"),
    ("H28-n-true", chat(n=True), "n"),
    ("H29-1000-stops", chat(stop=["a"] * 1000), "stop"),
    ("H29-empty-stop", chat(stop=""), "stop"),
    ("H29-empty-stop-in-list", chat(stop=["a", ""]), "stop[1]"),
    ("H29-1-MB-stop", chat(stop="a" * 1_000_000), "stop"),
    ("H29-1-MB-stop-in-list", chat(stop=["a" * 1_000_000]), "stop[0]"),
    ("H29-stop-number", chat(stop=[5]), "stop[0]"),
    ("H30-1025-biases", chat(logit_bias={str(n): 0 for n in range(1025)}), "logit_bias"),
    ("H30-bias-out-of-range", chat(logit_bias={"5": 101}), "logit_bias[...]"),
    ("H30-bias-key-is-no-token", chat(logit_bias={"hello": 1}), "logit_bias"),
    ("H30-logprobs-number-in-chat", chat(logprobs=5), "logprobs"),
    ("H30-top_logprobs-21", chat(logprobs=True, top_logprobs=21), "top_logprobs"),
    ("H30-top_logprobs-without-logprobs", chat(top_logprobs=1), "top_logprobs"),
    ("H31-stream-text", chat(stream="yes"), "stream"),
    ("H31-stream-number", chat(stream=1), "stream"),
    (
        "H32-stream_options-without-stream",
        chat(stream_options={"include_usage": True}),
        "stream_options",
    ),
    ("H32-stream_options-text", chat(stream=True, stream_options="x"), "stream_options"),
    (
        "H33-format-unknown",
        chat(response_format={"type": "regex", "regex": "(a+)+$"}),
        "response_format.type",
    ),
    (
        "H33-format-without-schema",
        chat(response_format={"type": "json_schema"}),
        "response_format.json_schema",
    ),
    ("H33-deep-schema", schema(nested(40)), SCHEMA_AT),
    ("H33-wide-schema", schema({"anyOf": [{"type": "string"}] * 50_001}), SCHEMA_AT),
    ("H33-5001-properties", schema({"properties": {f"p{n}": {} for n in range(5001)}}), SCHEMA_AT),
    ("H33-large-schema", schema({"description": "x" * 1_100_000}), SCHEMA_AT),
    ("H33-long-pattern", schema({"properties": {"a": {"pattern": "(a+)+" * 200}}}), SCHEMA_AT),
    (
        "H33-deep-tool",
        chat(tools=[{"type": "function", "function": {"name": "f", "parameters": nested(40)}}]),
        "tools[0].function.parameters",
    ),
    (
        "tool-name",
        chat(tools=[{"type": "function", "function": {"name": "a b"}}]),
        "tools[0].function.name",
    ),
    (
        "tool-name-newline",
        chat(tools=[{"type": "function", "function": {"name": "f\n"}}]),
        "tools[0].function.name",
    ),
    ("tool-choice", chat(tool_choice="any"), "tool_choice"),
    (
        "H34-image-inside",
        part(type="image_url", image_url={"url": "http://169.254.169.254/latest"}),
        "messages[0].content[1].image_url.url",
    ),
    (
        "H34-image-outside",
        part(type="image_url", image_url={"url": "https://example.com/a.png"}),
        "messages[0].content[1].image_url.url",
    ),
    (
        "H34-image-file",
        part(type="image_url", image_url={"url": "file:///etc/passwd"}),
        "messages[0].content[1].image_url.url",
    ),
    (
        "H34-image-leading-space",
        part(type="image_url", image_url={"url": " data:image/png;base64,x"}),
        "messages[0].content[1].image_url.url",
    ),
    (
        "H34-image-text",
        part(type="image_url", image_url="http://a"),
        "messages[0].content[1].image_url",
    ),
    (
        "H34-video",
        part(type="video_url", video_url={"url": "http://a/"}),
        "messages[0].content[1].video_url.url",
    ),
    (
        "H34-audio",
        part(type="audio_url", audio_url={"url": "http://a/"}),
        "messages[0].content[1].audio_url.url",
    ),
    (
        "H34-file-url",
        part(type="file", file={"file_url": "http://a/"}),
        "messages[0].content[1].file.file_url",
    ),
    (
        "H34-file-id",
        part(type="file", file={"file_id": "file-1"}),
        "messages[0].content[1].file.file_id",
    ),
    ("H34-file-nothing", part(type="file", file={}), "messages[0].content[1].file.file_data"),
]


@pytest.mark.parametrize(("body", "param"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_bad_chat_body_is_refused_by_the_name_of_its_field(
    body: dict[str, object], param: str
) -> None:
    with pytest.raises(EventRejected) as caught:
        check_body(Operation.CHAT, body)
    assert (caught.value.code, caught.value.attribute) == ("invalid_value", param)
    assert len(caught.value.message) < 300


PROMPTS: list[tuple[str, dict[str, object], str]] = [
    ("missing", {}, "prompt"),
    ("number", {"prompt": 5}, "prompt"),
    ("empty-list", {"prompt": []}, "prompt"),
    ("mixture", {"prompt": ["a", 1]}, "prompt"),
    ("booleans", {"prompt": [True]}, "prompt[0]"),
    ("negative-token", {"prompt": [[1, -1]]}, "prompt"),
    ("best_of-below-n", {"prompt": "a", "n": 3, "best_of": 2}, "best_of"),
    ("H30-logprobs-21", {"prompt": "a", "logprobs": 21}, "logprobs"),
    ("H32-stream_options", {"prompt": "a", "stream_options": {}}, "stream_options"),
    (
        "H33-format",
        {"prompt": "a", "response_format": {"type": "json_schema"}},
        "response_format.json_schema",
    ),
]


@pytest.mark.parametrize(("body", "param"), [c[1:] for c in PROMPTS], ids=[c[0] for c in PROMPTS])
def test_a_bad_completions_body_is_refused(body: dict[str, object], param: str) -> None:
    with pytest.raises(EventRejected) as caught:
        check_body(Operation.COMPLETIONS, body)
    assert caught.value.attribute == param


INPUTS: list[tuple[str, dict[str, object], str]] = [
    ("missing", {}, "input"),
    ("empty", {"input": ""}, "input"),
    ("empty-among-others", {"input": ["a", ""]}, "input"),
    ("empty-tokens", {"input": [[1], []]}, "input"),
    ("2049-inputs", {"input": ["a"] * 2049}, "input"),
    ("object", {"input": {"text": "a"}}, "input"),
    ("encoding", {"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ("dimensions-0", {"input": "a", "dimensions": 0}, "dimensions"),
]


@pytest.mark.parametrize(("body", "param"), [c[1:] for c in INPUTS], ids=[c[0] for c in INPUTS])
def test_a_bad_embeddings_body_is_refused(body: dict[str, object], param: str) -> None:
    with pytest.raises(EventRejected) as caught:
        check_body(Operation.EMBEDDINGS, body)
    assert caught.value.attribute == param


@pytest.mark.parametrize("name", sorted(REFUSED_FIELDS))
def test_row_h35_extensions_that_pass_our_limits_are_refused(name: str) -> None:
    with pytest.raises(EventRejected) as caught:
        check_body(Operation.CHAT, chat(**{name: 1}))
    assert (caught.value.code, caught.value.attribute) == ("unsupported_parameter", name)


GOOD: list[tuple[str, Operation, dict[str, object]]] = [
    ("plain", Operation.CHAT, chat()),
    ("H35-unknown-fields", Operation.CHAT, chat(top_k=40, future={"a": [1]}, mirostat=None)),
    ("H36-prototype-keys", Operation.CHAT, chat(__proto__={"a": 1}, __class__="x", constructor=1)),
    (
        "H37-nulls",
        Operation.CHAT,
        chat(
            model=None,
            max_tokens=None,
            stop=None,
            tools=None,
            guided_json=None,
            stream_options=None,
        ),
    ),
    (
        "everything",
        Operation.CHAT,
        chat(
            model="auto",
            n=16,
            stop=["a"] * 16,
            temperature=0,
            top_p=1,
            seed=-5,
            max_tokens=1_000_000_000,
            stream=True,
            stream_options={"include_usage": True},
            logit_bias={"50256": -100},
            logprobs=True,
            top_logprobs=20,
            tools=[
                {"type": "function", "function": {"name": "get_weather", "parameters": nested(3)}}
            ],
            tool_choice={"type": "function", "function": {"name": "get_weather"}},
            metadata={"a": "b"},
            store=False,
        ),
    ),
    (
        "tools-conversation",
        Operation.CHAT,
        {
            "messages": [
                {"role": "developer", "content": "be brief"},
                USER,
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "c1",
                            "type": "function",
                            "function": {"name": "f", "arguments": "{}"},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "4"},
            ]
        },
    ),
    ("json-schema", Operation.CHAT, schema(nested(5))),
    (
        "H34-data-url",
        Operation.CHAT,
        part(type="image_url", image_url={"url": DATA_URL, "detail": "low"}),
    ),
    (
        "inline-audio",
        Operation.CHAT,
        part(type="input_audio", input_audio={"data": "AAAA", "format": "wav"}),
    ),
    (
        "inline-file",
        Operation.CHAT,
        part(
            type="file", file={"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"}
        ),
    ),
    ("H23-long-model-name-is-for-the-catalogue", Operation.CHAT, chat(model="m" * 10_000)),
    ("prompt", Operation.COMPLETIONS, {"prompt": "", "logprobs": 5, "echo": True, "best_of": 2}),
    ("prompts", Operation.COMPLETIONS, {"prompt": ["a", ""]}),
    ("tokens", Operation.COMPLETIONS, {"prompt": [1, 2]}),
    ("input", Operation.EMBEDDINGS, {"input": "a"}),
    (
        "inputs",
        Operation.EMBEDDINGS,
        {"input": ["a"] * 2048, "encoding_format": "base64", "dimensions": 8},
    ),
    ("token-inputs", Operation.EMBEDDINGS, {"input": [[1, 2], [3]]}),
    ("one-long-token-input", Operation.EMBEDDINGS, {"input": list(range(8000))}),
]


@pytest.mark.parametrize(("operation", "body"), [c[1:] for c in GOOD], ids=[c[0] for c in GOOD])
def test_a_good_body_passes(operation: Operation, body: dict[str, object]) -> None:
    check_body(operation, body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=4)
            | st.sampled_from(
                ["role", "content", "type", "text", "image_url", "url", "file", "schema"]
            ),
            inner,
            max_size=4,
        )
        | st.sampled_from(["user", "assistant", "text", "image_url", "file", "json_schema"])
    ),
    max_leaves=20,
)
FIELDS = sorted(
    {
        f.name
        for body in (bodies.ChatBody, bodies.CompletionsBody, bodies.EmbeddingsBody)
        for f in fields(body)
    }
)


@given(st.sampled_from(Operation), st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5))
@settings(deadline=None, max_examples=300)
def test_any_body_passes_or_is_refused(operation: Operation, body: dict[str, object]) -> None:
    with contextlib.suppress(EventRejected):
        check_body(operation, body)


def as_pydantic_writes(levels: int) -> dict[str, object]:
    """Objects within each other, each in an optional list."""
    found: dict[str, object] = {"type": "string"}
    for _ in range(levels):
        rows = {"anyOf": [{"type": "array", "items": found}, {"type": "null"}]}
        found = {"type": "object", "properties": {"rows": rows}}
    return found


@pytest.mark.parametrize(
    "inner",
    [
        nested(10),
        as_pydantic_writes(10),
        {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(5000)}},
        {
            "type": "object",
            "properties": {
                f"p{n}": {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "d" * 100}
                for n in range(4000)
            },
        },
        {
            "$defs": {"N": {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}}}},
            "$ref": "#/$defs/N",
        },
    ],
    ids=["ten objects", "ten optional lists", "5000 properties", "optional ones", "recursive"],
)
def test_schemas_of_real_tools_pass(inner: dict[str, object]) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": inner}}
    for body in (schema(inner), chat(tools=[tool])):
        check_body(Operation.CHAT, loads_object(dumps(body)))


def test_a_prompt_may_be_a_million_tokens() -> None:
    raw = dumps({"prompt": list(range(1_000_000))})
    check_body(Operation.COMPLETIONS, loads_object(raw))
    raw = dumps({"input": [list(range(1000))] * 1000})
    check_body(Operation.EMBEDDINGS, loads_object(raw))


def test_a_long_conversation_and_a_hundred_pictures_pass() -> None:
    turns = [{"role": role, "content": "x"} for role in ("user", "assistant")] * 2000
    check_body(Operation.CHAT, {"messages": turns})
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    check_body(Operation.CHAT, message(content=[picture] * 500))


def test_every_message_keeps_the_key_of_its_content() -> None:
    """Strict model servers refuse a turn of tool calls that has no `content` at all."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None},
        {"role": "assistant", "tool_calls": [call]},
    ]
    kept = {"role": "assistant", "content": None, "tool_calls": [call]}
    assert without_nulls({"messages": turns}) == {"messages": [kept, kept]}


def test_row_h37_nulls_are_dropped_and_nothing_else() -> None:
    body = {
        "a": None,
        "b": 0,
        "messages": [{"role": "user", "content": "x", "name": None}, "odd"],
        "c": {"d": None},
    }
    assert without_nulls(body) == {
        "b": 0,
        "messages": [{"role": "user", "content": "x"}, "odd"],
        "c": {"d": None},
    }
    assert body["a"] is None


def test_a_refusal_never_repeats_the_value() -> None:
    for body in (
        {"messages": [{"role": "secret-role", "content": "x"}]},
        chat(response_format={"type": "secret-format"}),
        part(type="secret-part"),
    ):
        with pytest.raises(EventRejected) as caught:
            check_body(Operation.CHAT, body)
        assert "secret" not in str(caught.value)


EXTENDED: list[tuple[str, dict[str, object], str]] = [
    ("endless-answer", chat(ignore_eos=True), "ignore_eos"),
    ("endless-text", chat(ignore_eos="yes", max_tokens=5), "ignore_eos"),
    ("least-above-most", chat(min_tokens=9, max_tokens=5), "min_tokens"),
    ("least-above-most-completion", chat(min_tokens=9, max_completion_tokens=5), "min_tokens"),
    ("min_p-2", chat(min_p=2), "min_p"),
    ("repetition-0", chat(repetition_penalty=0), "repetition_penalty"),
    ("two-forms", chat(guided_regex="a", guided_choice=["b"]), "guided_choice"),
    (
        "form-beside-a-format",
        chat(guided_regex="a", response_format={"type": "json_object"}),
        "guided_regex",
    ),
    ("schema-no-JSON", chat(guided_json="{"), "guided_json"),
    ("schema-too-deep", chat(guided_json=nested(40)), "guided_json"),
    ("pattern-too-long", chat(guided_regex="a" * 513), "guided_regex"),
    ("no-choice", chat(guided_choice=[]), "guided_choice"),
    ("form-unknown", chat(structured_outputs={"backend": "x"}), "structured_outputs"),
    ("template-object", chat(chat_template_kwargs={"a": {}}), "chat_template_kwargs[...]"),
    (
        "template-of-the-servers",
        chat(chat_template_kwargs={"chat_template": "{{ x }}"}),
        "chat_template_kwargs.chat_template",
    ),
]


@pytest.mark.parametrize(("body", "param"), [c[1:] for c in EXTENDED], ids=[c[0] for c in EXTENDED])
def test_fields_of_model_servers_are_bounded(body: dict[str, object], param: str) -> None:
    with pytest.raises(EventRejected) as caught:
        check_body(Operation.CHAT, body)
    assert caught.value.attribute == param


@pytest.mark.parametrize(
    "fields",
    [
        {"ignore_eos": True, "max_tokens": 5},
        {"ignore_eos": False},
        {"min_tokens": 2, "max_completion_tokens": 2},
        {"top_k": -1, "min_p": 0.05, "repetition_penalty": 1.1, "stop_token_ids": [1]},
        {"chat_template_kwargs": {"enable_thinking": False, "effort": "low"}},
        {"guided_json": {"type": "object"}},
        {"structured_outputs": {"json": '{"type": "object"}'}, "response_format": {"type": "text"}},
        {"use_beam_search": False, "lora_request": None, "samplers": [], "priority": 0},
    ],
)
def test_fields_of_model_servers_are_taken(fields: dict[str, object]) -> None:
    check_body(Operation.CHAT, chat(**fields))
