"""The fixed suites: which models on which files, read from suites.json beside this module."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

FILE: Final = Path(__file__).with_name("suites.json")


class Published(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody else published on another split of the same questions."""

    router: str
    apgr: float
    cpt50: float
    cpt80: float


class Price(msgspec.Struct, frozen=True, array_like=True):
    """USD per million tokens, and whose list it is."""

    usd_in: float
    usd_out: float
    source: str


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One measurement. Models of a pair are (weak, strong); those of a pool stand by rising price.

    The primary metric is APGR of a pair, AIQ of a pool; `target` is what the project set itself for it, None: nothing.
    """

    name: str
    suite: str
    kind: Literal["pair", "pool"]
    sources: tuple[str, ...]
    models: Annotated[tuple[str, ...], msgspec.Meta(min_length=2)]
    target: float | None = None
    published: tuple[Published, ...] = ()


class Suites(msgspec.Struct, frozen=True):
    """`headlines` says which cases make a suite's verdict: their primary metric, the mean of several."""

    suites: Mapping[str, str]
    cases: tuple[Case, ...]
    headlines: Mapping[str, tuple[str, ...]]
    prices: Mapping[str, Price]


def load_suites(path: Path = FILE) -> Suites:
    tree: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    tree["prices"].pop("comment")
    return msgspec.convert(tree, Suites)
