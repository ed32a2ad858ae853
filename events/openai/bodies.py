"""Typed bodies of the three operations, as OpenAI's API has them. Unknown fields go on to the model server.

`events.openai.body_validation` converts a parsed body into these types (that is the check) and
adds what types cannot say. Every optional field may be null, which means absent.
"""

from typing import Annotated, Literal

import msgspec

from events import limits

Text = Annotated[str, msgspec.Meta(max_length=256)]
ModelName = Annotated[str, msgspec.Meta(min_length=1)]
# No longest name: an unknown model is `model_not_found`, however long.
PositiveInt = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
Unit = Annotated[float, msgspec.Meta(ge=0, le=1)]
Temperature = Annotated[float, msgspec.Meta(ge=0, le=2)]
Choices = Annotated[int, msgspec.Meta(ge=1, le=limits.MAX_CHOICES)]
Seed = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
StopText = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.MAX_STOP_CHARS)]
# A union of two strings is not expressible: the lone text is checked in `body_validation`.
Stop = str | Annotated[list[StopText], msgspec.Meta(max_length=limits.MAX_STOPS)]
Bias = Annotated[float, msgspec.Meta(ge=-100, le=100)]
LogitBias = Annotated[dict[str, Bias], msgspec.Meta(max_length=limits.MAX_LOGIT_BIASES)]
Tokens = list[int]
TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Whole = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
# -1 and 0 both mean "off", each to other servers.
TopK = Annotated[int, msgspec.Meta(ge=-1, le=2**31 - 1)]
RepetitionPenalty = Annotated[float, msgspec.Meta(gt=0, le=10)]
StopTokens = Annotated[list[TokenId], msgspec.Meta(max_length=limits.MAX_STOPS)]
Pattern = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.MAX_PATTERN_CHARS)]
Grammar = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.MAX_GRAMMAR_CHARS)]
Alternative = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.MAX_STOP_CHARS)]
Alternatives = Annotated[
    list[Alternative], msgspec.Meta(min_length=1, max_length=limits.MAX_ALTERNATIVES)
]
Prompt = (
    str
    | Annotated[list[str | int | Tokens], msgspec.Meta(min_length=1, max_length=limits.MAX_TOKENS)]
)
# `$` would let a last newline through; this end is the same in Python and in JSON Schema's dialect.
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}(?![\s\S])")]
FreeObject = dict[str, object]
TemplateArguments = Annotated[
    dict[str, Text | bool | int | float | None],
    msgspec.Meta(max_length=limits.MAX_TEMPLATE_ARGUMENTS),
]


class Wishes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request wants of the router, for callers that cannot set headers or attributes: lines of a batch."""

    profile: ModelName | None = None
    max_cost: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """US dollars for the answer."""
    max_latency: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """Seconds to the whole answer."""
    min_quality: Unit | None = None
    """Least chance of a good answer."""


class StructuredOutputs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an answer must look like, one of them (vLLM's field; `guided_json` and the like are its older names)."""

    json: str | dict[str, object] | None = None
    """A JSON Schema."""
    json_object: bool | None = None
    regex: Pattern | None = None
    choice: Alternatives | None = None
    grammar: Grammar | None = None
    """Extended Backus-Naur form."""


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """Fields that every operation has. `pickspin` is ours and is not sent to a model server."""

    model: ModelName | None = None
    pickspin: Wishes | None = None
    user: Text | None = None
    store: bool | None = None
    metadata: FreeObject | None = None


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    include_usage: bool | None = None


class Sampled(Body, frozen=True, kw_only=True):
    """Fields of the operations that generate text."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: PositiveInt | None = None
    temperature: Temperature | None = None
    top_p: Unit | None = None
    n: Choices | None = None
    stop: Stop | None = None
    seed: Seed | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None


class Extended(Sampled, frozen=True, kw_only=True):
    """Fields of the field's model servers beyond OpenAI's: which server takes which is a table of
    `router_model.routing.backend_fields`.
    """

    ignore_eos: bool | None = None
    """Goes on to the limit of tokens, which must be given."""
    min_tokens: Whole | None = None
    top_k: TopK | None = None
    min_p: Unit | None = None
    repetition_penalty: RepetitionPenalty | None = None
    stop_token_ids: StopTokens | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    truncate_prompt_tokens: PositiveInt | None = None
    """Only the last tokens of the prompt are read."""
    structured_outputs: StructuredOutputs | None = None
    guided_json: str | dict[str, object] | None = None
    guided_regex: Pattern | None = None
    guided_choice: Alternatives | None = None
    guided_grammar: Grammar | None = None


class Part(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """One part of a message's content."""


