"""Reads a streamed reply: makes each chunk safe for the client, assembles the whole. Pure."""

from dataclasses import dataclass, field
from typing import Any, Final

from functions.backends.server_refusals import find_error
from functions.worker.backend_errors import BadReply, read_error_object
from functions.worker.backend_response import Shape, read_function_call
from functions.worker.response_fields import (
    COMPLETION_LOGPROBS,
    estimated_usage,
    read_citations,
    read_extras,
    read_finish,
    read_logprobs,
    read_texts,
    read_usage,
)
from functions.worker.tool_calls import ToolCalls

_TOKEN_SLACK: Final = 8


@dataclass(slots=True)
class _StreamedChoice:
    """One choice so far."""

    tools: ToolCalls
    texts: dict[str, list[str]] = field(default_factory=dict)
    function_call: dict[str, str] = field(default_factory=dict)
    citations: list[dict[str, Any]] = field(default_factory=list)
    logprobs: dict[str, list[Any]] = field(default_factory=dict)
    chars: int = 0
    finish_reason: str | None = None
    parts: int = 0
    has_role: bool = False


class StreamAssembler:
    """Takes chunks in order.

    Args:
        shape: what the client was promised.
        max_bytes: text bytes after which the reply is cut (`is_cut`).
        max_tokens: parts with content after which a choice is cut; None: no such cap.
        has_usage: whether the client asked for a usage chunk.
    """

    def __init__(
        self, shape: Shape, *, max_bytes: int, max_tokens: int | None, has_usage: bool
    ) -> None:
        self._shape = shape
        self._max_bytes = max_bytes
        self._max_parts = None if max_tokens is None else max_tokens + _TOKEN_SLACK
        self._has_usage = has_usage
        self._choices = [
            _StreamedChoice(ToolCalls(shape.reply_id, index, shape.most_calls))
            for index in range(shape.choices)
        ]
        self._usage: dict[str, Any] | None = None
        self._extras: dict[str, str] = {}
        self._bytes = 0
        self.is_cut = False
        self.has_content = False
        self.has_begun = False
        """Whether anything was given out."""

    @property
    def is_complete(self) -> bool:
        """Whether every choice said that it has ended: what may follow is usage, and the word that nothing follows."""
        return all(choice.finish_reason is not None for choice in self._choices)

    def add(self, chunk: dict[str, Any]) -> dict[str, Any] | None:
        """The chunk as the client gets it, or None where there is nothing for the client in it. Usage is kept for
        `endings`, wherever the server says it.

        Raises:
            BadReply: not a chunk of this reply.
            CallFailed: the server gave up in the middle of the answer.
            NotNow: the server takes no call at the moment, and nothing was given out.
            ApiError: the server said in the stream that the request is at fault.
        """
        error = find_error(chunk)
        if error is not None:
            raise read_error_object(error, has_begun=self.has_begun)
        entries = chunk.get("choices")
        if not isinstance(entries, list | None):
            raise BadReply("choices")
        usage = read_usage(chunk)
        self._usage = usage or self._usage
        if extras := read_extras(chunk):
            self._extras |= extras
        shown = [
            choice
            for place, entry in enumerate(entries or ())
            if (choice := self._entry(entry, place)) is not None
        ]
        if not shown:
            return None
        self.has_begun = True
        return self._chunk(shown)

    def endings(self) -> list[dict[str, Any]]:
        """The chunks that are still owed to the client: the end of a reply that was cut or whose server forgot the
        finish reason, and the usage, where it was asked for. To be called once.
        """
        owed = []
        reason = "length" if self.is_cut else None
        closing = []
        for index, choice in enumerate(self._choices):
            if choice.finish_reason is None:
                choice.finish_reason = reason or ("tool_calls" if choice.tools else "stop")
                empty: dict[str, Any] = {"text": ""}
                if self._shape.is_chat:
                    empty = {"delta": self._last_delta(choice)}
                end = {"logprobs": None, "finish_reason": choice.finish_reason}
                closing.append({"index": index, **empty, **end})
        if closing:
            owed.append(self._chunk(closing))
        if self._has_usage:
            owed.append(self._chunk([]) | {"usage": self._said_usage()})
        return owed

    def result(self) -> tuple[dict[str, Any], bool]:
        """The whole object, and whether its usage had to be estimated.

        Raises:
            BadReply: a choice never said anything and never ended, or a tool call has no name.
        """
        if not self.is_cut and not all(c.parts or c.finish_reason for c in self._choices):
            raise BadReply("no_choices")
        choices = [self._whole(index, choice) for index, choice in enumerate(self._choices)]
        reply = self._shape.envelope() | self._extras
        return reply | {"choices": choices, "usage": self._said_usage()}, self._usage is None

    def _said_usage(self) -> dict[str, Any]:
        return self._usage or estimated_usage(sum(choice.parts for choice in self._choices))

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        chunk = {**self._shape.envelope(is_chunk=True), **self._extras, "choices": choices}
        if self._has_usage:
            chunk["usage"] = None
        return chunk

    def _index(self, entry: dict[str, Any], place: int) -> int:
        """A choice's number. Without one there is one choice, or they come in order."""
        index = entry.get("index")
        if index is None:
            index = 0 if len(self._choices) == 1 else place
        if type(index) is not int or not 0 <= index < len(self._choices):
            raise BadReply("index")
        return index

    def _entry(self, entry: Any, place: int) -> dict[str, Any] | None:
        if not isinstance(entry, dict):
            raise BadReply("choice")
        index = self._index(entry, place)
        choice = self._choices[index]
        if choice.finish_reason is not None:
            return None  # nothing counts after the end of a choice
        if entry.get("error"):
            raise read_error_object(entry["error"], has_begun=self.has_begun)
        shown = self._delta(entry, choice) if self._shape.is_chat else self._text(entry, choice)
        has_content = any(shown.values())
        logprobs = self._logprobs(entry, choice)
        reason = read_finish(entry.get("finish_reason"), has_calls=bool(choice.tools))
        if not (has_content or reason or logprobs or (shown and not choice.has_role)):
            return None
        chunk_choice: dict[str, Any] = {"index": index}
        if not self._shape.is_chat:
            chunk_choice["text"] = shown.get("text", "")
        elif reason is None:
            chunk_choice["delta"] = self._with_role(choice, shown)
        else:
            chunk_choice["delta"] = self._last_delta(choice, shown)
        choice.finish_reason = reason
        chunk_choice["logprobs"], chunk_choice["finish_reason"] = logprobs, reason
        if has_content:
            self._count(choice)
        return chunk_choice

    def _count(self, choice: _StreamedChoice) -> None:
        choice.parts += 1
        self.has_content = True
        over = self._max_parts is not None and choice.parts > self._max_parts
        self.is_cut = self.is_cut or over or self._bytes > self._max_bytes

    def _with_role(self, choice: _StreamedChoice, delta: dict[str, Any]) -> dict[str, Any]:
        """Sends the role once, at the beginning, because readers join the texts of deltas."""
        if choice.has_role:
            return delta
        choice.has_role = True
        return {"role": "assistant", **delta}

    def _last_delta(
        self, choice: _StreamedChoice, delta: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        last = self._with_role(choice, delta or {})
        if missing := choice.tools.closing():
            last = {**last, "tool_calls": [*last.get("tool_calls", ()), *missing]}
        return last

    def _text(self, entry: dict[str, Any], choice: _StreamedChoice) -> dict[str, Any]:
        text = entry.get("text")
        if not isinstance(text, str | None):
            raise BadReply("text")
        self._say(choice, "content", text or "")
        return {} if text is None else {"text": text}

    def _delta(self, entry: dict[str, Any], choice: _StreamedChoice) -> dict[str, Any]:
        """A delta without its role and without null fields."""
        delta = entry.get("delta")
        if not isinstance(delta, dict | None):
            raise BadReply("delta")
        if not delta:
            return {}
        shown: dict[str, Any] = {**read_texts(delta)}
        for name, text in shown.items():
            self._say(choice, name, text)
        if delta.get("tool_calls"):
            earlier = choice.tools.size
            if pieces := choice.tools.add(delta["tool_calls"]):
                shown["tool_calls"] = pieces
            self._bytes += choice.tools.size - earlier
        if citations := read_citations(delta):
            shown["annotations"] = citations
            choice.citations += citations
        if isinstance(delta.get("function_call"), dict):
            shown["function_call"] = said = read_function_call(delta["function_call"])
            for name, text in said.items():
                choice.function_call[name] = choice.function_call.get(name, "") + text
                self._bytes += len(text.encode("utf-8", "replace"))
        return shown

    def _say(self, choice: _StreamedChoice, name: str, text: str) -> None:
        if text:
            choice.texts.setdefault(name, []).append(text)
            self._bytes += len(text.encode("utf-8", "replace"))

    def _logprobs(self, entry: dict[str, Any], choice: _StreamedChoice) -> dict[str, Any] | None:
        logprobs = read_logprobs(
            entry.get("logprobs"), is_chat=self._shape.is_chat, offset=choice.chars
        )
        if logprobs is None:
            return None
        names = ("content", "refusal") if self._shape.is_chat else COMPLETION_LOGPROBS
        for name in names:
            if isinstance(logprobs.get(name), list):
                choice.logprobs.setdefault(name, []).extend(logprobs[name])
        choice.chars += sum(len(str(token)) for token in logprobs.get("tokens") or ())
        return logprobs

    def _whole(self, index: int, choice: _StreamedChoice) -> dict[str, Any]:
        whole: dict[str, Any] = {"index": index}
        if self._shape.is_chat:
            whole["message"] = self._message(choice)
        else:
            whole["text"] = "".join(choice.texts.get("content", ()))
        whole["logprobs"] = self._whole_logprobs(choice)
        whole["finish_reason"] = choice.finish_reason or ("length" if self.is_cut else "stop")
        return whole

    def _whole_logprobs(self, choice: _StreamedChoice) -> dict[str, Any] | None:
        if not choice.logprobs:
            return None
        empty = {"content": None, "refusal": None} if self._shape.is_chat else {}
        return {**empty, **choice.logprobs}

    def _message(self, choice: _StreamedChoice) -> dict[str, Any]:
        texts = {name: "".join(parts) for name, parts in choice.texts.items()}
        message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None, **texts}
        if choice.tools:
            message["tool_calls"] = choice.tools.whole()
        if choice.citations:
            message["annotations"] = choice.citations
        if choice.function_call:
            message["function_call"] = choice.function_call
        if not (texts.keys() & {"content", "refusal"} or choice.tools or choice.function_call):
            message["content"] = ""
        return message
