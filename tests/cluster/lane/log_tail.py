"""What travels on Kafka, noted with the times that the records carry: enqueues of model services, and every outcome."""

import threading
from collections import defaultdict

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from timeline import Timeline

MODEL_TOPIC = "infer.model."
OUTCOMES = "infer.responses"


class LogTail:
    """Reads the topics of `services` and the outcomes from their ends on, in a thread, until closed."""

    def __init__(self, bootstrap: str, services: list[str], timeline: Timeline) -> None:
        self.outcomes: defaultdict[str, set[str]] = defaultdict(set)
        """Ids of the terminal events of each request: one each, however often it was written (the timeline has every
        record), and two where they contradict each other.
        """
        self._bootstrap = bootstrap
        self._topics = [OUTCOMES, *(f"{MODEL_TOPIC}{slug}" for slug in services)]
        self._timeline = timeline
        self._positions: dict[TopicPartition, int] = {}
        self._stop = threading.Event()
        self._at_ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._at_ends.wait(30.0), "the topics cannot be read"

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._read()
            except (KafkaError, OSError):
                self._stop.wait(1.0)  # the broker is away: a test may have stopped it

    def _read(self) -> None:
        consumer = KafkaConsumer(
            bootstrap_servers=self._bootstrap,
            enable_auto_commit=False,
            group_id=None,
            reconnect_backoff_max_ms=1000,
        )
        try:
            places = [
                TopicPartition(topic, number)
                for topic in self._topics
                for number in consumer.partitions_for_topic(topic) or ()
            ]
            consumer.assign(places)
            if not self._positions:
                self._positions = dict(consumer.end_offsets(places))
            for place in places:
                consumer.seek(place, self._positions.get(place, 0))
            self._at_ends.set()
            while not self._stop.is_set():
                for place, records in consumer.poll(timeout_ms=100).items():
                    for record in records:
                        self._note(record)
                        self._positions[place] = record.offset + 1
        finally:
            consumer.close()

    def _note(self, record) -> None:
        headers = {name: value.decode() for name, value in record.headers}
        request = headers.get("ce_correlationid", headers.get("ce_id", ""))
        at = record.timestamp / 1000
        if record.topic == OUTCOMES:
            self.outcomes[request].add(headers.get("ce_id", ""))
            kind = headers.get("ce_type", "").rsplit(".", 2)[-2]
            self._timeline.note("outcome", at=at, request=request, kind=kind)
        else:
            slug = record.topic.removeprefix(MODEL_TOPIC)
            self._timeline.note("enqueue", at=at, service=slug, request=request)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(20.0)
