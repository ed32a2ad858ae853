"""Makes topics and offsets that are missing, and leaves everything else as it is. Run by the chart's job, and daily.

A consumer group that sleeps longer than the broker keeps offsets has none when it is needed: KEDA then sees no lag, or
the whole log, and a model is woken never or for nothing. So each work group gets an offset on every partition where it
has none: the start of what is still in the log. Usage: prepare_log.py <plan.json>
"""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kafka.errors import CoordinatorNotAvailableError, KafkaError

from events.event import PartitionId
from functions.factories import open_log
from functions.kafka.offset_committer import KafkaOffsetCommitter
from functions.ports.kafka import Offsets, RecordLog, TopicSpec
from functions.runtime.errors import StartupFailed
from functions.runtime.missing_offsets import find_missing_offsets
from functions.runtime.settings import Settings, load_settings

CLIENT = "prepare-log"
TIMEOUT_S = 120.0
RETRY_S = 0.5


def commit(settings: Settings, group: str, offsets: Mapping[PartitionId, int]) -> bool:
    """False when the group has members: then its offsets are theirs to commit."""
    return KafkaOffsetCommitter(settings.broker, CLIENT).commit(group, offsets)


def read_lags(
    log: RecordLog, groups: Mapping[str, tuple[str, ...]]
) -> Mapping[str, Mapping[PartitionId, Offsets]]:
    """Offsets of every group. A new cluster has no coordinator for its first group until it is asked for one."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        reader = log.lag_reader(client=CLIENT)
        try:
            return reader.lags(groups)
        except CoordinatorNotAvailableError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(RETRY_S)
        finally:
            reader.close()


def prepare(settings: Settings, plan: Mapping[str, Any]) -> None:
    """Topics first, then offsets, group by group."""
    log = open_log(settings)
    topics = [TopicSpec(**topic) for topic in plan["topics"]]
    log.admin(client=CLIENT).ensure_topics(topics, TIMEOUT_S)
    print(f"{len(topics)} topics are there")
    groups = {group: tuple(names) for group, names in plan["groups"].items()}
    for group, offsets in read_lags(log, groups).items():
        wanted = find_missing_offsets(offsets)
        if not wanted:
            print(f"{group}: nothing missing on {len(offsets)} partitions")
        elif commit(settings, group, wanted):
            print(f"{group}: committed {len(wanted)} of {len(offsets)} partitions")
        else:
            print(f"{group}: is being consumed; its members commit")


def main(arguments: list[str]) -> int:
    """Exit status 1 when Kafka cannot be used: the job tries again."""
    plan = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    try:
        prepare(load_settings(), plan)
    except (StartupFailed, KafkaError) as error:
        print(f"prepare_log: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
