"""Which classifier routes: the one that is asked for, or the keyword rule, loudly."""

import logging

import pytest

from events.names import Operation
from functions import factories
from functions.factories import load_classifier
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import RouterSettings, Settings, load_settings
from functions.runtime.telemetry import Metrics
from router_model.classifier.features import PromptFeatures
from router_model.classifier.keyword_rules import KeywordClassifier
from router_model.classifier.weights import LINEAR, MANIFEST, NETWORK

ASKED = PromptFeatures(operation=Operation.CHAT, text="prove the sum", tokens=1, least_tokens=1)


def settings(classifier: str, weights: object) -> Settings:
    return Settings(router=RouterSettings(classifier=classifier, weights=str(weights)))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("linear", "linear"),
        ("transformer", "encoder"),
        ("hybrid", "encoder"),
        ("keyword", "keyword"),
    ],
)
def test_the_classifier_that_is_asked_for_decides(tiny, tmp_path, name, reason) -> None:
    found = factories.load_classifier(settings(name, tiny.write(tmp_path)), on_fallback=pytest.fail)
    assert found.classify(ASKED).reason == reason


def test_an_unknown_classifier_is_no_start(tmp_path) -> None:
    with pytest.raises(
        StartupFailed, match="'bert'; there are: keyword, linear, transformer, hybrid"
    ):
        factories.load_classifier(settings("bert", tmp_path))


def test_names_come_from_the_environment(tiny, tmp_path) -> None:
    environ = {
        "PICKSPIN_ROUTER_CLASSIFIER": "linear",
        "PICKSPIN_ROUTER_WEIGHTS": str(tiny.write(tmp_path)),
    }
    assert factories.load_classifier(load_settings(environ)).classify(ASKED).reason == "linear"


def test_a_directory_may_be_under_home(tiny, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    tiny.write(tmp_path / "mine")
    found = factories.load_classifier(settings("linear", "~/mine"), on_fallback=pytest.fail)
    assert found.classify(ASKED).reason == "linear"


def remove_everything(directory) -> None:
    for path in directory.iterdir():
        path.unlink()


def spoil_the_manifest(directory) -> None:
    (directory / MANIFEST).write_text("{")


def flip_a_bit(directory) -> None:
    raw = bytearray((directory / LINEAR).read_bytes())
    raw[len(raw) // 2] ^= 1
    (directory / LINEAR).write_bytes(raw)


def remove_the_network(directory) -> None:
    (directory / NETWORK).unlink()


@pytest.mark.parametrize(
    "damage", [remove_everything, spoil_the_manifest, flip_a_bit, remove_the_network]
)
def test_unusable_weights_leave_routing_to_the_rule_and_say_so(
    tiny, tmp_path, damage, caplog
) -> None:
    damage(tiny.write(tmp_path))
    metrics = Metrics()
    with caplog.at_level(logging.INFO):
        count = metrics.classifier_fallbacks.inc
        classifier = load_classifier(settings("hybrid", tmp_path), count)
    assert isinstance(classifier, KeywordClassifier)
    assert classifier.classify(ASKED).reason == "keyword"
    (record,) = caplog.records
    message = record.getMessage()
    assert record.levelno == logging.ERROR
    assert record.exc_info is None
    assert message.startswith("the keyword rule routes instead of hybrid: ")
    assert str(tmp_path) in message
    assert "\n" not in message
    assert metrics.registry.get_sample_value("pickspin_classifier_fallbacks_total") == 1.0


def test_usable_weights_are_no_fallback(tiny, tmp_path, caplog) -> None:
    metrics = Metrics()
    count = metrics.classifier_fallbacks.inc
    load_classifier(settings("hybrid", tiny.write(tmp_path)), count)
    assert not caplog.records
    assert metrics.registry.get_sample_value("pickspin_classifier_fallbacks_total") == 0.0


def test_linear_starts_without_a_network(tiny, tmp_path) -> None:
    remove_the_network(tiny.write(tmp_path))
    found = factories.load_classifier(settings("linear", tmp_path), on_fallback=pytest.fail)
    assert found.classify(ASKED).reason == "linear"
