import pytest

from benchmarks.table3.pool import catalogue_text, load_pool
from router_model.catalogue.loader import load_catalogue

POOL = load_pool()
URLS = {model.id: "http://127.0.0.1:1/v1" for model in POOL.models}


def catalogue(scale):
    return load_catalogue(catalogue_text(POOL, URLS, places=POOL.places, scale=scale))


def test_every_name_in_the_pool_file_is_a_model_of_the_pool():
    for name in (POOL.best_single, POOL.cheapest, *POOL.static.values()):
        assert POOL.model(name).id == name


def test_each_price_names_its_entry_of_the_price_list():
    assert all(model.price_source for model in POOL.models)


def test_the_catalogue_knows_models_under_the_names_of_their_outcomes():
    names = [model.learned_name for model in catalogue(1).models]
    assert names == [model.learned_as for model in POOL.models]


def test_a_faster_clock_changes_times_and_not_costs():
    slow, fast = catalogue(1), catalogue(10)
    for one, other in zip(slow.services, fast.services, strict=True):
        assert other.ttft_s == pytest.approx(one.ttft_s / 10)
        assert other.tokens_per_s == pytest.approx(one.tokens_per_s * 10)
        assert other.price_per_hour_usd == pytest.approx(one.price_per_hour_usd * 10)


def test_a_place_that_decodes_costs_what_its_tokens_cost():
    for model in POOL.models:
        seconds = 1000 / model.tokens_per_s
        assert model.price_per_hour_usd() * seconds / 3600 == pytest.approx(model.usd(0, 1000))
