"""librdkafka, as every producer and consumer of the product is set up, and what has to be known of it.

Each workaround of this library stands here or is named here, with its source:

- `memberid()` holds the interpreter's lock while it asks librdkafka's own thread. Called from another thread than the
  one that polls, it hangs in the middle of a rebalance (seen with 2.16.1). `MemberNote` is written by the owner only.
- A consumer that is dropped without `close` while a rebalance waits for its owner keeps a thread busy for ever
  (seen with 2.16.1): every owner closes.
- A poll of 0.2 s or more does not end when a callback raises, shorter ones do (confluent-kafka 2.16.1).
- `Message.headers()` raises `SystemError` where a name is not UTF-8 (confluent-kafka 2.16.1).
- A batch with a broken checksum, or that cannot be decompressed, is fetched again for ever and reported each time:
  its reader has to seek behind it.
- A partition that is resumed may wait for up to a second: its broker's thread sleeps, and neither a resume nor a seek
  wakes it (seen with 2.16.1). Any request to that broker does: `AssignedPartitions` sends a small one.
- `Consumer.close` waits for commits that are under way, for minutes where the coordinator is gone: `close_consumer`.
- `consume(n, timeout)` waits for n records, and one call may hold records from before and after a rebalance. Single
  polls keep the order of records and callbacks, at 1 us a record more: `consumer.py`.
- A synchronous commit has no time limit of its own: while its coordinator is away it is put off for ten times
  `coordinator.query.interval.ms` (`rd_kafka_cgrp_defer_offset_commit`). So commits are asynchronous and polled for.
- A commit during a rebalance could lose the whole assignment before 2.10
  (https://github.com/confluentinc/librdkafka/issues/4059, mended by pull request 4908): hence the lower bound in
  `pyproject.toml`.
- With cooperative assignors `incremental_assign` must be called, not `assign`
  (https://github.com/haskell-works/hw-kafka-client/issues/192).
- `fetch.queue.backoff.ms` (1 s by default) is how long a full queue stops fetching.
- The default partitioner is not Kafka's: `murmur2_random` is.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from functions.runtime.errors import StartupFailed
from functions.runtime.settings import BrokerSettings

log = logging.getLogger(__name__)

SOCKET_TIMEOUT_MS: Final = 10_000
"""A request that is not answered by then has failed. Fetches and joins have limits of their own."""
CLOSE_S: Final = 3.0
_SAID_AGAIN_S: Final = 30.0
_SILENT: Final = 0
"""`log_level`: the library's own lines are not written; what matters comes as an error, once."""


class ErrorLog:
    """Writes a client's errors: each kind once, then at most every half a minute. Called by the client's own polls."""

    def __init__(self, client: str) -> None:
        self._client = client
        self._said_s: dict[str, float] = {}

    def __call__(self, error: Any) -> None:
        name, now_s = error.name(), time.monotonic()
        if now_s - self._said_s.get(name, -_SAID_AGAIN_S) < _SAID_AGAIN_S:
            return
        self._said_s[name] = now_s
        extra = {"client": self._client, "reason": name, "text": error.str()}
        log.warning("Kafka client", extra=extra)


def client_config(settings: BrokerSettings, client: str) -> dict[str, Any]:
    """What producers and consumers share: addresses, security, limits of connections.

    Args:
        settings: the cluster.
        client: the name under which the broker knows this client.
    """
    config: dict[str, Any] = {
        "bootstrap.servers": ",".join(part.strip() for part in settings.bootstrap.split(",")),
        "client.id": client,
        "security.protocol": settings.security_protocol,
        "socket.timeout.ms": SOCKET_TIMEOUT_MS,
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": 1000,
        "enable.metrics.push": False,
        "log_level": _SILENT,
        "error_cb": ErrorLog(client),
    }
    if settings.sasl_mechanism:
        config |= {
            "sasl.mechanism": settings.sasl_mechanism,
            "sasl.username": settings.sasl_username,
            "sasl.password": settings.sasl_password,
        }
    files = {
        "ssl.ca.location": settings.ssl_cafile,
        "ssl.certificate.location": settings.ssl_certfile,
        "ssl.key.location": settings.ssl_keyfile,
    }
    return config | {name: path for name, path in files.items() if path}


def open_client(kind: Callable[[dict[str, Any]], Any], config: dict[str, Any]) -> Any:
    """A producer or consumer of librdkafka; it connects by itself, later.

    Raises:
        StartupFailed: the settings are not usable: a file that is not there, a mechanism that nobody knows.
    """
    try:
        return kind(config)
    except KafkaException as error:
        reason = error.args[0].str()
        raise StartupFailed(
            f"the Kafka client cannot be set up (PICKSPIN_BROKER_*): {reason}"
        ) from error


def reach_cluster(config: dict[str, Any], timeout_s: float) -> None:
    """Returns once a broker says which brokers there are.

    Raises:
        StartupFailed: none does within `timeout_s`, or the settings are not usable.
    """
    heard: list[str] = []
    client = open_client(
        AdminClient, config | {"error_cb": lambda error: heard.append(error.str())}
    )
    try:
        client.list_topics(timeout=timeout_s)
    except KafkaException as error:
        client.poll(0)  # hands over what was heard meanwhile
        # The last one says only that all brokers are down.
        reason = next((text for text in heard if "brokers are down" not in text), "")
        # `host:port/bootstrap: reason (after 0ms in state CONNECT)`
        said = reason.rpartition("/bootstrap: ")[2].partition(" (after ")[0].strip()
        said = said or "nobody there answers as a broker does"
        raise StartupFailed(
            f"cannot reach Kafka at {config['bootstrap.servers']}: {said}"
        ) from error


def close_consumer(consumer: Any, timeout_s: float = CLOSE_S) -> None:
    """Leaves the group and closes; a broker that is away is not waited for longer than `timeout_s`.

    Callbacks of a rebalance may run in another thread meanwhile. The caller waits.
    """
    closing = threading.Thread(target=consumer.close, name="closing", daemon=True)
    closing.start()
    closing.join(timeout_s)
    if closing.is_alive():
        log.warning("a consumer was not closed in time")
