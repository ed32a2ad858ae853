"""What stands between a judged stream and its reader: it holds, lets through, or says that the answer is unsure."""

import asyncio
from typing import Any

import pytest

from events.names import Operation
from functions.worker.backend_request import BackendRequest
from functions.worker.backend_response import Shape
from functions.worker.cascade_step import HeldStream, Unsure, add_logprobs, asks_logprobs
from router_model.cascade.plan import Judge

SHAPE = Shape(operation=Operation.CHAT, reply_id="r", model="m", created=0)


def chunk(text: str, logprob: float | None = None, index: int = 0) -> dict[str, Any]:
    logprobs = None if logprob is None else {"content": [{"token": text, "logprob": logprob}]}
    return {"choices": [{"index": index, "delta": {"content": text}, "logprobs": logprobs}]}


class Reader:
    """Collects what is let through."""

    def __init__(self, judge: Judge, **more: Any) -> None:
        self.texts: list[str] = []
        self.firsts: list[bool] = []
        self.logprobs: list[Any] = []
        options = {"choices": 1, "shows_logprobs": False, "most_bytes": 10_000} | more
        self.held = HeldStream(judge, self.take, **options)

    async def take(self, found: dict[str, Any], is_first: bool) -> None:
        self.firsts.append(is_first)
        for choice in found["choices"]:
            self.texts.append(choice["delta"]["content"])
            self.logprobs.append(choice["logprobs"])

    def feed(self, *chunks: dict[str, Any]) -> None:
        async def add() -> None:
            for number, one in enumerate(chunks):
                await self.held.add(one, number == 0)

        asyncio.run(add())

    def settle(self, reply: dict[str, Any] | None = None) -> float | None:
        found = {"choices": []} if reply is None else reply
        return asyncio.run(self.held.settle(found, is_stream=reply is None))


def test_nothing_is_let_through_before_the_end_without_a_number_of_tokens() -> None:
    reader = Reader(Judge(min_confidence=0.5))
    reader.feed(*(chunk(text, -0.01) for text in "abc"))
    assert reader.texts == []
    assert reader.settle() == pytest.approx(0.99, abs=0.001)
    assert reader.texts == ["a", "b", "c"]
    assert reader.firsts == [True, False, False]
    assert reader.logprobs == [None, None, None]


def test_what_begins_unsure_is_let_through_once_the_whole_is_sure_enough() -> None:
    reader = Reader(Judge(min_confidence=0.5, hold_tokens=2))
    reader.feed(chunk("a", -2.0), chunk("b", -0.5))
    assert reader.texts == []
    reader.feed(chunk("c", -0.1), chunk("d", -0.1))
    assert reader.texts == ["a", "b", "c", "d"]
    reader.feed(chunk("e", -9.0))
    assert reader.texts[-1] == "e"
    reader.settle()  # a reader has seen of it: there is no way back


def test_an_unsure_whole_is_not_let_through() -> None:
    reader = Reader(Judge(min_confidence=0.5))
    reader.feed(chunk("a", -3.0))
    with pytest.raises(Unsure) as unsure:
        reader.settle()
    assert unsure.value.confidence == pytest.approx(0.0498, abs=0.001)
    assert reader.texts == []


def test_every_choice_counts() -> None:
    reader = Reader(Judge(min_confidence=0.5), choices=2)
    reader.feed(chunk("a", -0.1), chunk("b", -3.0, index=1))
    with pytest.raises(Unsure):
        reader.settle()


def test_a_stray_part_without_log_probability_is_forgiven_and_most_of_them_are_not() -> None:
    reader = Reader(Judge(min_confidence=0.5))
    reader.feed(chunk("a", -0.1), chunk("b", -0.1), chunk("c"))
    assert reader.settle() is not None
    reader = Reader(Judge(min_confidence=0.5, hold_tokens=1))
    reader.feed(chunk("a"), chunk("b"), chunk("c", -0.1))
    assert reader.texts == []
    with pytest.raises(Unsure) as unsure:
        reader.settle()
    assert unsure.value.confidence is None


def test_what_is_held_is_bounded() -> None:
    reader = Reader(Judge(min_confidence=0.5), most_bytes=3000)
    with pytest.raises(Unsure):
        reader.feed(*(chunk("x" * 500, -3.0) for _ in range(10)))
    assert reader.held.parts == 3


def test_who_asked_for_log_probabilities_sees_them() -> None:
    reader = Reader(Judge(min_confidence=0.5, hold_tokens=1), shows_logprobs=True)
    reader.feed(chunk("a", -0.1))
    assert reader.logprobs[0]["content"][0]["logprob"] == -0.1


def test_an_answer_in_one_piece_is_judged_whole_and_its_log_probabilities_are_hidden() -> None:
    reader = Reader(Judge(min_confidence=0.5))
    logprobs = {"content": [{"logprob": -0.1}, {"logprob": -0.3}]}
    reply = {"choices": [{"index": 0, "logprobs": logprobs}]}
    assert reader.settle(reply) == pytest.approx(0.8187, abs=0.001)
    assert reply["choices"][0]["logprobs"] is None
    silent = {"choices": [{"index": 0, "logprobs": None}]}
    with pytest.raises(Unsure) as unsure:
        Reader(Judge(min_confidence=0.0)).settle(silent)
    assert unsure.value.reply is silent


@pytest.mark.parametrize(
    ("operation", "asked", "sent", "is_shown"),
    [
        (Operation.CHAT, {}, {"logprobs": True, "top_logprobs": 1}, False),
        (Operation.CHAT, {"logprobs": False}, {"logprobs": True, "top_logprobs": 1}, False),
        (Operation.CHAT, {"logprobs": True, "top_logprobs": 3}, None, True),
        (Operation.COMPLETIONS, {}, {"logprobs": 1}, False),
        (Operation.COMPLETIONS, {"logprobs": 0}, {"logprobs": 1}, True),
        (Operation.COMPLETIONS, {"logprobs": 4}, None, True),
    ],
)
def test_log_probabilities_are_asked_for_as_little_as_gives_any(
    operation: Operation, asked: dict[str, Any], sent: dict[str, Any] | None, is_shown: bool
) -> None:
    call = BackendRequest(
        request_id="r",
        operation=operation,
        body={"model": "m", **asked},
        shape=SHAPE,
        is_stream=False,
        has_usage=False,
        is_base64=False,
        max_tokens=None,
    )
    assert add_logprobs(call).body == {"model": "m", **(asked if sent is None else sent)}
    assert asks_logprobs(call) is is_shown
