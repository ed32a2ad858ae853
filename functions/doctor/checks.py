"""The numbered checks: fifteen pitfalls of the platform, three preconditions, and two pitfalls met since."""

from typing import Final

from functions.doctor import installation_checks as installation
from functions.doctor import scaling_checks as scaling
from functions.doctor import serving_checks as serving
from functions.doctor.findings import Finding, Pitfall
from functions.doctor.snapshot import ClusterSnapshot

CHECKS: Final = (
    Pitfall(1, "two bridges for one class", serving.two_bridges),
    Pitfall(2, "two ScaledObjects on one target", scaling.two_scaled_objects),
    Pitfall(3, "first pod killed while it loads", serving.first_boot),
    Pitfall(4, "offsets missing", scaling.offsets_are_missing, needs_log=True),
    Pitfall(5, "offsets expire before records", scaling.offsets_expire, needs_log=True),
    Pitfall(6, "reset to latest", scaling.latest_skips),
    Pitfall(7, "more replicas than partitions", scaling.replicas_without_partition, needs_log=True),
    Pitfall(8, "superseded revisions serve", serving.old_revisions_serve),
    Pitfall(9, "superseded revisions are kept", serving.revisions_are_kept),
    Pitfall(10, "feature flags off", serving.flags_are_off),
    Pitfall(11, "progress deadline below the cold start", serving.deadline_is_short),
    Pitfall(12, "timeout beyond the cluster's", serving.timeout_is_refused),
    Pitfall(13, "protocol version too old", scaling.old_protocol),
    Pitfall(14, "HTTP wake without metrics", serving.wake_has_no_metrics),
    Pitfall(15, "source gives up too early", scaling.source_gives_up),
    Pitfall(16, "kinds missing", installation.kinds_are_missing),
    Pitfall(17, "SQLite with several pods", installation.sqlite_is_shared),
    Pitfall(18, "clocks disagree", installation.clocks_disagree),
    Pitfall(19, "scale-in meets sleep", scaling.scale_in_meets_sleep),
    Pitfall(20, "pushes dropped", scaling.pushes_are_dropped),
)


def examine(snapshot: ClusterSnapshot) -> tuple[tuple[Pitfall, tuple[Finding, ...]], ...]:
    """Every check that could be made, in order, with what it found (nothing: all is well)."""
    return tuple(
        (check, tuple(check.look(snapshot)))
        for check in CHECKS
        if snapshot.log is not None or not check.needs_log
    )
