"""A pitfall to look for, and a finding of it: what is wrong with which object, and what to do."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from functions.doctor.snapshot import ClusterSnapshot

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`where` is `Kind name` or a setting of the cluster; `fix` is one sentence."""

    severity: Severity
    where: str
    what: str
    fix: str


Look = Callable[[ClusterSnapshot], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Pitfall:
    """One numbered pitfall. `needs_log`: it can only be looked for where the log was read."""

    number: int
    name: str
    look: Look
    needs_log: bool = False
