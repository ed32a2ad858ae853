"""One run of the benchmark: simulated models, the service in front of them, and every strategy one after the other."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec

from benchmarks.table3.comparing import Runs
from benchmarks.table3.driving import drive
from benchmarks.table3.pool import Pool, catalogue_text
from benchmarks.table3.questions import Arrival, lengths
from benchmarks.table3.strategies import Strategy
from benchmarks.table3.tuned import Tuned, tune
from examples.local_stack import local_stack
from functions import factories
from functions.runtime.settings import load_settings
from router_model.catalogue.loader import load_catalogue
from router_model.replay.outcome_dataset import OutcomeRow

REPOSITORY = Path(__file__).parents[2]
ROUTER = "PICKSPIN_ROUTER_"
WARM_UP_CALLS = 3
SETTLE_S = 3.0
"""Wall time between strategies: what one left in the registry is gone."""

Say = Callable[[str], None]
Profiles = Mapping[str, Tuned]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What every strategy is given. `scale`: simulated seconds in a second of the clock."""

    pool: Pool
    requests: Sequence[Arrival]
    scale: float


def tuned_profiles(pool: Pool, rows: Sequence[OutcomeRow], scale: float) -> Profiles:
    """The profiles of the multi-objective rows, for the classifier that the settings name.

    Raises:
        NothingToTune: no profile keeps the limits.
    """
    urls = {model.id: "http://127.0.0.1:1/v1" for model in pool.models}
    text = catalogue_text(pool, urls, places=pool.places, scale=scale)
    classifier = factories.load_classifier(load_settings())
    return tune(rows, load_catalogue(text), classifier, pool.tuned_limits)


def run_all(load: Load, tuned: Profiles, chosen: Sequence[Strategy], say: Say) -> Runs:
    """Every strategy through a running service; those alone through a second one, with the places of the whole pool."""
    runs: Runs = {}
    with simulated_models(load) as urls:
        for is_alone in (False, True):
            group = [one for one in chosen if one.is_alone == is_alone]
            if group:
                runs |= _through_service(load, tuned, urls, group, say)
    return runs


def _through_service(
    load: Load, tuned: Profiles, urls: Mapping[str, str], group: Sequence[Strategy], say: Say
) -> Runs:
    pool, is_alone = load.pool, group[0].is_alone
    text = catalogue_text(
        pool,
        urls,
        places=pool.single_places if is_alone else pool.places,
        scale=load.scale,
        profiles={name: one.trial.profile for name, one in tuned.items()},
    )
    with tempfile.TemporaryDirectory() as directory:
        catalogue = Path(directory, "catalogue.yaml")
        catalogue.write_text(text, encoding="utf-8")
        with local_stack("--catalogue", str(catalogue), environ=_router_settings()) as stack:
            return asyncio.run(_one_by_one(stack.url, load, group, say))


def _router_settings() -> dict[str, str]:
    """What the caller set for the router: the classifier, its weights."""
    return {name: value for name, value in os.environ.items() if name.startswith(ROUTER)}


async def _one_by_one(url: str, load: Load, group: Sequence[Strategy], say: Say) -> Runs:
    await _warm_up(url, load.pool)
    runs: Runs = {}
    for strategy in group:
        await asyncio.sleep(SETTLE_S)
        say(strategy.name)
        runs[strategy.name] = await drive(url, load.pool, strategy, load.requests, load.scale)
    return runs


async def _warm_up(url: str, pool: Pool) -> None:
    """A few calls to each model: all are up, and the registry has seen them."""
    async with httpx.AsyncClient(base_url=url, timeout=120.0) as http:
        for _ in range(WARM_UP_CALLS):
            for model in pool.models:
                body = {"model": model.id, "messages": [{"role": "user", "content": "ping"}]}
                answer = await http.post("/v1/chat/completions", json=body)
                answer.raise_for_status()


@contextmanager
def simulated_models(load: Load) -> Iterator[dict[str, str]]:
    """Base URLs of the simulated model servers, by model id."""
    known = lengths((one.row for one in load.requests), load.pool)
    plan = {
        model.id: {
            "ttft_s": model.ttft_s / load.scale,
            "tokens_per_s": model.tokens_per_s * load.scale,
            "prefill_tokens_per_s": model.prefill_tokens_per_s * load.scale,
            "lengths": known[model.id],
        }
        for model in load.pool.models
    }
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "plan.json")
        path.write_bytes(msgspec.json.encode(plan))
        command = [sys.executable, "-m", "benchmarks.table3.simulated", str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY) as servers:
            try:
                assert servers.stdout is not None
                ports = json.loads(servers.stdout.readline())
                yield {name: f"http://127.0.0.1:{port}/v1" for name, port in ports.items()}
            finally:
                servers.terminate()
