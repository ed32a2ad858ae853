"""All simulated model servers in one process: `python -m benchmarks.table3.simulated PLAN`.

PLAN is a JSON file: by model id `ttft_s`, `tokens_per_s`, `prefill_tokens_per_s` and `lengths`, the tokens of the
answer to each prompt. A JSON object with the port of each model is printed when all listen. Servers are the product's
fake model, told how long each answer is.
"""

import asyncio
import json
import sys
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from functions.backends.simulated import answers
from functions.backends.simulated.server import FakeConnection, FakeModel, parse_flags
from router_model.classifier.features import CHARS_PER_TOKEN

WARM_UP_TOKENS = 1
"""Length of answers to prompts that no outcome is recorded for: the workers' own warm-up calls."""


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """One simulated model."""

    ttft_s: float
    tokens_per_s: float
    prefill_tokens_per_s: float
    lengths: dict[str, int]


class ReplayedConnection(FakeConnection):
    """Answers as long as the recorded ones; the first token comes after the prompt was read."""

    def __init__(self, model: FakeModel, speed: Speed) -> None:
        super().__init__(model)
        self._speed = speed

    async def _call(self, path: str, asked: answers.SimulatedRequest, request_id: str) -> None:
        await super()._call(path, as_recorded(asked, self._speed), request_id)


def as_recorded(asked: answers.SimulatedRequest, speed: Speed) -> answers.SimulatedRequest:
    """The call with the length and the time to the first token that its prompt has at this model."""
    read_s = len(asked.prompt) / CHARS_PER_TOKEN / speed.prefill_tokens_per_s
    return replace(
        asked,
        tokens=speed.lengths.get(asked.prompt, WARM_UP_TOKENS),
        directives={"ttft": str(speed.ttft_s + read_s)},
    )


async def serve(plan: Mapping[str, Speed]) -> None:
    """Serves until cancelled."""
    loop, ports = asyncio.get_running_loop(), {}
    for model_id, speed in plan.items():
        model = FakeModel(_flags(model_id, speed))

        def connection(model: FakeModel = model, speed: Speed = speed) -> ReplayedConnection:
            return ReplayedConnection(model, speed)

        server = await loop.create_server(connection, "127.0.0.1", 0)
        ports[model_id] = server.sockets[0].getsockname()[1]
    print(json.dumps(ports), flush=True)
    await asyncio.Event().wait()


def _flags(model_id: str, speed: Speed) -> Namespace:
    return parse_flags(["--model", model_id, "--tokens-per-s", str(speed.tokens_per_s)])


if __name__ == "__main__":
    asyncio.run(serve(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=dict[str, Speed])))
