"""JSON Schema of the catalogue, generated from its types; `schemas/catalogue.schema.json` is its checked-in copy.

The schema covers types and names for editors and Helm; ranges and references are the loader's.
"""

from typing import Any

import msgspec

from router_model.catalogue.model import Catalogue


def catalogue_schema() -> dict[str, Any]:
    """The schema of what a person writes: without the computed `version`."""
    schema = msgspec.json.schema(Catalogue)
    del schema["$defs"]["Catalogue"]["properties"]["version"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_text() -> str:
    """The checked-in file's exact text."""
    encoded = msgspec.json.encode(catalogue_schema())
    return msgspec.json.format(encoded, indent=2).decode() + "\n"
