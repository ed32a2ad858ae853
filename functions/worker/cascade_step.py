"""One step of a cascade: asks for log probabilities, hides them, holds chunks until they are sure.

`HeldStream` stands between the model call and the caller's stream.
The decisions are in `router_model.cascade.plan`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from events.cascade_attribute import following
from events.names import Operation
from events.payloads import CascadeState, CascadeUsed, Cost
from events.requests import RoutedRequest
from functions.runtime.errors import ApiError
from functions.worker.backend_errors import CallFailed
from functions.worker.backend_request import BackendRequest
from router_model.cascade.confidence import TokenConfidence, read_logprobs
from router_model.cascade.plan import Judge
from router_model.catalogue.model import Service

OnChunk = Callable[[dict[str, Any], bool], Awaitable[None]]
_ANOTHER_MAY: Final = frozenset(
    {
        "backend_failed",
        "capability_missing",
        "context_length_exceeded",
        "no_healthy_service",
        "overloaded",
        "unsupported_parameter",
    }
)
"""Final errors after which a service that stands by may still answer."""
_CHUNK_BYTES: Final = 512
"""What a held chunk counts for beside its text: the objects around it."""


class Unsure(Exception):
    """The step's answer is not to be given. `confidence` None: the model server gave no usable log probabilities."""

    def __init__(self, confidence: float | None, reply: dict[str, Any] | None = None) -> None:
        super().__init__("unsure")
        self.confidence = confidence
        self.reply = reply
        """The whole answer, where it was completed."""


@dataclass(frozen=True, slots=True)
class StepEnd:
    """How a step of a cascade ended."""

    outcome: Literal["answered", "unsure", "failed"]
    confidence: float | None = None
    reason: str | None = None
    reply: dict[str, Any] | None = None
    parts: int = 0
    """Chunks with content, where the call was cut short before it told its usage."""


def add_logprobs(call: BackendRequest) -> BackendRequest:
    """The call with log probabilities: one alternative a token, since llama.cpp gives nothing at all for none."""
    if call.body.get("logprobs"):
        return call
    asked: dict[str, Any] = {"logprobs": 1}
    if call.operation is Operation.CHAT:
        asked = {"logprobs": True, "top_logprobs": 1}
    return replace(call, body={**call.body, **asked})


def has_stand_by(state: CascadeState | None) -> bool:
    """Whether another service answers where this one has failed for good."""
    return state is not None and state.on == "failure" and following(state) is not None


def judge_failure(
    ended: ApiError | CallFailed, judge: Judge | None, state: CascadeState | None
) -> StepEnd | None:
    """The failure after which the next step is to answer; None: this one has the last word, the fault is not the
    model's, or it may be asked again before the service that stands by. `judge` None: its answer is not judged.
    """
    code = ended.code if isinstance(ended, ApiError) else None
    if isinstance(ended, ApiError) and ended.src != "model":
        return None
    if judge is None and not (code in _ANOTHER_MAY and has_stand_by(state)):
        return None
    return StepEnd("failed", reason=ended.reason if isinstance(ended, CallFailed) else code)


def count_calls_left(most: int, state: CascadeState | None) -> int:
    """How often this step may call its model, of `most` calls of the request at all steps: one is kept for each step
    that may follow, and each may be called once.
    """
    if state is None:
        return max(1, most)
    earlier = sum(used.attempts for used in state.used)
    following_steps = len(state.plan) - len(state.used) - 1
    return max(1, most - earlier - following_steps)


def has_next_service(request: RoutedRequest) -> bool:
    """Whether another service is to answer where this one's model cannot be called at all."""
    return request.cascade is not None and following(request.cascade) is not None


def asks_logprobs(call: BackendRequest) -> bool:
    """Whether the caller wants to see log probabilities (0 alternatives of a completion included)."""
    asked = call.body.get("logprobs")
    return asked is not None and asked is not False


def build_cascade_used(
    end: StepEnd, *, service: Service, cost: Cost, seconds: float, attempts: int
) -> CascadeUsed:
    """What a step says of itself, to the steps after it and to the caller. `seconds`: how long its model worked."""
    prompt_tokens, completion_tokens = count_tokens(end.reply)
    return CascadeUsed(
        service=service.slug,
        model=service.model,
        outcome=end.outcome,
        confidence=None if end.confidence is None else round(end.confidence, 4),
        reason=end.reason,
        cost=cost,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens if end.reply is not None else end.parts,
        model_ms=round(seconds * 1000, 3),
        attempts=attempts,
    )


