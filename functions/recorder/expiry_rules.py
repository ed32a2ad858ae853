"""Which requests the reaper ends now and how, and which records were lost. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from events import names
from events.builders import Failure, PickspinData, build_failed
from events.event import Event, PartitionId, Record
from events.names import State, Topics
from events.requests import Origin, ReplyAddress, is_reply_topic_allowed
from functions.ports.kafka import Offsets
from functions.ports.store import RequestRow
from functions.runtime.errors import ApiError

SOURCE: Final = "/recorder"
SETTLE_S: Final = 0.25
"""After a deadline an answer may still be on its way to the log for this long..."""
WORKER_S: Final = 1.5
"""... and a worker that runs a request ends it itself within this, if it lives."""


def judge_row(row: RequestRow, now: datetime, *, is_lost: bool = False) -> ApiError | None:
    """Why an unfinished request ends now; None: it goes on.

    `is_lost`: its volatile broker is gone, nothing will ever work on it.
    """
    if row.state.is_terminal:
        return None
    if row.cancel_reason is not None and row.cancel_reason != "deadline":
        return ApiError("cancelled", "the request was cancelled")
    if row.deadline <= now or row.cancel_reason == "deadline":
        return ApiError(
            "deadline_exceeded", "the request was not finished by its deadline: allow it more time"
        )
    if is_lost:
        return ApiError(
            "lost_on_restart",
            "the in-memory broker was restarted and its queue is gone: send it again",
        )
    return None


def hold_s(row: RequestRow, now: datetime) -> float:
    """How long after it is due a request is left to those who work on it: two ends of one request must not meet."""
    if row.state is State.RUNNING:
        return WORKER_S
    return SETTLE_S if row.deadline <= now else 0.0


def build_terminal(row: RequestRow, error: ApiError, now: datetime) -> Event:
    """The terminal of a request that ends here. Its id is the same in every writer."""
    failure = Failure(
        code=error.code, message=error.message, type=error.row.type, status=error.status
    )
    pickspin = PickspinData(
        request_id=row.id,
        state="failed",
        service=row.service,
        model=row.model,
        attempt=row.attempt,
    )
    return build_failed(build_origin(row), failure, source=SOURCE, now=now, pickspin=pickspin)


def build_origin(row: RequestRow) -> Origin:
    """What events that follow from the request carry on."""
    carried = {
        names.TENANT: row.tenant,
        names.OPERATION: row.operation,
        names.CALLBACK_ID: row.callback_id,
        names.BATCH_ID: row.batch_id,
        names.REPLY_EPOCH: row.reply_epoch,
    }
    return Origin(
        request_id=row.id,
        event_id=None if row.event is None else row.event.id,
        carried={name: v for name, v in carried.items() if v},
    )


def find_reply_address(
    row: RequestRow, topics: Topics, further: frozenset[str]
) -> ReplyAddress | None:
    """Where the caller listens; None where it does not, or asks for a topic that replies may not go to."""
    if row.reply_topic is None or not is_reply_topic_allowed(row.reply_topic, topics, further):
        return None
    return ReplyAddress(topic=row.reply_topic, partition=row.reply_partition, epoch=row.reply_epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPositions:
    """Where router and recorder stood at one instant, and where the log ended."""

    router: Mapping[PartitionId, Offsets]
    recorder: Mapping[PartitionId, Offsets]


def is_read(then: Mapping[PartitionId, Offsets], now: Mapping[PartitionId, Offsets]) -> bool:
    """True once a group has committed everything that was on the log `then`; False where the log was not known."""
    return bool(then) and all(
        offsets.end == offsets.start or (_committed(now, place) or 0) >= offsets.end
        for place, offsets in then.items()
    )


def was_dropped(row: RequestRow, record: Record, then: LogPositions) -> bool:
    """True where a request that is still `accepted` was passed over: not on the log, or read by the router's group.

    `then` was taken before the recorder caught up with it, so that whatever the router made of the record would be
    known by now. A record that the router's group has not committed is simply waiting.
    """
    if row.state is not State.ACCEPTED:
        return False
    if record.offset < 0:
        return True
    committed = _committed(then.router, record.partition_id)
    return committed is not None and committed > record.offset


def _committed(offsets: Mapping[PartitionId, Offsets], place: PartitionId) -> int | None:
    offset = offsets.get(place)
    return None if offset is None else offset.committed
