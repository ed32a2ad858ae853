"""Ended requests of a store, one by one: as requests to decide again, and as outcomes to learn from."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from events import names
from events.codecs.kafka_codec import from_record
from events.errors import EventRejected
from events.names import State
from events.openai.operations import OPERATIONS
from events.requests import InferenceRequest, parse_request
from functions.ports.blobs import BlobStore
from functions.ports.store import FeedbackRow, FeedbackStore, FinishedQuery, FinishedRequest
from functions.router.handler import route_request
from functions.runtime.errors import BlobMissing
from router_model.classifier.features import extract_features
from router_model.replay.outcome_dataset import OutcomeRow, hash_question
from router_model.replay.replayed_decisions import Figures, Measurement, RecordedRequest
from router_model.service_registry import Registry

if TYPE_CHECKING:
    from router_model.catalogue.model import Catalogue

SOURCE: Final = "store"
BENCHMARK: Final = "recorded"
USER_WEIGHT: Final = 1.0
JUDGE_WEIGHT: Final = 0.5
"""A score is the mean of all opinions about one answer; a judge's counts half of what a user's does."""
PAGE: Final = 32
MAX_BODY_BYTES: Final = 64 * 1024 * 1024

EVERYTHING: Final = FinishedQuery()

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadableRequest:
    """An ended request whose prompt is kept."""

    finished: FinishedRequest
    request: InferenceRequest


class _Message(msgspec.Struct):
    content: object = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    text: str | None = None


class _Pickspin(msgspec.Struct):
    cascade: object = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] = []
    pickspin: _Pickspin | None = None


def read_finished(
    store: FeedbackStore, query: FinishedQuery = EVERYTHING
) -> Iterator[FinishedRequest]:
    """Every ended request that the query wants, newest first, a page at a time."""
    while page := store.finished(query, limit=PAGE):
        yield from page
        last = page[-1].row
        if last.finished_at is None:
            return
        query = replace(query, before=(last.finished_at, last.id))


def read_requests(
    finished: Iterable[FinishedRequest], blobs: BlobStore
) -> Iterator[ReadableRequest]:
    """Those whose prompt is kept and can be read; the others are passed over."""
    for one in finished:
        if one.record is None:
            continue
        try:
            event = from_record(one.record)
            ref = event.get(names.DATA_REF)
            body = None
            if ref is not None and event.data is None:
                body = blobs.get(ref, limit_bytes=MAX_BODY_BYTES)
            request = parse_request(
                event, default_wait_s=0.0, body=body, received_at=one.row.accepted_at
            )
        except (EventRejected, BlobMissing) as error:
            log.debug("prompt not readable", extra={"reason": type(error).__name__})
            continue
        yield ReadableRequest(finished=one, request=request)


def build_recorded(one: ReadableRequest) -> RecordedRequest:
    """As a request to decide again. Money and time are those of the recorded service, queue and cold start included."""
    row = one.finished.row
    scores = average_scores(one.finished.feedback)
    seen = {model: Measurement(figures=Figures(answered=score)) for model, score in scores.items()}
    if row.model is not None and row.state is State.COMPLETED:
        figures = Figures(
            cost_usd=row.cost_usd, seconds=_seconds(one.finished), answered=scores.get(row.model)
        )
        seen[row.model] = Measurement(figures=figures, service=row.service)
    return RecordedRequest(
        id=row.id,
        request=route_request(one.request, Registry()),
        service=row.service,
        model=row.model,
        seen=seen,
        is_failed=row.state in {State.FAILED, State.EXPIRED},
    )


def outcomes_from_store(
    store: FeedbackStore,
    blobs: BlobStore,
    catalogue: "Catalogue",
    *,
    query: FinishedQuery = EVERYTHING,
) -> Iterator[OutcomeRow]:
    """Every rated answer as an outcome to learn from. Newest first, one page in memory at a time.

    A request without feedback is left out.
    """
    rated = read_finished(store, replace(query, is_rated=True))
    for one in read_requests(rated, blobs):
        outcome = build_outcome(one, catalogue)
        if outcome is not None:
            yield outcome


def build_outcome(one: ReadableRequest, catalogue: "Catalogue") -> OutcomeRow | None:
    """One rated answer; None where there is no score, no text to learn from, or only vectors were asked for.

    Models go by their learned names. Length, tokens, money and time are those of the model that answered; time is from
    acceptance to the end. Of a cascade money and time are left out: they are those of all its steps.
    """
    row, request = one.finished.row, one.request
    prompt = extract_features(request.operation, request.body).text
    scores = average_scores(
        replace(opinion, model=_learned_name(catalogue, opinion.model))
        for opinion in one.finished.feedback
    )
    if not scores or not prompt or not OPERATIONS[request.operation].is_generative:
        return None
    answer = _read_answer(row.result)
    by = None if row.model is None else _learned_name(catalogue, row.model)
    is_alone = answer is not None and (answer.pickspin is None or answer.pickspin.cascade is None)
    seconds = _seconds(one.finished)
    return OutcomeRow(
        id=row.id,
        source=SOURCE,
        benchmark=BENCHMARK,
        qkey=hash_question(prompt),
        prompt=prompt,
        outcomes=scores,
        out_chars=_only(by, _chars(answer)),
        cost=_only(by, row.cost_usd if is_alone else None),
        latency_ms=_only(by, None if seconds is None or not is_alone else seconds * 1000),
        tokens=_only(by, _tokens(row.usage_prompt, row.usage_completion)),
    )


def average_scores(feedback: Iterable[FeedbackRow]) -> dict[str, float]:
    """The weighted mean of all opinions, by model id."""
    sums: dict[str, tuple[float, float]] = {}
    for one in feedback:
        weight = USER_WEIGHT if one.source == "user" else JUDGE_WEIGHT
        total, weights = sums.get(one.model, (0.0, 0.0))
        sums[one.model] = (total + weight * one.score, weights + weight)
    return {model: total / weights for model, (total, weights) in sums.items()}


def _learned_name(catalogue: "Catalogue", model: str) -> str:
    known = catalogue.model(model)
    return model if known is None else known.learned_name


def _seconds(one: FinishedRequest) -> float | None:
    row = one.row
    if row.finished_at is None:
        return None
    return max(0.0, (row.finished_at - row.accepted_at).total_seconds())


def _read_answer(result: bytes | None) -> _Answer | None:
    try:
        return None if result is None else msgspec.json.decode(result, type=_Answer)
    except (msgspec.MsgspecError, RecursionError):
        return None


def _chars(answer: _Answer | None) -> int | None:
    if answer is None or not answer.choices:
        return None
    choice = answer.choices[0]
    text = choice.text if choice.message is None else choice.message.content
    return len(text) if isinstance(text, str) else None


def _tokens(prompt: int | None, completion: int | None) -> tuple[int, int] | None:
    return None if prompt is None or completion is None else (prompt, completion)


def _only(name: str | None, value: T | None) -> Mapping[str, T]:
    return {} if name is None or value is None else {name: value}
