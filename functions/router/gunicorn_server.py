"""gunicorn for the router function: one process of threads, Kafka clients made after the fork."""

import logging
from collections.abc import Callable
from typing import Any, Final

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from events.limits import DEFAULT_LIMITS
from functions.runtime.settings import RouterSettings

KEEPALIVE_S: Final = 75
"""Idle connections of the source live this long."""
_GRACE_MARGIN_S: Final = 2

Load = Callable[[], tuple[Any, Callable[[], None]]]
"""Makes the WSGI application and the function that closes what it owns."""


class JsonLogger(Logger):  # type: ignore[misc]
    """Leaves formatting to the root logger: one JSON object a line, like everything else."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
            logger.propagate = True
        self.error_log.setLevel(logging.WARNING)


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, load: Load, options: dict[str, Any]) -> None:
        self._load = load
        self._options = options | {"worker_exit": self._on_exit}
        self._close: Callable[[], None] = lambda: None
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        app, self._close = self._load()
        return app

    def _on_exit(self, server: Any, worker: Any) -> None:
        self._close()


def build_options(settings: RouterSettings) -> dict[str, Any]:
    """Gunicorn's settings. Threads, not `sync`: that one cuts requests at `timeout`. The grace is longer than the
    longest request, so that none is dropped without an answer.
    """
    grace_s = int(settings.request_timeout_s) + _GRACE_MARGIN_S
    return {
        "bind": f"{settings.host}:{settings.port}",
        "worker_class": "gthread",
        "workers": 1,
        "threads": settings.threads,
        "timeout": 30,
        "graceful_timeout": grace_s,
        "keepalive": KEEPALIVE_S,
        "limit_request_fields": 2 * DEFAULT_LIMITS.max_headers,
        "limit_request_field_size": DEFAULT_LIMITS.max_header_bytes,
        "logger_class": JsonLogger,
        "control_socket_disable": True,
        "proc_name": "pickspin-router",
    }


def serve(load: Load, settings: RouterSettings) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status."""
    try:
        _Server(load, build_options(settings)).run()
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 1
    return 0
