"""Text to `Catalogue`: strict YAML, typed, cross-checked, slugs derived, version computed; and back to text.

The same loader serves the local stack's file, the ConfigMap of a cluster and the tests. All problems are reported
together, each with its key path.
"""

import hashlib
from typing import Any, Final

import msgspec
import yaml

from router_model.catalogue.model import Catalogue, Service
from router_model.catalogue.strict_yaml import Problem, Reading, read_yaml
from router_model.catalogue.struct_validation import INVALID, check_tree
from router_model.catalogue.validation import check_catalogue, make_slug

VERSION_CHARS: Final = 12


class CatalogueRejected(Exception):
    """The catalogue has problems; `problems` lists every one found."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        super().__init__("\n".join(f"- {problem}" for problem in self.problems))

    def __str__(self) -> str:
        count = len(self.problems)
        listed = "\n".join(f"  - {problem}" for problem in self.problems)
        return f"{count} problem{'' if count == 1 else 's'}\n{listed}"


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
    catalogue = _with_slugs(found)
    problems += [
        _located(problem, reading)
        for problem in check_catalogue(catalogue, has_all_entries=not problems)
    ]
    if problems:
        raise CatalogueRejected(problems)
    return _with_version(catalogue)


def finish_catalogue(catalogue: Catalogue) -> Catalogue:
    """A catalogue put together in code, checked like a file's, with slugs and version.

    Raises:
        CatalogueRejected: naming every problem.
    """
    filled = _with_slugs(catalogue)
    problems = check_catalogue(filled)
    if problems:
        raise CatalogueRejected(problems)
    return _with_version(filled)


def dump_catalogue(catalogue: Catalogue) -> str:
    """YAML that `load_catalogue` reads back to an equal catalogue, version included."""
    tree = msgspec.to_builtins(catalogue)
    del tree["version"]
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def _located(problem: Problem, reading: Reading) -> Problem:
    """The problem of a checked entry with its place in the document: unusable entries before it were left out."""
    path = reading.locate(problem.path)
    return Problem(path, problem.message, reading.lines.get(path))


def _with_slugs(catalogue: Catalogue) -> Catalogue:
    """Fills in empty slugs: `<model>` for a model's first service, `<model>--<backend kind>` for its others."""
    services: list[Service] = []
    for service in catalogue.services:
        slug = service.slug
        if not slug:
            is_first = all(service.model != earlier.model for earlier in services)
            name = make_slug(service.model)
            slug = name if is_first else f"{name}--{service.backend.kind}"
        services.append(msgspec.structs.replace(service, slug=slug))
    return msgspec.structs.replace(catalogue, services=tuple(services))


def _with_version(catalogue: Catalogue) -> Catalogue:
    bare = msgspec.structs.replace(catalogue, version="")
    digest = hashlib.sha256(msgspec.json.encode(bare, order="deterministic")).hexdigest()
    return msgspec.structs.replace(catalogue, version=digest[:VERSION_CHARS])
