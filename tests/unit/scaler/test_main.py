"""A real gRPC client over loopback against the whole scaler process."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import httpx
import msgspec
import pytest

from functions.testing.memory_broker import MemoryOffsetReader
from tests.unit.scaler.conftest import (
    PATIENCE_S,
    Keda,
    Stand,
    catalogue_of,
    enqueue,
    finish_all,
    service,
    told_by_scaler,
    until,
)


def play(stand: Stand, scenario: Callable[[Keda], Awaitable[None]]) -> None:
    async def run() -> None:
        async with stand.serving() as keda:
            await asyncio.wait_for(scenario(keda), PATIENCE_S)

    asyncio.run(run())
    assert stand.status == 0


async def heard(stream: Any) -> bool:
    return (await stream.read()).result


async def refusal(call: Awaitable[Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details()


def test_a_stream_says_what_is_and_then_every_change_at_once(stand: Stand) -> None:
    async def scenario(keda: Keda) -> None:
        stream = keda.stream()
        assert await heard(stream) is False
        enqueue(stand.log)
        began = time.perf_counter()
        assert await heard(stream) is True
        assert time.perf_counter() - began < 1.0
        assert await keda.is_active() is True
        stream.cancel()

    play(stand, scenario)


def test_an_activation_is_pushed_again_until_a_replica_reports(stand: Stand) -> None:
    async def scenario(keda: Keda) -> None:
        stream = keda.stream()
        await heard(stream)
        enqueue(stand.log)
        assert [await heard(stream) for _ in range(3)] == [True, True, True]
        stream.cancel()

    play(stand, scenario)


def test_the_metric_is_the_number_of_replicas_as_int_and_as_float(stand: Stand) -> None:
    async def scenario(keda: Keda) -> None:
        spec, value = await keda.metric()
        assert (spec.metricName, spec.targetSize, spec.targetSizeFloat) == ("replicas-tiny", 1, 1.0)
        assert (value.metricValue, value.metricValueFloat) == (0, 0.0)

        enqueue(stand.log, count=500)
        while not await keda.is_active():
            pass
        value = await keda.value(spec.metricName)
        assert (value.metricValue, value.metricValueFloat) == (3, 3.0)

    play(stand, scenario)


def test_work_that_is_done_is_inactive_and_with_idle_scaler_after_the_idle_time(
    stand: Stand,
) -> None:
    async def scenario(keda: Keda) -> None:
        enqueue(stand.log)
        while not await keda.is_active():
            pass
        finish_all(stand.log)
        while await keda.is_active():
            pass
        assert await keda.is_active(idle="keda") is False
        assert await keda.is_active(idle="scaler") is True

    play(stand, scenario)


def test_an_unknown_service_is_not_found(stand: Stand) -> None:
    async def scenario(keda: Keda) -> None:
        expected = (grpc.StatusCode.NOT_FOUND, "no enabled service 'other' in the catalogue")
        assert await refusal(keda.is_active(service="other")) == expected
        assert await refusal(keda.metric(service="other")) == expected
        assert await refusal(keda.stream(service="other").read()) == expected

    play(stand, scenario)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"service": ""}, "the trigger's metadata of ns/so names no service"),
        ({"idle": "me"}, "the trigger's idle is 'me'; there are: keda, scaler"),
    ],
)
def test_metadata_that_is_not_understood_is_refused(
    stand: Stand, metadata: dict[str, str], message: str
) -> None:
    async def scenario(keda: Keda) -> None:
        expected = (grpc.StatusCode.INVALID_ARGUMENT, message)
        assert await refusal(keda.is_active(**metadata)) == expected

    play(stand, scenario)


def test_another_metric_than_the_service_s_own_is_refused(stand: Stand) -> None:
    async def scenario(keda: Keda) -> None:
        code, message = await refusal(keda.value("replicas-other"))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert message == "the metric of tiny is replicas-tiny, not replicas-other"

    play(stand, scenario)


def test_a_client_that_leaves_is_forgotten_and_may_come_back(stand: Stand) -> None:
    async def scenario(keda: Keda) -> None:
        first = keda.stream()
        await heard(first)
        assert stand.process.decisions.streams() == 1
        first.cancel()
        await until(lambda: stand.process.decisions.streams() == 0)

        enqueue(stand.log)
        again = keda.stream()
        while not await heard(again):
            pass
        again.cancel()

    play(stand, scenario)


def test_streams_of_several_scaled_objects_are_told_alike(stand: Stand) -> None:
    async def scenario(keda: Keda) -> None:
        streams = [keda.stream() for _ in range(5)]
        assert [await heard(stream) for stream in streams] == [False] * 5
        enqueue(stand.log)
        assert [await heard(stream) for stream in streams] == [True] * 5
        for stream in streams:
            stream.cancel()

    play(stand, scenario)


def test_too_many_streams_are_refused() -> None:
    stand = Stand()
    stand.settings = with_scaler(stand, max_streams=1)

    async def scenario(keda: Keda) -> None:
        first = keda.stream()
        await heard(first)
        code, _ = await refusal(keda.stream().read())
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        first.cancel()

    play(stand, scenario)


def test_a_catalogue_that_changes_brings_services_and_ends_streams_of_those_that_went(
    stand: Stand,
) -> None:
    async def scenario(keda: Keda) -> None:
        stream = keda.stream()
        await heard(stream)
        stand.catalogue = catalogue_of(service("second"))
        await until(lambda: stand.process.decisions.get("second") is not None)

        assert await keda.is_active(service="second") is False
        code, _ = await refusal(stream.read())
        assert code is grpc.StatusCode.NOT_FOUND

    play(stand, scenario)


def test_when_told_to_stop_it_ends_streams_as_finished(stand: Stand) -> None:
    async def scenario(keda: Keda) -> None:
        stream = keda.stream()
        await heard(stream)
        stand.stop.set()
        assert await stream.read() is grpc.aio.EOF
        assert await stream.code() is grpc.StatusCode.OK

    play(stand, scenario)


def test_without_a_broker_streams_stay_truth_stays_and_ready_goes() -> None:
    class Outage(MemoryOffsetReader):
        is_on = False

        def ends(self, topics: tuple[str, ...]) -> Any:
            if Outage.is_on:
                raise ConnectionError("no broker")
            return super().ends(topics)

    stand = Stand()
    stand.log.offset_reader = lambda client: Outage(stand.log)

    async def scenario(keda: Keda) -> None:
        await until(stand.process.is_ready)
        enqueue(stand.log)
        stream = keda.stream()
        while not await heard(stream):
            pass
        Outage.is_on = True
        await until(lambda: not stand.process.is_ready())
        assert await probe(stand, "/readyz") == 503
        assert await probe(stand, "/healthz") == 200
        assert await keda.is_active() is True
        assert await heard(stream) is True

        finish_all(stand.log)
        Outage.is_on = False
        await until(lambda: stand.process.decisions.get("tiny").lag == 0)
        await until(stand.process.is_ready)
        assert stand.process.decisions.streams() == 1
        stream.cancel()

    play(stand, scenario)


def test_metrics_show_both_targets_and_the_pushes(stand: Stand) -> None:
    async def scenario(keda: Keda) -> None:
        enqueue(stand.log, count=500)
        stream = keda.stream()
        while not await heard(stream):
            pass
        async with httpx.AsyncClient(verify=False) as client:
            url = f"http://127.0.0.1:{stand.process.probe_port}/metrics"
            lines = (await client.get(url)).text.splitlines()
        stream.cancel()
        for line in (
            'pickspin_scaler_lag{service="tiny"} 500.0',
            'pickspin_scaler_desired_replicas{service="tiny"} 3.0',
            "pickspin_scaler_streams 1.0",
        ):
            assert line in lines
        values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        assert float(values['pickspin_scaler_rate_target{service="tiny"}']) >= 0
        assert float(values['pickspin_scaler_backlog_target{service="tiny"}']) > 3

    play(stand, scenario)


def test_of_two_replicas_one_writes_the_status_and_the_other_takes_over(stand: Stand) -> None:
    async def scenario(keda: Keda) -> None:
        second = Stand(log=stand.log)
        await until(lambda: told_by_scaler(stand.log))
        async with second.serving() as other:
            elections = [stand.process._election, second.process._election]
            await until(lambda: sum(each.is_elected() for each in elections) == 1)
            assert await other.is_active() is await keda.is_active() is False
        await until(stand.process._election.is_elected)

    play(stand, scenario)


def with_scaler(stand: Stand, **changes: Any) -> Any:
    scaler = msgspec.structs.replace(stand.settings.scaler, **changes)
    return msgspec.structs.replace(stand.settings, scaler=scaler)


async def probe(stand: Stand, path: str) -> int:
    async with httpx.AsyncClient(verify=False) as client:
        answer = await client.get(f"http://127.0.0.1:{stand.process.probe_port}{path}")
    return answer.status_code
