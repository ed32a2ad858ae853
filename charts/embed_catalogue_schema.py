"""Embeds what the charts share: the catalogue's schema in the umbrella's values schema, its helpers in the sub-charts.

Run by `make schemas`; tests/chart fails when a copy is not in step. `--check` only compares.
"""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "router_model" / "schemas" / "catalogue.schema.json"
OWN = ROOT / "charts" / "pickspin" / "values.own.schema.json"
UMBRELLA = ROOT / "charts" / "pickspin" / "values.schema.json"
HELPERS = ROOT / "charts" / "pickspin" / "templates" / "_catalogue.tpl"
COPIES = tuple(ROOT / chart / "templates" / "_catalogue.tpl" for chart in ("knative", "keda"))


def values_schema() -> str:
    """The umbrella's schema: its own part with the catalogue's definitions beside it."""
    own: dict[str, Any] = json.loads(OWN.read_text(encoding="utf-8"))
    catalogue = json.loads(SOURCE.read_text(encoding="utf-8"))
    own["$defs"] = catalogue["$defs"]
    own["properties"]["global"]["properties"]["catalogue"] = {"$ref": catalogue["$ref"]}
    return json.dumps(own, indent=2, ensure_ascii=False) + "\n"


def wanted() -> dict[Path, str]:
    """Every generated file with its content."""
    helpers = HELPERS.read_text(encoding="utf-8")
    return {UMBRELLA: values_schema(), **dict.fromkeys(COPIES, helpers)}


def main(arguments: list[str]) -> int:
    """Writes what differs; with `--check` only names it and returns 1."""
    stale = {
        path: text
        for path, text in wanted().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    for path, text in stale.items():
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
