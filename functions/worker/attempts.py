"""One attempt at a request, while it is under way."""

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime

from events.requests import RoutedRequest
from functions.worker.cascade_step import HeldStream
from functions.worker.job import Job
from functions.worker.reply_producer import ChunkSender
from router_model.cascade.plan import Judge


@dataclass(slots=True)
class Attempt:
    """One attempt under way."""

    job: Job
    request: RoutedRequest
    generation: str
    started_at: datetime
    sender: ChunkSender | None = None
    is_cancelled: bool = False
    task: "asyncio.Task[None] | None" = None
    called_s: float | None = None
    first_at: datetime | None = None
    judge: Judge | None = None
    """Set where the answer is judged: at a step of a cascade that is not the last."""
    held: HeldStream | None = None
    confidence: float | None = None

    @property
    def attempt(self) -> int:
        """Counted over all steps of a cascade, so that no two model calls of a request have the same number."""
        cascade = self.request.cascade
        earlier = 0 if cascade is None else sum(used.attempts for used in cascade.used)
        return self.job.attempt + earlier

    @property
    def seconds(self) -> float | None:
        """How long the model has worked in this attempt; None: it was not called."""
        return None if self.called_s is None else time.monotonic() - self.called_s

    @property
    def has_streamed(self) -> bool:
        """Whether a reader may have seen something of this attempt."""
        return self.sender is not None and self.sender.has_sent
