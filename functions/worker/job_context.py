"""What all jobs of a worker share: the service, its model, and how it is called."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from events.payloads import ServerInfo
from functions.backends.backend_kinds import BackendRow
from router_model.catalogue.model import Cascade, Model, Service


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """What every job of this worker shares."""

    service: Service
    model: Model
    row: BackendRow
    max_attempts: int
    server_info: Callable[[], ServerInfo | None] = lambda: None
    """What the model server says of itself; None: it has not been asked yet."""
    chunk_s: float
    cascades: Mapping[str, Cascade] = field(default_factory=dict)
    hold_bytes: int = 256 * 1024
    busy_s: float = 10.0
    """A server that takes no call for this long is left to a service that stands by."""
    max_calls: int = 5
    """Model calls of one request over all services, as far as each that is planned may be called once."""
