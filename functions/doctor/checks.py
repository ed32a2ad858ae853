"""The numbered checks: fifteen pitfalls of the platform, three preconditions, and two pitfalls met since."""

from typing import Final

from functions.doctor import installation_checks as installation
from functions.doctor import scaling_checks as scaling
from functions.doctor import serving_checks as serving
from functions.doctor.findings import Check, Finding
from functions.doctor.snapshot import Snapshot

CHECKS: Final = (
    Check(1, "two bridges for one class", serving.two_bridges),
    Check(2, "two ScaledObjects on one target", scaling.two_scaled_objects),
    Check(3, "first pod killed while it loads", serving.first_boot),
    Check(4, "offsets missing", scaling.offsets_are_missing, needs_log=True),
    Check(5, "offsets expire before records", scaling.offsets_expire, needs_log=True),
    Check(6, "reset to latest", scaling.latest_skips),
    Check(7, "more replicas than partitions", scaling.replicas_without_partition, needs_log=True),
    Check(8, "superseded revisions serve", serving.old_revisions_serve),
    Check(9, "superseded revisions are kept", serving.revisions_are_kept),
    Check(10, "feature flags off", serving.flags_are_off),
    Check(11, "progress deadline below the cold start", serving.deadline_is_short),
    Check(12, "timeout beyond the cluster's", serving.timeout_is_refused),
    Check(13, "protocol version too old", scaling.old_protocol),
    Check(14, "HTTP wake without metrics", serving.wake_has_no_metrics),
    Check(15, "source gives up too early", scaling.source_gives_up),
    Check(16, "kinds missing", installation.kinds_are_missing),
    Check(17, "SQLite with several pods", installation.sqlite_is_shared),
    Check(18, "clocks disagree", installation.clocks_disagree),
    Check(19, "scale-in meets sleep", scaling.scale_in_meets_sleep),
    Check(20, "pushes dropped", scaling.pushes_are_dropped),
)


def examine(snapshot: Snapshot) -> tuple[tuple[Check, tuple[Finding, ...]], ...]:
    """Every check that could be made, in order, with what it found (nothing: all is well)."""
    return tuple(
        (check, tuple(check.look(snapshot)))
        for check in CHECKS
        if snapshot.log is not None or not check.needs_log
    )
