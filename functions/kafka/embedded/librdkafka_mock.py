"""The embedded broker: librdkafka's mock cluster, which the confluent-kafka wheel carries, driven over ctypes.

It speaks the Kafka protocol on a loopback port of its own choice. Limits (ADR 0003): everything is in memory and gone
with the process, about 5 MB or 100,000 records a partition, no topic creation through the protocol, and an empty
fetch is answered only after its whole wait. confluent-kafka itself is never imported: its library is read as a file.
"""

import ctypes
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from functions.ports.kafka import TopicSpec
from functions.runtime.errors import StartupFailed

BROKERS: Final = 1
ERROR_BYTES: Final = 512
ERRORS_ONLY: Final = b"3"
"""A syslog level: the client has no broker of its own and would warn about it."""
PRODUCER: Final = 0
"""`rd_kafka_type_t` of the handle that the mock cluster hangs on; it connects to nothing."""
_POINTER_FUNCTIONS: Final = (
    "rd_kafka_conf_new",
    "rd_kafka_new",
    "rd_kafka_mock_cluster_new",
    "rd_kafka_err2str",
)
INSTALL_HINT: Final = (
    "install its wheel (pip install --force-reinstall confluent-kafka) or use --bootstrap host:port"
)


def find_library() -> Path:
    """The librdkafka inside the installed confluent-kafka wheel.

    Raises:
        StartupFailed: the wheel is not installed, or was built without its own librdkafka.
    """
    spec = importlib.util.find_spec("confluent_kafka")
    if spec is None or spec.origin is None:
        raise StartupFailed(f"the embedded broker needs the confluent-kafka wheel: {INSTALL_HINT}")
    wheel_libraries = Path(spec.origin).parent.parent / "confluent_kafka.libs"
    libraries = sorted(wheel_libraries.glob("librdkafka*.so*"))
    if not libraries:
        raise StartupFailed(
            f"this confluent-kafka carries no librdkafka of its own: {INSTALL_HINT}"
        )
    return libraries[0]


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    for name in _POINTER_FUNCTIONS:
        getattr(library, name).restype = ctypes.c_void_p
    library.rd_kafka_err2str.restype = ctypes.c_char_p
    library.rd_kafka_new.argtypes = [
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    library.rd_kafka_conf_set.argtypes = [
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    library.rd_kafka_mock_cluster_new.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.rd_kafka_mock_group_initial_rebalance_delay_ms.argtypes = [
        ctypes.c_void_p,
        ctypes.c_int32,
    ]
    library.rd_kafka_mock_topic_create.argtypes = [
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_int,
    ]
    library.rd_kafka_mock_cluster_bootstraps.argtypes = [ctypes.c_void_p]
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    library.rd_kafka_mock_cluster_destroy.argtypes = [ctypes.c_void_p]
    library.rd_kafka_destroy.argtypes = [ctypes.c_void_p]
    return library


class MockCluster:
    """One running mock cluster with its topics; `bootstrap` is `host:port`. Close it, or use it in a `with`."""

    def __init__(self, topics: Iterable[TopicSpec] = ()) -> None:
        self._library = _load(find_library())
        self._client = self._new_client()
        self._cluster: int | None = self._library.rd_kafka_mock_cluster_new(self._client, BROKERS)
        if not self._cluster:
            raise StartupFailed("the embedded broker could not open a loopback port")
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        for topic in topics:
            self.create_topic(topic)
        text: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        self.bootstrap = text.decode("ascii")

    def _new_client(self) -> int:
        error = ctypes.create_string_buffer(ERROR_BYTES)
        conf = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(conf, b"log_level", ERRORS_ONLY, error, ERROR_BYTES)
        client: int | None = self._library.rd_kafka_new(PRODUCER, conf, error, ERROR_BYTES)
        if not client:
            reason = error.value.decode("utf-8", "replace")
            raise StartupFailed(f"the embedded broker could not start: {reason}")
        return client

    def create_topic(self, topic: TopicSpec) -> None:
        """Creates a topic. The mock has no compaction and no retention by time: only name and partitions count.

        Raises:
            StartupFailed: the mock refused (the topic exists, or the name is not valid).
        """
        code = self._library.rd_kafka_mock_topic_create(
            self._cluster, topic.name.encode("ascii"), topic.partitions, BROKERS
        )
        if code != 0:
            reason = self._library.rd_kafka_err2str(code).decode("ascii", "replace")
            raise StartupFailed(f"the embedded broker refused topic {topic.name}: {reason}")

    def close(self) -> None:
        """Stops listening and forgets every record. Idempotent."""
        if self._cluster is None:
            return
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)
        self._cluster = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
