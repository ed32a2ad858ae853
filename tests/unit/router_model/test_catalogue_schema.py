"""The checked-in JSON Schema is the types' own, and accepts what the loader accepts."""

from importlib import resources
from pathlib import Path

import jsonschema
import pytest
import yaml

from router_model.catalogue.schema import catalogue_schema, schema_text

ROOT = Path(__file__).parents[3]


def test_the_checked_in_schema_is_generated_from_the_types() -> None:
    found = resources.files("router_model.schemas").joinpath("catalogue.schema.json")
    # To renew: write router_model.catalogue.schema.schema_text() to that file.
    assert found.read_text("utf-8") == schema_text()


@pytest.mark.parametrize("path", ["functions/local/catalogue.yaml", "examples/catalogue.yaml"])
def test_our_catalogues_satisfy_the_schema(path: str) -> None:
    jsonschema.validate(yaml.safe_load((ROOT / path).read_text("utf-8")), catalogue_schema())


def test_unknown_keys_violate_the_schema() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"models": [], "services": [], "servces": []}, catalogue_schema())
