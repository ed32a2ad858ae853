"""Where weights are fetched from: what `weights.source` may say. Pure; the fetching is the chart's.

Every replica of a model is to serve the same artefact, so a source is pinned: by revision or digest where it has
them, by the hash of the files (`weights.sha256`) where it has not.
"""

import re
from collections.abc import Iterator
from types import MappingProxyType
from typing import Final

from router_model.catalogue.model import Weights
from router_model.catalogue.strict_yaml import Problem

_FORMS: Final = MappingProxyType(
    {
        "hf": (
            re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}"),
            "hf://<owner>/<name>@<revision of 40 digits>",
        ),
        "oci": (re.compile(r"[\w.:/-]+@sha256:[0-9a-f]{64}"), "oci://<repository>@sha256:<digest>"),
        "s3": (re.compile(r"[a-z0-9.-]+(/[\w./-]+)?"), "s3://<bucket>/<prefix>"),
        "pvc": (re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(/[\w./-]+)?"), "pvc://<claim>/<path>"),
    }
)
_UNPINNED: Final = frozenset({"s3", "pvc"})


def check_source(path: str, weights: Weights) -> Iterator[Problem]:
    """Problems of `source` and of `file`, which only goes with it."""
    if weights.file is not None:
        if weights.source is None:
            yield Problem(f"{path}.file", "is a path inside weights.source, which is not given")
        elif weights.file.startswith("/") or ".." in weights.file.split("/") or not weights.file:
            yield Problem(f"{path}.file", "must be a path inside the source without '..'")
    if weights.source is None:
        return
    scheme, _, rest = weights.source.partition("://")
    form = _FORMS.get(scheme)
    if form is None:
        known = ", ".join(text for _, text in _FORMS.values())
        yield Problem(f"{path}.source", f"must be one of {known}")
    elif form[0].fullmatch(rest) is None or ".." in rest.split("/"):
        yield Problem(f"{path}.source", f"must be {form[1]}")
    elif scheme in _UNPINNED and weights.sha256 is None:
        yield Problem(f"{path}.sha256", f"is needed: nothing else pins what {scheme}:// holds")
