"""The last step of every catalogue, read or put together in code: slugs, checks, version."""

import hashlib
from typing import Final

import msgspec

from router_model.catalogue.model import Catalogue, Service
from router_model.catalogue.strict_yaml import Problem
from router_model.catalogue.validation import check, slug_of

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


def finish(catalogue: Catalogue) -> Catalogue:
    """A catalogue put together in code, checked like a file's, with slugs and version.

    Raises:
        CatalogueRejected: naming every problem.
    """
    filled = with_slugs(catalogue)
    problems = check(filled)
    if problems:
        raise CatalogueRejected(problems)
    return with_version(filled)


def with_slugs(catalogue: Catalogue) -> Catalogue:
    """Fills in empty slugs: `<model>` for a model's first service, `<model>--<backend kind>` for its others."""
    services: list[Service] = []
    for service in catalogue.services:
        slug = service.slug
        if not slug:
            is_first = all(service.model != earlier.model for earlier in services)
            name = slug_of(service.model)
            slug = name if is_first else f"{name}--{service.backend.kind}"
        services.append(msgspec.structs.replace(service, slug=slug))
    return msgspec.structs.replace(catalogue, services=tuple(services))


def with_version(catalogue: Catalogue) -> Catalogue:
    bare = msgspec.structs.replace(catalogue, version="")
    digest = hashlib.sha256(msgspec.json.encode(bare, order="deterministic")).hexdigest()
    return msgspec.structs.replace(catalogue, version=digest[:VERSION_CHARS])
