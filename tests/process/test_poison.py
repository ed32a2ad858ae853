"""Whatever foreign producers put on the topics, every group reads to the end of every partition and calls go on."""

import time
from collections.abc import Iterator

import httpx
import pytest
from confluent_kafka import Producer

from events import names
from events.names import Topics
from examples.local_stack import LocalStack
from functions.kafka.record_log import KafkaLog
from functions.ports.kafka import LagReader
from functions.recorder.event_recorder import recorded_topics
from functions.runtime.settings import BrokerSettings

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

TOPICS = Topics()
SLUG = "warm"
BODY = b'{"model":"warm","messages":[{"role":"user","content":"hello"}]}'
PATIENCE_S = 60.0
GROUPS = {
    TOPICS.router_group: (TOPICS.requests,),
    TOPICS.recorder_group: recorded_topics(TOPICS),
    TOPICS.callbacks_group: (TOPICS.responses,),
    TOPICS.worker_group(SLUG): TOPICS.of_service(SLUG),
}
WRITTEN = (
    *dict.fromkeys((*recorded_topics(TOPICS), *TOPICS.of_service(SLUG))),
    TOPICS.status,
    TOPICS.replies,
)

Headers = list[tuple[str, bytes | None]]
Message = tuple[bytes | None, bytes | None, Headers]


def headers(event_id: str, **more: bytes | None) -> Headers:
    found: dict[str, bytes | None] = {
        "ce_specversion": b"1.0",
        "ce_id": event_id.encode(),
        "ce_source": b"/foreign",
        "ce_type": names.REQUEST.encode(),
        "content-type": b"application/json",
    }
    return list((found | more).items())


def poison(topic: str, partition: int) -> Iterator[Message]:
    """Key, value and headers of records that nobody can use."""
    name = f"poison-{topic}-{partition}"
    yield None, None, []
    yield b"\xff\x00", b"\xff\xfe", [("ce_id", b"\xff"), ("x", None)]
    yield b"k", None, headers(f"{name}-tombstone")
    yield None, b"[" * 5000, headers(f"{name}-deep")
    yield None, BODY, headers(f"{name}-source", ce_source=b"not a uri")
    yield None, BODY, headers(f"{name}-time", ce_time=b"9999-99-99")
    yield None, BODY, headers(f"{name}-null", ce_note=None)
    yield None, BODY, headers(f"{name}-hash", ce_datahash=b"0" * 64)
    yield (
        None,
        BODY,
        headers(f"{name}-address", ce_replytopic=TOPICS.replies.encode(), ce_replypartition=b"77"),
    )
    for kind in (names.ROUTED, names.COMPLETED, names.FAILED, names.CHUNK, names.PROGRESS):
        yield None, b'{"pickspin":{"state":[]}}', headers(f"{name}-{kind}", ce_type=kind.encode())
    for kind in (names.CANCEL, names.STATUS, names.DECISION, names.REVISION):
        yield None, b'{"at":"yesterday"}', headers(f"{name}-{kind}", ce_type=kind.encode())
    if partition == 0:
        yield b"k", b"x" * 950 * 1024, headers(f"{name}-large")


def partitions_of(lags: LagReader, topic: str) -> int:
    return len(lags.lags({"nobody": (topic,)})["nobody"])


def test_every_group_reads_to_the_end_and_calls_go_on(
    shared_fakes: LocalStack, broker: str
) -> None:
    settings = BrokerSettings(bootstrap=shared_fakes.bootstrap, kind=broker)
    lags = KafkaLog(settings).lag_reader(client="test")
    producer = Producer({"bootstrap.servers": shared_fakes.bootstrap})
    hello = {"model": SLUG, "messages": [{"role": "user", "content": "hello"}]}
    with httpx.Client(base_url=shared_fakes.url, timeout=60.0) as http:
        http.post("/v1/chat/completions", json=hello).raise_for_status()
        for topic in WRITTEN:
            for partition in range(partitions_of(lags, topic)):
                for key, value, given in poison(topic, partition):
                    producer.produce(topic, value, key=key, headers=given, partition=partition)
        assert producer.flush(30) == 0
        for _ in range(12):
            http.post("/v1/chat/completions", json=hello).raise_for_status()
        behind = lagging(lags)
        until = time.monotonic() + PATIENCE_S
        while behind and time.monotonic() < until:
            time.sleep(0.2)
            behind = lagging(lags)
        assert not behind
        assert http.get("/readyz").status_code == 200
    lags.close()


def lagging(lags: LagReader) -> dict[str, dict[str, int]]:
    return {
        group: found
        for group, offsets in lags.lags(GROUPS).items()
        if (found := {f"{p.topic}/{p.partition}": o.lag for p, o in offsets.items() if o.lag})
    }
