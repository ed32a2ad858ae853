"""`pickspin doctor`: the known pitfalls of the platform, looked for on this machine or on a live cluster, each with its
fix.
"""

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from functions.cli.cluster_options import Bootstrap, Kubeconfig, Namespace, read_cluster
from functions.cli.output import AsJson, say_json

if TYPE_CHECKING:
    from functions.doctor.findings import Finding, Pitfall
    from functions.doctor.snapshot import ClusterSnapshot

EXAMPLES: Final = """\b
Examples:
  pickspin doctor
  pickspin doctor --cluster
  pickspin doctor --cluster -n models --bootstrap kafka.example.com:9092
  pickspin doctor --cluster --json

Exit status 1 when there is an error, 0 when there are warnings at most.
"""


def add_doctor(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(epilog=EXAMPLES)(doctor)


def doctor(
    *,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Look at a Kubernetes cluster.")
    ] = False,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = "",
    bootstrap: Bootstrap = "",
    as_json: AsJson = False,
) -> int:
    """Look for what stands in the way, and say what to do about it.

    Of the local stack; with --cluster, of Knative, KEDA and Kafka. Only reads. Without --bootstrap nothing is asked of
    Kafka, and the checks that need it are left out.
    """
    from functions.doctor.checks import examine  # noqa: PLC0415 - not needed by other verbs

    if not cluster:
        return _examine_local(as_json=as_json)
    snapshot = read_cluster(namespace, kubeconfig, bootstrap)
    results = examine(snapshot)
    if as_json:
        say_json(as_plain(snapshot, results))
    else:
        for line in format_report(snapshot, results):
            typer.echo(line)
    return int(
        any(finding.severity == "error" for _, all_found in results for finding in all_found)
    )


def _examine_local(*, as_json: bool) -> int:
    from functions.cli.ingress_client import call_ingress  # noqa: PLC0415 - as above
    from functions.doctor.local_checks import examine_local  # noqa: PLC0415
    from functions.runtime.settings import load_settings  # noqa: PLC0415

    results = examine_local(load_settings(), lambda path: call_ingress("GET", path, None, None))
    if as_json:
        shown = [
            {"name": name, "findings": [dataclasses.asdict(each) for each in findings]}
            for name, findings in results
        ]
        say_json({"checks": shown})
    else:
        for name, findings in results:
            for line in _check_lines(name, findings):
                typer.echo(line)
    return int(any(_is_bad(findings) for _, findings in results))


def _check_lines(name: str, findings: Iterable["Finding"]) -> Iterable[str]:
    findings = list(findings)
    mark = "ok" if not findings else "error" if _is_bad(findings) else "warning"
    yield f"{mark:<8} {name}"
    for each in findings:
        yield f"         {each.where}: {each.what}"
        yield f"         fix: {each.fix}"


Results = Iterable[tuple["Pitfall", tuple["Finding", ...]]]


def as_plain(snapshot: "ClusterSnapshot", results: Results) -> dict[str, Any]:
    """The report as JSON."""
    results = list(results)
    return {
        "namespace": snapshot.namespace,
        "at": snapshot.taken_at.isoformat(),
        "checks": [
            {
                "number": check.number,
                "name": check.name,
                "findings": [
                    {
                        "severity": each.severity,
                        "where": each.where,
                        "what": each.what,
                        "fix": each.fix,
                    }
                    for each in findings
                ],
            }
            for check, findings in results
        ],
        "left_out": _count_left_out(results),
        "unread": dict(snapshot.unread),
    }


def format_report(snapshot: "ClusterSnapshot", results: Results) -> Iterable[str]:
    """The report as text: one line a check, and for each finding what is wrong and what to do."""
    results = list(results)
    for check, findings in results:
        head, *rest = _check_lines(check.name, findings)
        yield f"{check.number:>2}  {head}"
        yield from (f"    {line}" for line in rest)
    left_out = _count_left_out(results)
    if left_out:
        numbers = ", ".join(map(str, left_out))
        yield f"left out: {numbers} (they need the brokers: --bootstrap host:port)"
    for kind, reason in sorted(snapshot.unread.items()):
        yield f"not read: {kind} ({reason}); checks that need it saw nothing"
    count = sum(len(findings) for _, findings in results)
    yield f"namespace {snapshot.namespace}: {len(results)} checks, {count} findings"


def _is_bad(findings: Iterable["Finding"]) -> bool:
    return any(each.severity == "error" for each in findings)


def _count_left_out(results: Results) -> list[int]:
    from functions.doctor.checks import CHECKS  # noqa: PLC0415

    made = {check.number for check, _ in results}
    return [check.number for check in CHECKS if check.number not in made]
