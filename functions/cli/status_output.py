"""The table of `pickspin status`: services of a cluster, or of a local stack, with why they do not scale."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from functions.cli.output import say_table

if TYPE_CHECKING:
    from functions.doctor.service_status import ServiceStatus
    from functions.doctor.snapshot import ClusterSnapshot

COLUMNS: Final = ("service", "state", "replicas", "revisions", "lag", "gpu", "usd/h", "why not")
Row = tuple[str, ...]


def build_cluster_rows(services: Iterable["ServiceStatus"]) -> list[Row]:
    """One row a service. Pure."""
    return [
        (
            each.slug,
            each.state,
            f"{each.ready}/{each.desired}" + ("" if each.most is None else f" of {each.most}"),
            _revisions(each),
            "-" if each.lag is None else f"{each.lag:g}",
            ", ".join(f"{count} {name}" for name, count in sorted(each.gpus.items())) or "-",
            "-" if each.usd_per_hour is None else f"{each.usd_per_hour:.2f}",
            "; ".join(each.reasons),
        )
        for each in services
    ]


def build_local_rows(models: Iterable[Mapping[str, Any]]) -> list[Row]:
    """The same from what an ingress lists of its models. Pure."""
    rows: list[Row] = []
    for model in models:
        shown = model.get("pickspin", {})
        for each in shown.get("services", ()):
            name = str(each.get("service", model.get("id")))
            ready, desired = each.get("ready", 0), each.get("desired")
            rows.append(
                (
                    f"{name} (simulated)" if shown.get("simulated") else name,
                    _state(each),
                    f"{ready}/{ready if desired is None else desired}"
                    + (f" of {each['max_replicas']}" if "max_replicas" in each else ""),
                    "-",
                    str(each.get("lag", "-")),
                    _share(each),
                    _price(each),
                    str(each.get("message") or ""),
                )
            )
    return rows


def _state(service: Mapping[str, Any]) -> str:
    """The state, and the breaker where it is not closed."""
    state, breaker = str(service.get("state", "-")), service.get("breaker", "closed")
    return state if breaker == "closed" else f"{state}, breaker {str(breaker).replace('_', ' ')}"


def as_plain(snapshot: "ClusterSnapshot", services: Iterable["ServiceStatus"]) -> dict[str, Any]:
    """The cluster's table as JSON."""
    return {
        "namespace": snapshot.namespace,
        "at": snapshot.taken_at.isoformat(),
        "services": [dataclasses.asdict(each) for each in services],
        "missing": sorted(snapshot.missing),
        "unread": dict(snapshot.unread),
    }


def print_rows(rows: Iterable[Row]) -> None:
    """Prints the table; nothing is cut."""
    say_table(COLUMNS, list(rows), numbers=("replicas", "lag", "usd/h"))


def _revisions(status: "ServiceStatus") -> str:
    """The current one's name, and how many superseded ones there are and still run."""
    current = [each for each in status.generations if not each.is_old]
    old = [each for each in status.generations if each.is_old]
    named = ", ".join(each.name for each in current) or "-"
    if not old:
        return named
    running = sum(each.desired > 0 for each in old)
    return f"{named} (+{len(old)} old, {running} running)"


def _share(service: Mapping[str, Any]) -> str:
    kind, share = service.get("gpu", "none"), service.get("gpu_share", 0)
    return "-" if kind == "none" else f"{share:g} {kind}"


def _price(service: Mapping[str, Any]) -> str:
    price = service.get("price_per_hour_usd")
    return "-" if price is None else f"{price * service.get('ready', 0):.2f}"
