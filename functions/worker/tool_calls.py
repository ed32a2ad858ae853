"""Tool calls of one choice, whole or in pieces, distinguished by index, id and name. Pure.

Each call gets an index in the order of its appearance, and an id that is unique in the
conversation.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Final

from events import ids
from functions.worker.backend_errors import BadReply

MAX_CALLS: Final = 128
_ID_CHARS: Final = 24
_TEXTS: Final = (("function", "arguments"), ("custom", "input"))
"""Kinds of calls, and where each has its text."""


@dataclass(slots=True)
class _Call:
    number: int
    id: str
    kind: str
    text_field: str
    name: str = ""
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def is_begun(self, name: str) -> bool:
        """Whether it is a call of this tool whose arguments have begun and not ended."""
        return self.name == name and bool(self.texts) and not self.is_whole()

    def is_whole(self) -> bool:
        """Whether its arguments are complete, so that more of them must be another call's."""
        if not self.texts or not self.texts[-1].rstrip().endswith("}"):
            return False
        try:
            return isinstance(json.loads(self.text), dict)
        except (ValueError, RecursionError):
            return False


@dataclass(frozen=True, slots=True)
class _Piece:
    """One entry of a `tool_calls` list. Missing values are None or empty."""

    index: int | None
    id: str
    kind: str
    text_field: str
    name: str
    text: str


class ToolCalls:
    """Takes the entries of `tool_calls` in order. `reply_id` and `choice` make the ids that the server did not give.

    `most`: the calls that the client wants; further ones are read and not shown.
    """

    def __init__(self, reply_id: str, choice: int, most: int = MAX_CALLS) -> None:
        self._most = most
        self._seed = (reply_id, choice)
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self.size = 0
        """Bytes of names and arguments so far."""

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, entries: Any) -> list[dict[str, Any]]:
        """Pieces of a delta; returns them as the client gets them. TGI sends one that is no list.

        Raises:
            BadReply: no pieces of tool calls.
        """
        pieces = [entries] if isinstance(entries, dict) else entries
        if not isinstance(pieces, list):
            raise BadReply("tool_calls")
        shown = [self._take(_read_piece(entry)) for entry in pieces]
        return [piece for piece in shown if piece is not None and piece["index"] < self._most]

    def add_whole(self, entries: Any) -> None:
        """The calls of a message that was not streamed: each entry is one.

        Raises:
            BadReply: no tool calls.
        """
        if not isinstance(entries, list):
            raise BadReply("tool_calls")
        for entry in entries:
            self._begin(_read_piece(entry))

    def closing(self) -> list[dict[str, Any]]:
        """Pieces that turn missing arguments into an empty object, because every client parses
        them.
        """
        shown = []
        for call in self._calls[: self._most]:
            if call.kind == "function" and not call.text.strip():
                call.texts = ["{}"]
                shown.append({"index": call.number, "function": {"arguments": "{}"}})
        return shown

    def whole(self) -> list[dict[str, Any]]:
        """All calls.

        Raises:
            BadReply: one has no name.
        """
        if not all(call.name for call in self._calls):
            raise BadReply("tool_calls")
        self.closing()
        return [
            {
                "id": call.id,
                "type": call.kind,
                call.kind: {"name": call.name, call.text_field: call.text},
            }
            for call in self._calls[: self._most]
        ]

    def _take(self, piece: _Piece) -> dict[str, Any] | None:
        known = self._known(piece)
        if known is None:
            if not (piece.name or piece.id or piece.text):
                return None
            return self._begin(piece)
        if piece.name and known.name and known.is_whole():
            is_repeated = piece.text == known.text and self._by_id.get(piece.id) is known
            if piece.name == known.name and (is_repeated or not piece.text.strip()):
                return None
            return self._begin(piece)
        if piece.name and known.texts and piece.name != known.name:
            return self._begin(piece)
        return self._continue(known, piece)

    def _known(self, piece: _Piece) -> _Call | None:
        """The call that a piece belongs to; None: it begins one."""
        by_id = self._by_id.get(piece.id) if piece.id else None
        if piece.index is not None:
            by_index = self._by_index.get(piece.index)
            if not piece.name:
                # Some make up an id for each piece: one that was never seen says nothing.
                return by_id or by_index
            is_part = by_index is not None and by_index.is_begun(piece.name)
            return None if piece.id and by_id is None and not is_part else by_index
        if by_id is not None:
            return by_id
        last = self._calls[-1] if self._calls else None
        if piece.name and (piece.id or last is None or last.name != piece.name):
            return None
        return last

    def _begin(self, piece: _Piece) -> dict[str, Any]:
        number = len(self._calls)
        if number >= MAX_CALLS:
            raise BadReply("tool_calls")
        call_id = piece.id if piece.id and piece.id not in self._by_id else self._new_id(number)
        call = _Call(number, call_id, piece.kind, piece.text_field, piece.name)
        self._calls.append(call)
        if piece.index is not None:
            self._by_index[piece.index] = call
        self._by_id[call.id] = call
        self._say(call, piece.text)
        self.size += len(piece.name.encode("utf-8", "replace"))
        said = {"name": piece.name} if piece.name else {}
        return {
            "index": number,
            "id": call.id,
            "type": call.kind,
            call.kind: {**said, call.text_field: piece.text},
        }

    def _continue(self, call: _Call, piece: _Piece) -> dict[str, Any] | None:
        said: dict[str, str] = {}
        # Whoever reads a stream joins names: one that is repeated is said once, one in parts is passed on in parts.
        if piece.name and piece.name != call.name:
            call.name += piece.name
            self.size += len(piece.name.encode("utf-8", "replace"))
            said["name"] = piece.name
        if piece.text:
            self._say(call, piece.text)
            said[call.text_field] = piece.text
        return {"index": call.number, call.kind: said} if said else None

    def _say(self, call: _Call, text: str) -> None:
        if text:
            call.texts.append(text)
            self.size += len(text.encode("utf-8", "replace"))

    def _new_id(self, number: int) -> str:
        reply_id, choice = self._seed
        derived = ids.derive(reply_id, "tool_call", choice, number).replace("-", "")
        return f"call_{derived[:_ID_CHARS]}"


def _read_piece(entry: Any) -> _Piece:
    if not isinstance(entry, dict):
        raise BadReply("tool_calls")
    kind, text_field = next(
        (pair for pair in _TEXTS if isinstance(entry.get(pair[0]), dict)), _TEXTS[0]
    )
    body = entry.get(kind)
    if not isinstance(body, dict | None):
        raise BadReply("tool_calls")
    index, call_id = entry.get("index"), entry.get("id")
    if type(index) is int and not 0 <= index < MAX_CALLS:
        raise BadReply("tool_calls")
    name, text = (body or {}).get("name"), (body or {}).get(text_field)
    if text is not None and not isinstance(text, str):
        text = json.dumps(text, ensure_ascii=False)
    return _Piece(
        index=index if type(index) is int else None,
        id=str(call_id) if isinstance(call_id, str | int) else "",
        kind=kind,
        text_field=text_field,
        name=name if isinstance(name, str) else "",
        text=text or "",
    )
