"""Embeds catalogue and settings in the values schema of the chart.

Run by `make schemas`; tests/chart fails when it is not in step. `--check` only compares.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

import msgspec

from functions.runtime.settings import SECRETS, Group, Settings, is_group

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "router_model" / "schemas" / "catalogue.schema.json"
OWN = ROOT / "charts" / "pickspin" / "values.own.schema.json"
UMBRELLA = ROOT / "charts" / "pickspin" / "values.schema.json"
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
JSON_TYPES: Final = {bool: "boolean", int: "integer", float: "number"}


def settings_schema() -> dict[str, Any]:
    """The settings that values may give: all but secrets and those that are the templates' own."""
    sources = [path for folder in TEMPLATES for path in sorted(folder.iterdir())]
    set_by_us = {
        name
        for path in sources
        for name in re.findall(r"PICKSPIN_[A-Z_]+", path.read_text(encoding="utf-8"))
    }
    taken = set_by_us | NOT_ON_A_CLUSTER
    free = {
        name: {"type": _json_type(kind)} for name, kind in _named(Settings) if name not in taken
    }
    return {"type": "object", "properties": free, "additionalProperties": False}


def _named(kind: type[Group], prefix: str = "PICKSPIN_") -> Iterator[tuple[str, Any]]:
    """Each setting that is no secret, with its type."""
    for field in msgspec.structs.fields(kind):
        name = f"{prefix}{field.name}".upper()
        if is_group(field.type):
            yield from _named(field.type, f"{name}_")
        elif field.name not in SECRETS:
            yield name, field.type


def _json_type(kind: Any) -> str:
    """What a value of that kind is in YAML; of several kinds (`int | None`) the first counts."""
    return JSON_TYPES.get((get_args(kind) or (kind,))[0], "string")


def values_schema() -> str:
    """The umbrella's schema: its own part with the catalogue's definitions and the settings beside it."""
    own: dict[str, Any] = json.loads(OWN.read_text(encoding="utf-8"))
    catalogue = json.loads(SOURCE.read_text(encoding="utf-8"))
    own["$defs"] = catalogue["$defs"]
    own["properties"]["global"]["properties"]["catalogue"] = {"$ref": catalogue["$ref"]}
    own["properties"]["global"]["properties"]["settings"] = settings_schema()
    return json.dumps(own, indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Writes the schema where it differs; with `--check` only says so and returns 1."""
    text = values_schema()
    if UMBRELLA.exists() and UMBRELLA.read_text(encoding="utf-8") == text:
        return 0
    print(UMBRELLA.relative_to(ROOT))
    if "--check" in arguments:
        return 1
    UMBRELLA.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
