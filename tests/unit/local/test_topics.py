"""Which topics an installation has."""

import msgspec

from functions.local.required_topics import topic_specs
from functions.runtime.settings import BrokerSettings, Settings
from router_model.catalogue.model import Catalogue, Model, Service

CATALOGUE = Catalogue(
    models=(Model(id="Tiny"),), services=(Service(model="Tiny", slug="tiny", enabled=False),)
)


def test_every_shared_topic_and_two_a_service_even_a_disabled_one() -> None:
    names = [spec.name for spec in topic_specs(Settings(), CATALOGUE)]

    assert names == [
        "infer.requests",
        "infer.progress",
        "infer.replies",
        "infer.responses",
        "infer.status",
        "infer.control",
        "infer.dlq",
        "infer.model.tiny",
        "infer.model.tiny.batch",
    ]


def test_names_carry_the_prefix_and_sizes_come_from_settings() -> None:
    settings = Settings(broker=BrokerSettings(prefix="t1.", partitions=2, reply_partitions=7))
    specs = {spec.name: spec for spec in topic_specs(settings, CATALOGUE)}

    assert specs["t1.infer.requests"].partitions == 2
    assert specs["t1.infer.replies"].partitions == 7
    assert specs["t1.infer.control"].partitions == 1
    assert specs["t1.infer.model.tiny.batch"].partitions == 2


def test_a_cancel_is_kept_as_long_as_the_lines_of_a_batch_may_wait() -> None:
    specs = {spec.name: spec for spec in topic_specs(Settings(), CATALOGUE)}

    assert specs["infer.control"].retention_s == 24 * 3600
    assert all((spec.retention_s is None) == spec.compacted for spec in specs.values())


def test_only_the_registry_is_compacted() -> None:
    compacted = [spec.name for spec in topic_specs(Settings(), CATALOGUE) if spec.compacted]

    assert compacted == ["infer.status"]


def test_an_empty_catalogue_has_the_shared_topics_alone() -> None:
    empty = msgspec.structs.replace(CATALOGUE, services=())

    assert len(topic_specs(Settings(), empty)) == 7
