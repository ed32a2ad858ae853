"""The process of the embedded broker: creates every topic the catalogue needs, says its address, waits for SIGTERM.

The address (`host:port`) goes to `broker.address` in the data directory.
"""

import shutil
from pathlib import Path
from typing import Final

from functions import factories
from functions.kafka.embedded.doorbell import bell_directory
from functions.kafka.embedded.librdkafka_mock import MockCluster
from functions.local.required_topics import topic_specs
from functions.runtime.settings import Settings
from functions.runtime.shutdown import StopFlag

ADDRESS_FILE: Final = "broker.address"
WAIT_S: Final = 3600.0


def run(settings: Settings) -> int:
    """Serves until SIGTERM or SIGINT. Raises `StartupFailed` when librdkafka is missing."""
    stop = StopFlag.install()
    address = factories.data_dir(settings) / ADDRESS_FILE
    with MockCluster(topic_specs(settings, factories.load_catalogue(settings))) as cluster:
        _write_whole(address, cluster.bootstrap)
        while not stop.is_set():
            stop.wait(WAIT_S)
        bells = bell_directory(cluster.bootstrap)
    address.unlink(missing_ok=True)
    shutil.rmtree(bells, ignore_errors=True)
    return 0


def _write_whole(path: Path, text: str) -> None:
    """Readers see the old file or the new one, never half of it."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, encoding="ascii")
    new.replace(path)
