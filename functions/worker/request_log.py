"""Log lines of a request's start and end: ids and figures, never content."""

import logging
from collections.abc import Mapping
from typing import Any

from events.payloads import PickspinData

log = logging.getLogger(__name__)


def log_start(request_id: str, *, service: str, attempt: int) -> None:
    """A model call begins."""
    log.info("started", extra={"request_id": request_id, "service": service, "attempt": attempt})


def log_end(
    known: PickspinData, answer: Mapping[str, Any] | None = None, reason: str | None = None
) -> None:
    """The request is at its end; `reason` is the code of a failure."""
    usage = (answer or {}).get("usage") or {}
    timings, cost = known.timings, known.cost
    said = {
        "request_id": known.request_id,
        "service": known.service,
        "state": known.state,
        "code": reason,
        "prompt_tokens": usage.get("prompt_tokens"),
        "completion_tokens": usage.get("completion_tokens"),
        "cost_usd": None if cost is None else round(cost.usd, 9),
        "queue_ms": None if timings is None else timings.queue_ms,
        "load_ms": None if timings is None else timings.load_ms,
        "model_ms": None if timings is None else timings.model_ms,
        "attempt": known.attempt,
    }
    log.info("ended", extra={name: value for name, value in said.items() if value is not None})
