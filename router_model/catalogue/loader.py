"""Text to `Catalogue`: strict YAML, typed, cross-checked, slugs derived, version computed; and back to text.

The same loader serves the local stack's file, the ConfigMap of a cluster and the tests. All problems are reported
together, each with its key path.
"""

import re
from typing import Any, Final

import msgspec
import yaml

from router_model.catalogue.finish import CatalogueRejected, finish, with_slugs, with_version
from router_model.catalogue.merge import with_demo_fleet, with_model, with_pinned
from router_model.catalogue.model import Catalogue
from router_model.catalogue.strict_yaml import Problem, Reading, read_yaml
from router_model.catalogue.struct_validation import INVALID, check_tree
from router_model.catalogue.validation import check, slug_of

__all__ = [
    "CatalogueRejected",
    "dump_catalogue",
    "finish",
    "load_catalogue",
    "slug_of",
    "with_demo_fleet",
    "with_model",
    "with_pinned",
]

_ENTRY: Final = re.compile(r"(models|services)\[(\d+)\](.*)")


def load_catalogue(text: str) -> Catalogue:
    """Parses and checks a catalogue; fills in slugs and `version`.

    Raises:
        CatalogueRejected: with every problem of syntax, type, range, reference and name.
    """
    reading = read_yaml(text)
    problems = list(reading.problems)
    if reading.tree is None:
        raise CatalogueRejected(problems or [Problem("", "is empty")])
    if isinstance(reading.tree, dict) and reading.tree.pop("version", None) is not None:
        problems.append(
            Problem(
                "version", "is computed from the content: remove it", reading.lines.get("version")
            )
        )
    found: Any = check_tree(reading, Catalogue, problems)
    if found is INVALID:
        raise CatalogueRejected(problems)
    catalogue = with_slugs(found)
    problems += [
        _located(problem, reading) for problem in check(catalogue, has_all_entries=not problems)
    ]
    if problems:
        raise CatalogueRejected(problems)
    return with_version(catalogue)


def _located(problem: Problem, reading: Reading) -> Problem:
    """The problem of a checked entry with its place in the document: unusable entries before it were left out."""
    found = _ENTRY.match(problem.path)
    path = problem.path
    if found is not None:
        name, index, rest = found.groups()
        path = f"{name}[{reading.kept[name][int(index)]}]{rest}"
    return Problem(path, problem.message, reading.lines.get(path))


def dump_catalogue(catalogue: Catalogue) -> str:
    """YAML that `load_catalogue` reads back to an equal catalogue, version included."""
    tree = msgspec.to_builtins(catalogue)
    del tree["version"]
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
