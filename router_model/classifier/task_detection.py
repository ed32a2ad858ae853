"""Which task a prompt looks like, by rules: what `auto` may prefer where the catalogue switches `auto_tasks` on.

A guess from the operation and from words at both ends of the question, where instructions stand. Rules are few and
narrow: a prompt that is not plainly another task is `chat`.
"""

import re
from typing import Final, Literal

from events.names import Operation
from router_model.catalogue.model import Capability
from router_model.classifier.features import PromptFeatures

TaskName = Literal["coding", "chat", "embed", "summarize", "classify"]
LONG_TOKENS: Final = 4_000
"""From this estimate of the prompt on, a summary asks for a model with the trait `long_context`."""
END_CHARS: Final = 300
"""Instructions are looked for in this much of either end of the question."""

_FENCE: Final = "```"
_CODE: Final = re.compile(
    r"^[ \t]*(?:def \w+\(|class \w+[(:{]|import \w[\w.]*[^\S\n]*;?$|from [\w.]+ import \w|#include\s*[<\"]"
    r"|(?:public|private|static) [\w<>\[\] ]+\(|(?:const|let|var) \w+ ?= |function \w+\("
    r"|select\s.{1,200}?\sfrom\s\w|#!/|>>> )",
    re.MULTILINE | re.IGNORECASE,
)
_CODING: Final = re.compile(
    r"\b(?:write|implement|create|complete|fix|debug|refactor|optimi[sz]e|review|port|test)\b[^.\n]{0,60}?"
    r"\b(?:functions?|methods?|code|scripts?|programs?|class|quer(?:y|ies)|regex|algorithm|api|unit tests?|bugs?)\b"
    r"|\b(?:python|javascript|typescript|sql|java|kotlin|golang|rust|php|bash|powershell|regex) "
    r"(?:code|functions?|scripts?|programs?|class|quer(?:y|ies)|methods?|snippets?)\b"
    r"|\b(?:stack ?trace|traceback|syntax error|compile error|segfault|null ?pointer)\b",
)
_SUMMARIZE: Final = re.compile(
    r"\b(?:summari[sz]e|summari[sz]ing|summary of|tl;? ?dr|key (?:points|takeaways)|sum up the)\b"
)
_CLASSIFY: Final = re.compile(
    r"\b(?:classify|categori[sz]e|label (?:the|this|each|it)|assign (?:a|the|one) (?:label|category|class)"
    r"|(?:which|what) (?:category|label|sentiment)|sentiment of"
    r"|(?:detect|determine|identify) the (?:intent|sentiment))\b"
    r"|\bpositive,? (?:or )?negative\b",
)


def detect_task(features: PromptFeatures) -> TaskName:
    """The task that a prompt looks like. What is asked for outweighs what it is about: code to be summarised is
    `summarize`.
    """
    if features.operation is Operation.EMBEDDINGS:
        return "embed"
    text = features.text
    ends = _ends(text, features.tail)
    if _SUMMARIZE.search(ends):
        return "summarize"
    if _CLASSIFY.search(ends):
        return "classify"
    if _FENCE in text or _CODING.search(ends) or _CODE.search(text):
        return "coding"
    return "chat"


def find_trait(task: str, features: PromptFeatures) -> Capability | None:
    """The trait that a model for a task should have where the catalogue lists no models for it; None: any will do."""
    if task == "coding":
        return "code"
    if task == "summarize" and features.tokens >= LONG_TOKENS:
        return "long_context"
    return None


def _ends(text: str, tail: str) -> str:
    last = (tail or text[END_CHARS:])[-END_CHARS:]
    return f"{text[:END_CHARS]}\n{last}".lower()
