"""Writes what the chart takes from the code: the schema of its values, and `_generated.tpl`.

`make schemas` runs it; tests/chart fails when a file is not in step. `--check` only compares.
"""

import json
import os.path
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

import msgspec

from events.names import SERVICE_TOPICS, SHARED_TOPICS, Topic, Topics
from functions.runtime.settings import SECRETS, Group, Settings, is_group
from router_model.catalogue.merge import ONLY_SCALES
from router_model.catalogue.model import RESERVED_SLUGS

ROOT = Path(__file__).parent.parent
CATALOGUE = ROOT / "router_model" / "schemas" / "catalogue.schema.json"
OWN = ROOT / "charts" / "pickspin" / "values.own.schema.json"
SCHEMA = ROOT / "charts" / "pickspin" / "values.schema.json"
PARTS = ROOT / "charts" / "pickspin" / "templates" / "_generated.tpl"
TEMPLATES = tuple(ROOT / chart / "templates" for chart in ("charts/pickspin", "knative", "keda"))
NOT_ON_A_CLUSTER: Final = frozenset(
    f"PICKSPIN_{name}"
    for name in (
        "BROKER_PARTITIONS",
        "CONTROLLER_IDENTITY",
        "CONTROLLER_KUBECONFIG",
        "BROKER_REACH_S",
        "CONTROLLER_PORT",
        "INGRESS_EMBEDDED_PARTITION_BYTES",
        "SCALER_PORT",
        "SCALER_PROBE_PORT",
        "STORE_BOOT_ID",
        "WORKER_SERVER_PYTHON",
    )
)
"""The templates count on their defaults, or only one machine has a use for them."""
PREFIX: Final = "{prefix}"
SLUG: Final = "{slug}"
JSON_TYPES: Final = {bool: "boolean", int: "integer", float: "number"}


def build_settings_schema() -> dict[str, Any]:
    """The settings that values may give: all but secrets and those that are the templates' own."""
    sources = [path for folder in TEMPLATES for path in sorted(folder.iterdir())]
    set_by_us = {
        name
        for path in sources
        for name in re.findall(r"PICKSPIN_[A-Z_]+", path.read_text(encoding="utf-8"))
    }
    taken = set_by_us | NOT_ON_A_CLUSTER
    free = {
        name: {"type": _get_json_type(kind)}
        for name, kind in _list_settings(Settings)
        if name not in taken
    }
    return {"type": "object", "properties": free, "additionalProperties": False}


def _list_settings(kind: type[Group], prefix: str = "PICKSPIN_") -> Iterator[tuple[str, Any]]:
    """Each setting that is no secret, with its type."""
    for field in msgspec.structs.fields(kind):
        name = f"{prefix}{field.name}".upper()
        if is_group(field.type):
            yield from _list_settings(field.type, f"{name}_")
        elif field.name not in SECRETS:
            yield name, field.type


def _get_json_type(kind: Any) -> str:
    """What a value of that kind is in YAML; of several kinds (`int | None`) the first counts."""
    return JSON_TYPES.get((get_args(kind) or (kind,))[0], "string")


def build_values_schema() -> str:
    """The chart's own part with the catalogue's definitions, the settings and the topics."""
    own: dict[str, Any] = json.loads(OWN.read_text(encoding="utf-8"))
    catalogue = json.loads(CATALOGUE.read_text(encoding="utf-8"))
    own["$defs"] = catalogue["$defs"]
    values = own["properties"]["global"]["properties"]
    values["catalogue"] = {"$ref": catalogue["$ref"]}
    values["settings"] = build_settings_schema()
    values["kafka"]["properties"]["partitions"] = build_partitions_schema()
    return json.dumps(own, indent=2, ensure_ascii=False) + "\n"


def build_partitions_schema() -> dict[str, Any]:
    """Partitions of each shared topic; `retry` is from releases that had such topics, and is not read."""
    count = {"type": "integer", "minimum": 1}
    properties: dict[str, Any] = {get_key(topic): count for topic in SHARED_TOPICS}
    properties["retry"] = {**count, "deprecated": True}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def get_key(topic: Topic) -> str:
    """What values call a shared topic: `requests` for `infer.requests`."""
    return topic.name.rpartition(".")[2]


def list_wire_names() -> dict[str, Any]:
    """Topics and consumer groups; `{prefix}` and `{slug}` stand for what the chart fills in."""
    topics = Topics(PREFIX)
    groups = {
        "router": topics.router_group,
        "recorder": topics.recorder_group,
        "callbacks": topics.callbacks_group,
    }
    every_topic = [PREFIX + topic.name for topic in (*SHARED_TOPICS, *SERVICE_TOPICS)]
    every_group = [*groups.values(), topics.worker_group(SLUG), topics.scaler_group]
    return {
        "topics": {get_key(topic): describe_topic(topic) for topic in SHARED_TOPICS},
        "serviceTopics": [describe_topic(topic) for topic in SERVICE_TOPICS],
        "groups": groups,
        "serviceGroup": topics.worker_group(SLUG),
        "topicStart": os.path.commonprefix(every_topic),  # noqa: RUF071 - no paths
        "groupStart": os.path.commonprefix(every_group),  # noqa: RUF071 - no paths
    }


def describe_topic(topic: Topic) -> dict[str, Any]:
    """As keda/files/prepare_log.py takes it, without partitions."""
    name = PREFIX + topic.name
    if topic.is_compacted:
        return {"name": name, "compacted": True}
    return {"name": name, "retention_s": topic.retention_s}


def list_catalogue_defaults() -> dict[str, Any]:
    """What a model and a service have where the catalogue says nothing; in Helm, absent is empty."""
    definitions = json.loads(CATALOGUE.read_text(encoding="utf-8"))["$defs"]
    return {
        name: {
            field: default
            for field, schema in definitions[name]["properties"].items()
            if (default := schema.get("default")) and not isinstance(default, dict)
        }
        for name in ("Model", "Service")
    }


def build_templates() -> str:
    """The named templates, each with one value as JSON."""
    parts = {
        "wireNames": ("Topics and consumer groups (events/names.py).", list_wire_names()),
        "catalogueDefaults": (
            "Fields of a catalogue's entries that are not given (router_model/catalogue/model.py).",
            list_catalogue_defaults(),
        ),
        "onlyScales": (
            "Fields of a service for which no pod starts anew (router_model/catalogue/merge.py).",
            sorted(ONLY_SCALES),
        ),
        "reservedSlugs": (
            "Slugs no service may have (router_model/catalogue/model.py).",
            sorted(RESERVED_SLUGS),
        ),
    }
    text = "{{/* Written by `make schemas` (charts/generate.py): do not edit. */}}\n"
    for name, (comment, value) in parts.items():
        text += f'\n{{{{/* {comment} */}}}}\n{{{{- define "pickspin.{name}" -}}}}\n'
        text += json.dumps(value, indent=2) + "\n{{- end -}}\n"
    return text


def generate() -> dict[Path, str]:
    """Every generated file with its content."""
    return {SCHEMA: build_values_schema(), PARTS: build_templates()}


def main(arguments: list[str]) -> int:
    """Writes what differs; with `--check` only names it and returns 1."""
    stale = {
        path: text
        for path, text in generate().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    for path, text in stale.items():
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