class TextPart(Part, frozen=True, tag="text"):
    text: str


class RefusalPart(Part, frozen=True, tag="refusal"):
    refusal: str


class Url(msgspec.Struct, frozen=True, kw_only=True):
    """A `data:` URL; others are refused (the model server would fetch them)."""

    url: str
    detail: Text | None = None


class ImagePart(Part, frozen=True, tag="image_url"):
    image_url: Url


class VideoPart(Part, frozen=True, tag="video_url"):
    video_url: Url


class AudioUrlPart(Part, frozen=True, tag="audio_url"):
    audio_url: Url


class Audio(msgspec.Struct, frozen=True, kw_only=True):
    data: str
    format: Text


class AudioPart(Part, frozen=True, tag="input_audio"):
    input_audio: Audio


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file inline; `file_id` and `file_url` are refused."""

    file_data: str | None = None
    filename: Text | None = None
    file_id: str | None = None
    file_url: str | None = None


class FilePart(Part, frozen=True, tag="file"):
    file: File


ContentPart = TextPart | RefusalPart | ImagePart | VideoPart | AudioUrlPart | AudioPart | FilePart
Parts = Annotated[list[ContentPart], msgspec.Meta(min_length=1, max_length=limits.MAX_PARTS)]


class FunctionCall(msgspec.Struct, frozen=True, kw_only=True):
    name: Name
    arguments: str


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    id: Text
    function: FunctionCall
    type: Literal["function"] = "function"


ToolCalls = Annotated[list[ToolCall], msgspec.Meta(max_length=limits.MAX_TOOLS)]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a chat. `content` may be absent only beside `tool_calls` or `function_call`."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Parts | None = None
    name: Text | None = None
    refusal: str | None = None
    tool_calls: ToolCalls | None = None
    function_call: FunctionCall | None = None
    tool_call_id: Text | None = None


class Function(msgspec.Struct, frozen=True, kw_only=True):
    name: Name
    description: str | None = None
    parameters: FreeObject | None = None
    strict: bool | None = None


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    type: Literal["function"]
    function: Function


class NamedFunction(msgspec.Struct, frozen=True, kw_only=True):
    name: Name


class ToolChoice(msgspec.Struct, frozen=True, kw_only=True):
    type: Literal["function"]
    function: NamedFunction


class SchemaFormat(msgspec.Struct, frozen=True, kw_only=True):
    name: Name
    schema: FreeObject | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, frozen=True, kw_only=True):
    """`json_schema` is required exactly where `type` says so."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaFormat | None = None


Messages = Annotated[list[Message], msgspec.Meta(min_length=1, max_length=limits.MAX_MESSAGES)]
Tools = Annotated[list[Tool], msgspec.Meta(max_length=limits.MAX_TOOLS)]
TopLogprobs = Annotated[int, msgspec.Meta(ge=0, le=limits.MAX_TOP_LOGPROBS)]


class ChatBody(Extended, frozen=True, kw_only=True):
    """Body of `chat` (`POST /v1/chat/completions`)."""

    messages: Messages
    max_completion_tokens: PositiveInt | None = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None
    response_format: ResponseFormat | None = None
    tools: Tools | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: TemplateArguments | None = None
    """Plain values for the model's own chat template, such as `enable_thinking`."""


class CompletionsBody(Extended, frozen=True, kw_only=True):
    """Body of `completions` (`POST /v1/completions`)."""

    prompt: Prompt
    suffix: str | None = None
    echo: bool | None = None
    best_of: Choices | None = None
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=limits.MAX_TOP_LOGPROBS)] | None = None
    response_format: ResponseFormat | None = None


class EmbeddingsBody(Body, frozen=True, kw_only=True):
    """Body of `embeddings` (`POST /v1/embeddings`)."""

    input: Prompt
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: PositiveInt | None = None
