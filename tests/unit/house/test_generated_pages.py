"""What is generated from the code is in step with it."""

import importlib.util
from pathlib import Path

import pytest

from router_model.catalogue import schema

ROOT = Path(__file__).parents[3]


def load_program(path):
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES = load_program("docs/generate_reference.py").pages()


@pytest.mark.parametrize("path", sorted(PAGES), ids=lambda path: path.name)
def test_a_reference_page_equals_the_code(path):
    assert path.read_text(encoding="utf-8") == PAGES[path], "run `make docs`"


def test_the_catalogues_schema_is_that_of_its_types():
    path = ROOT / "router_model/schemas/catalogue.schema.json"
    assert path.read_text(encoding="utf-8") == schema.schema_text(), "run `make schemas`"
