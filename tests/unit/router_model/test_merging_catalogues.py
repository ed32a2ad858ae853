"""`--model` and `--fleet demo` add to a catalogue; a pod keeps what it was rolled out with."""

import json

import pytest

from router_model.catalogue.loader import CatalogueRejected, dump_catalogue, load_catalogue
from router_model.catalogue.merge import with_demo_fleet, with_model, with_pinned
from router_model.catalogue.model import Catalogue, Service


@pytest.fixture
def catalogue() -> Catalogue:
    return load_catalogue("models: [{id: m, weights: {path: /m.gguf}}]\nservices: [{model: m}]")


def test_a_weights_file_becomes_a_llamacpp_service(catalogue: Catalogue) -> None:
    added = with_model(catalogue, "My/Own.1", "/w/own.gguf")
    service = added.service("my-own-1")
    assert service is not None
    assert service.backend.kind == "llamacpp"
    assert added.version != catalogue.version


def test_a_url_becomes_an_openai_service(catalogue: Catalogue) -> None:
    added = with_model(catalogue, "own", "http://127.0.0.1:8000/v1/")
    model = added.model("own")
    assert model is not None
    assert model.weights.url == "http://127.0.0.1:8000/v1"
    assert added.services_of("own")[0].backend.kind == "openai"


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("m", "/x.gguf"),
        ("x", "/x.bin"),
        ("x", "ftp://x"),
        ("auto", "/x.gguf"),
        ("x", "http://a:b@c"),
    ],
)
def test_an_impossible_addition_is_refused(catalogue: Catalogue, name: str, source: str) -> None:
    with pytest.raises(CatalogueRejected):
        with_model(catalogue, name, source)


def test_the_demo_fleet_is_simulated_and_one_model_a_tier(catalogue: Catalogue) -> None:
    fleet = with_demo_fleet(catalogue)
    added = fleet.models[len(catalogue.models) :]
    assert [model.tier for model in added] == ["L1", "L2", "L3"]
    assert all(model.simulated for model in added)
    prices = [
        service.price_per_hour_usd for model in added for service in fleet.services_of(model.id)
    ]
    assert prices == sorted(set(prices))


def test_a_merged_catalogue_survives_being_written(catalogue: Catalogue) -> None:
    fleet = with_model(with_demo_fleet(catalogue), "own", "/o.gguf")
    assert load_catalogue(dump_catalogue(fleet)) == fleet


def test_the_fleet_cannot_be_added_twice(catalogue: Catalogue) -> None:
    with pytest.raises(CatalogueRejected, match="there twice"):
        with_demo_fleet(with_demo_fleet(catalogue))


PINNED = json.dumps(
    {
        "model": {"id": "m", "weights": {"path": "/old.gguf"}},
        "service": {"model": "m", "backend": {"args": {"n": 1}}, "concurrency": 7},
        "cascades": {},
    }
)


def test_what_is_pinned_comes_before_the_catalogue_and_what_only_scales_is_the_catalogues() -> None:
    newer = load_catalogue(
        "models: [{id: m, weights: {path: /new.gguf}}]\n"
        "services: [{model: m, backend: {args: {n: 2}}, concurrency: 1, idle_s: 77, cold_start_s: 9}]"
    )
    found = with_pinned(newer, "m", PINNED)
    model, service = found.model("m"), found.service("m")
    assert model is not None
    assert service is not None
    assert (model.weights.path, service.backend.args, service.concurrency) == (
        "/old.gguf",
        {"n": 1},
        7,
    )
    assert (service.idle_s, service.cold_start_s) == (77, 9)
    assert len(found.models) == len(found.services) == 1


def test_what_the_pinned_service_leaves_to_its_default_is_not_taken_from_a_newer_catalogue() -> (
    None
):
    newer = load_catalogue(
        "models: [{id: m, weights: {path: /m.gguf}}]\n"
        "services: [{model: m, backend: {kind: vllm}, concurrency: 9, start_timeout_s: 7, idle_s: 77}]"
    )
    pinned = json.dumps({"model": {"id": "m"}, "service": {"model": "m"}})
    found = with_pinned(newer, "m", pinned).service("m")
    assert found is not None
    default = Service(model="m", slug="m", idle_s=77)
    assert found == default


def test_what_is_pinned_lives_on_where_the_catalogue_has_forgotten_it(
    catalogue: Catalogue,
) -> None:
    text = PINNED.replace('"m"', '"gone"')
    found = with_pinned(catalogue, "gone", text)
    service = found.service("gone")
    assert service is not None
    assert found.model(service.model) is not None
    assert found.service("m") == catalogue.service("m")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"model": {"id": "m"}, "service": {"model": 1}}',
        PINNED.replace("concurrency", "x"),
    ],
)
def test_what_cannot_be_pinned_is_refused_by_name(catalogue: Catalogue, text: str) -> None:
    with pytest.raises(CatalogueRejected, match="service m: as pinned"):
        with_pinned(catalogue, "m", text)
