"""The pool of the benchmark: read from pool.json beside this module, and written as a catalogue of the service."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from router_model.catalogue.model import PROFILES, Profile, Tier
from router_model.classifier.keyword_rules import RouteClass

FILE: Final = Path(__file__).with_name("pool.json")
PRICES: Final = "model_prices.json"
MAX_TOKENS: Final = 4096
START_TIMEOUT_S: Final = 600.0
_MILLION: Final = 1e6
_SECONDS_PER_HOUR: Final = 3600.0

LATENCY_ONLY: Final = Profile(alpha=0.0, latency=1.0, cost=0.0)


class PoolModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model with simulated speeds, in unscaled seconds, and list prices. `learned_as` names its recorded outcomes."""

    id: str
    learned_as: str
    tier: Tier
    tokens_per_s: float
    ttft_s: float
    prefill_tokens_per_s: float
    cold_start_s: float
    usd_in_per_mtok: float
    usd_out_per_mtok: float
    price_source: str

    def usd(self, tokens_in: float, tokens_out: float) -> float:
        """List price of one call."""
        return (tokens_in * self.usd_in_per_mtok + tokens_out * self.usd_out_per_mtok) / _MILLION

    def alone_s(self, tokens_in: float, tokens_out: float) -> float:
        """Seconds of one call to the model itself: reading, first token, decoding."""
        return tokens_in / self.prefill_tokens_per_s + self.ttft_s + tokens_out / self.tokens_per_s

    def price_per_hour_usd(self) -> float:
        """Price of one place that decodes all the time: what makes busy seconds cost what the tokens would."""
        return self.usd_out_per_mtok / _MILLION * self.tokens_per_s * _SECONDS_PER_HOUR


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits under which the profile is tuned, as shares of what random allocation costs and takes."""

    cost_of_random: float
    latency_of_random: float


class Pool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is fixed before a run. Seconds and rates are of simulated time; `static` gives a model to each class."""

    comment: tuple[str, ...]
    sources: tuple[str, ...]
    models: tuple[PoolModel, ...]
    places: int
    single_places: int
    arrivals_per_s: float
    passes: int
    deadline_s: float
    seed: int
    best_single: str
    cheapest: str
    static: Mapping[RouteClass, str]
    tuned_limits: Mapping[str, Limits]
    """By name of the profile that is tuned under them."""

    def model(self, model_id: str) -> PoolModel:
        """Raises KeyError for a model that is not in the pool."""
        for model in self.models:
            if model.id == model_id:
                return model
        raise KeyError(model_id)


def load_pool(path: Path = FILE) -> Pool:
    """Raises msgspec.ValidationError where the file does not fit."""
    return msgspec.json.decode(path.read_bytes(), type=Pool)


def wrong_prices(pool: Pool, data: Path) -> list[str]:
    """Models whose prices are not those of the price list in the data directory."""
    prices = json.loads((data / PRICES).read_bytes())
    return [
        model.id
        for model in pool.models
        if (model.usd_in_per_mtok, model.usd_out_per_mtok)
        != tuple(prices[model.price_source][key] for key in ("usd_in_per_mtok", "usd_out_per_mtok"))
    ]


def catalogue_text(
    pool: Pool,
    urls: Mapping[str, str],
    *,
    places: int,
    scale: float,
    profiles: Mapping[str, Profile] | None = None,
) -> str:
    """The pool as a catalogue (JSON, which is YAML) of a service whose clock runs `scale` times as fast.

    Speeds and hourly prices grow with the scale, so that a request costs the same. `urls` are the servers by model id;
    every service is warm and has `places` concurrent calls.
    """
    known = {**PROFILES, "latency-only": LATENCY_ONLY, **(profiles or {})}
    return json.dumps(
        {
            "models": [_model(model, urls[model.id]) for model in pool.models],
            "services": [_service(model, places, scale) for model in pool.models],
            "profiles": {name: msgspec.to_builtins(profile) for name, profile in known.items()},
        },
        indent=1,
    )


def _model(model: PoolModel, url: str) -> dict[str, Any]:
    return {
        "id": model.id,
        "learned_as": model.learned_as,
        "tier": model.tier,
        "capabilities": ["chat"],
        "context_length": 4 * MAX_TOKENS,
        "max_tokens": MAX_TOKENS,
        "simulated": True,
        "weights": {"url": url},
    }


def _service(model: PoolModel, places: int, scale: float) -> dict[str, Any]:
    return {
        "model": model.id,
        "backend": {"kind": "openai"},
        "concurrency": places,
        "price_per_hour_usd": model.price_per_hour_usd() * places * scale,
        "cold_start_s": model.cold_start_s / scale,
        "start_timeout_s": START_TIMEOUT_S,
        "tokens_per_s": model.tokens_per_s * scale,
        "ttft_s": model.ttft_s / scale,
        "prefill_tokens_per_s": model.prefill_tokens_per_s * scale,
        "min_warm": 1,
    }
