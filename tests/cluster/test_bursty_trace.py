"""Half an hour of bursts with pauses between them: nothing is lost, and the number of replicas does not flap."""

import os
import random
import statistics
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

TRACE_S = float(os.environ.get("CLUSTER_TRACE_S", "1800"))
pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(TRACE_S + 900)]
MODELS = ["fake-knative", "fake-deployment"]
MOST_AT_ONCE = 100
MEAN_PAUSE_S = 15.0
MOST_REFUSALS = 10
FIRST_PAUSE_S, MOST_PAUSE_S = 0.5, 8.0
WHOLE_SECONDS_S = 1.0
"""KEDA keeps the time of the last activity in whole seconds (ScaledObject status, metav1.Time)."""


def trace(seed, length_s):
    """Bursts as (seconds from the start, requests): sizes over two orders of magnitude, pauses without memory."""
    drawn, at = random.Random(seed), 0.0
    while True:
        at += drawn.expovariate(1 / MEAN_PAUSE_S)
        if at >= length_s:
            return
        yield at, round(10 ** drawn.uniform(0, 2))


def turns_of(entries, model):
    """When the number of replicas turned, as (wall time, +1 or -1), the first rise included."""
    found, before, direction = [], 0, 0
    for entry in entries:
        if entry["event"] == "replicas" and entry["service"] == model:
            step = entry["count"] - before
            before = entry["count"]
            if step and (step > 0) != (direction > 0):
                direction = 1 if step > 0 else -1
                found.append((entry["at"], direction))
    return found


def rewrites_of(installed, entries, model):
    """How often an HPA that had read its Deployment before KEDA took it to zero wrote after that: up at once, with no
    request between, and down again at KEDA's next look.
    """
    ours = [e for e in entries if e["event"] == "replicas" and e["service"] == model]
    since_s = entries[0]["at"]
    return sum(
        installed.audit.rewrites_of_zero(d, since_s) for d in {e["deployment"] for e in ours}
    )


def insisting(installed, model, prompt):
    """The answer, and how often the request was refused before it was accepted: one node's Kafka may stall.

    It waits between its tries, longer each time.
    """
    for refused in range(MOST_REFUSALS):
        answer = installed.door.chat(model, prompt)
        if answer.status != 503:
            return answer, refused
        time.sleep(min(MOST_PAUSE_S, FIRST_PAUSE_S * 2.0**refused))
    raise AssertionError(f"refused {MOST_REFUSALS} times: {answer.text}")


def play(installed, pool, model, seed, answers):
    began = time.monotonic()
    for number, (at, size) in enumerate(trace(seed, TRACE_S)):
        time.sleep(max(0.0, began + at - time.monotonic()))
        for one in range(size):
            nonce = f"nonce:{model}-{number}-{one}."
            prompt = f"[[fake:ttft=0.5]] {nonce}"
            answers.append((nonce, pool.submit(insisting, installed, model, prompt)))


def test_bursts_are_served_and_the_replicas_turn_at_most_once_in_an_idle_time(installed, values):
    installed.await_zero(*MODELS)
    idle_s = {one["slug"]: one["idle_s"] for one in values["global"]["catalogue"]["services"]}
    first = len(installed.timeline.entries)
    answers = {model: [] for model in MODELS}
    with ThreadPoolExecutor(2 * MOST_AT_ONCE) as pool:
        players = [
            threading.Thread(target=play, args=(installed, pool, model, seed, answers[model]))
            for seed, model in enumerate(MODELS)
        ]
        for player in players:
            player.start()
        for player in players:
            player.join()
    installed.await_zero(*MODELS)
    entries = installed.timeline.entries[first:]
    # Not the tail's ids: those of two ends of a request are the same, so that readers can tell.
    ends = Counter(e["request"] for e in entries if e["event"] == "outcome")
    for model in MODELS:
        ended = [(nonce, *future.result()) for nonce, future in answers[model]]
        for nonce, answer, _ in ended:
            assert answer.status == 200, answer.text
            assert nonce in answer.text
            assert installed.tail.outcomes[answer.request]
        turns = turns_of(entries, model)
        waits = sorted(answer.ended - answer.began for _, answer, _ in ended)
        quickest_s = min(
            later - earlier for (earlier, _), (later, way) in pairwise(turns) if way < 0
        )
        roused = sum(
            way > 0 and later - earlier < idle_s[model]
            for (earlier, _), (later, way) in pairwise(turns)
        )
        said = {
            "requests": len(ended),
            "refused_and_sent_again": sum(refused for *_, refused in ended),
            "computed_twice": sum(ends[answer.request] > 1 for _, answer, _ in ended),
            "turns": len(turns),
            "rewritten_by_the_hpa": rewrites_of(installed, entries, model),
            "roused_within_an_idle_time": roused,
            "idle_times": round(TRACE_S / idle_s[model]),
            "quickest_sleep_s": round(quickest_s, 1),
            "wait_p50_s": round(statistics.median(waits), 2),
            "wait_p99_s": round(waits[int(len(waits) * 0.99)], 2),
        }
        print(f"{model}: {said}")
        installed.timeline.note("measured", what=f"{model}: bursty trace", **said)
        assert quickest_s >= idle_s[model] - WHOLE_SECONDS_S, (
            "down sooner than an idle time after a rise"
        )
        assert len(turns) <= TRACE_S / idle_s[model]
