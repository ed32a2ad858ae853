"""The operations that can be asked of a model: one row each, and every other list of them is made from the rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from events.names import Operation
from events.openai import bodies


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationRow:
    """What is true of one operation at every process.

    Args:
        path: where OpenAI's API has it; model servers too.
        body: the type of its body.
        prompt_field: the field that is asked about. A body that has it is of this operation.
        id_prefix: of its answers' ids.
        is_generative: whether the answer is text that a model writes: it has a length, and may be streamed.
        smallest: the smallest body, without the model's name.
    """

    path: str
    body: type[bodies.Body]
    prompt_field: str
    id_prefix: str
    is_generative: bool = True
    smallest: Mapping[str, object]


OPERATIONS: Final[Mapping[Operation, OperationRow]] = MappingProxyType(
    {
        Operation.CHAT: OperationRow(
            path="/v1/chat/completions",
            body=bodies.ChatBody,
            prompt_field="messages",
            id_prefix="chatcmpl",
            smallest={"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1},
        ),
        Operation.COMPLETIONS: OperationRow(
            path="/v1/completions",
            body=bodies.CompletionsBody,
            prompt_field="prompt",
            id_prefix="cmpl",
            smallest={"prompt": "Hi", "max_tokens": 1},
        ),
        Operation.EMBEDDINGS: OperationRow(
            path="/v1/embeddings",
            body=bodies.EmbeddingsBody,
            prompt_field="input",
            id_prefix="embd",
            is_generative=False,
            smallest={"input": "Hi"},
        ),
    }
)
BY_PATH: Final[Mapping[str, Operation]] = MappingProxyType(
    {row.path: operation for operation, row in OPERATIONS.items()}
)


def infer_operation(body: Mapping[str, object]) -> Operation | None:
    """The operation of a body, by its field; None: it has none of them."""
    return next(
        (
            operation
            for operation, row in OPERATIONS.items()
            if body.get(row.prompt_field) is not None
        ),
        None,
    )
