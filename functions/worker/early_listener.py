"""Opens the worker's port before its libraries are loaded.

A probe that comes meanwhile waits for its answer. A refused one would come a second later.
"""

import socket
from typing import Final

from functions.runtime.errors import StartupFailed
from functions.runtime.settings import Settings
from functions.runtime.shutdown import speed_up_imports

_BACKLOG: Final = 16


def run(settings: Settings) -> int:
    """`functions.worker.main.run` behind an open port.

    Raises:
        StartupFailed: as there, or the port is taken.
    """
    with open_listener(settings.worker.host, settings.worker.port) as listener:
        with speed_up_imports():
            # What the wiring reads once it has settings is read here, where nothing is collected in between.
            import uvloop  # noqa: F401, PLC0415

            from functions.kafka import record_log  # noqa: F401, PLC0415
            from functions.worker.main import run as run_worker  # noqa: PLC0415 - a third of a second, after the port
            from router_model.catalogue import loader  # noqa: F401, PLC0415

        return run_worker(settings, listener)


def open_listener(host: str, port: int) -> socket.socket:
    """A socket that accepts connections. They wait until the server takes them.

    Raises:
        StartupFailed: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise StartupFailed(
            f"PICKSPIN_WORKER_PORT: cannot listen on {host}:{port}: {error}"
        ) from error