def count_tokens(reply: dict[str, Any] | None) -> tuple[int, int]:
    """Prompt and completion tokens of a checked reply; 0 where there is none."""
    usage = (reply or {}).get("usage") or {}
    return usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)


class HeldStream:
    """Takes the chunks of a judged stream, and passes them on once they are sure.

    Args:
        judge: what is sure.
        sink: gets the chunks, log probabilities removed unless `shows_logprobs`.
        choices: how many choices the answer has.
        most_bytes: what may be held; an answer that is unsure up to there goes on to the next step.
    """

    def __init__(
        self, judge: Judge, sink: OnChunk, *, choices: int, shows_logprobs: bool, most_bytes: int
    ) -> None:
        self.is_released = False
        self.parts = 0
        self._judge = judge
        self._sink = sink
        self._shows_logprobs = shows_logprobs
        self._left_bytes = most_bytes
        self._waiting: list[tuple[dict[str, Any], bool]] = []
        self._tokens = [TokenConfidence() for _ in range(choices)]
        self._said = [0] * choices
        self._silent = [0] * choices

    @property
    def confidence(self) -> float | None:
        """Of what was said so far; None: not known, also where most of a choice came without log probabilities."""
        if any(2 * silent > said for silent, said in zip(self._silent, self._said, strict=True)):
            return None
        return self._judge.confidence(self._tokens)

    async def add(self, chunk: dict[str, Any], is_first: bool) -> None:  # noqa: FBT001 - an OnChunk
        """Holds a chunk, or passes it on.

        Raises:
            Unsure: no more may be held.
        """
        if not self.is_released:
            for choice in chunk.get("choices", ()):
                self._read(choice)
        if not self._shows_logprobs:
            hide_logprobs(chunk)
        if self.is_released:
            await self._sink(chunk, is_first)
            return
        self._waiting.append((chunk, is_first))
        if self.confidence is not None and self._judge.may_release(self._tokens):
            await self.release()
        elif self._left_bytes < 0:
            raise Unsure(self.confidence)

    async def release(self) -> None:
        """Passes on what is held; from now on nothing is."""
        self.is_released = True
        waiting, self._waiting = self._waiting, []
        for chunk, is_first in waiting:
            await self._sink(chunk, is_first)

    async def settle(self, reply: dict[str, Any], *, is_stream: bool) -> float | None:
        """The end of the call: its confidence, and what is held is passed on. Removes log probabilities from `reply`.

        Raises:
            Unsure: the answer is not sure enough and nothing of it was passed on.
        """
        confidence = self.confidence if is_stream else self._whole(reply)
        if not self._shows_logprobs:
            hide_logprobs(reply)
        if not self.is_released:
            if self._judge.verdict(confidence) == "escalate":
                raise Unsure(confidence, reply)
            await self.release()
        return confidence

    def _whole(self, reply: dict[str, Any]) -> float | None:
        """The confidence of an answer in one piece."""
        logprobs = [read_logprobs(choice.get("logprobs")) for choice in reply["choices"]]
        if any(one is None for one in logprobs):
            return None
        return self._judge.confidence([TokenConfidence(one or ()) for one in logprobs])

    def _read(self, choice: dict[str, Any]) -> None:
        index = choice["index"]
        delta = choice.get("delta") or {}
        said = [choice.get("text"), *(value for name, value in delta.items() if name != "role")]
        logprobs = read_logprobs(choice.get("logprobs"))
        for logprob in logprobs or ():
            self._tokens[index].add(logprob)
        self._left_bytes -= _CHUNK_BYTES
        if any(said):
            self.parts += 1
            self._said[index] += 1
            self._silent[index] += logprobs is None
            self._left_bytes -= sum(len(str(one).encode("utf-8", "replace")) for one in said if one)


def hide_logprobs(reply: dict[str, Any]) -> None:
    """Removes log probabilities that the caller did not ask for."""
    for choice in reply.get("choices", ()):
        choice["logprobs"] = None
