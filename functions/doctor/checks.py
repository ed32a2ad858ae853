"""The numbered pitfalls, and `examine`, which looks for all of them."""

from typing import Final

from functions.doctor import installation_checks as installation
from functions.doctor import scaling_checks as scaling
from functions.doctor import serving_checks as serving
from functions.doctor.findings import Finding, Pitfall
from functions.doctor.snapshot import ClusterSnapshot

CHECKS: Final = (
    Pitfall(1, "two bridges for one class", serving.find_two_bridges),
    Pitfall(2, "two ScaledObjects on one target", scaling.find_two_scaled_objects),
    Pitfall(3, "first pod killed while it loads", serving.find_killed_first_boots),
    Pitfall(4, "offsets missing", scaling.find_offset_gaps, needs_log=True),
    Pitfall(5, "offsets expire before records", scaling.find_expiring_offsets, needs_log=True),
    Pitfall(6, "reset to latest", scaling.find_reset_to_latest),
    Pitfall(7, "more replicas than partitions", scaling.find_idle_replicas, needs_log=True),
    Pitfall(8, "superseded revisions serve", serving.find_superseded_revisions),
    Pitfall(9, "superseded revisions are kept", serving.find_kept_revisions),
    Pitfall(10, "feature flags off", serving.find_missing_flags),
    Pitfall(11, "progress deadline below the cold start", serving.find_short_deadlines),
    Pitfall(12, "timeout beyond the cluster's", serving.find_refused_timeouts),
    Pitfall(13, "protocol version too old", scaling.find_old_protocol),
    Pitfall(14, "HTTP wake without metrics", serving.find_wake_without_metrics),
    Pitfall(15, "source gives up too early", scaling.find_short_retries),
    Pitfall(16, "kinds missing", installation.find_missing_kinds),
    Pitfall(17, "SQLite with several pods", installation.find_shared_sqlite),
    Pitfall(18, "clocks disagree", installation.find_wrong_clocks),
    Pitfall(19, "scale-in meets sleep", scaling.find_late_scale_in),
    Pitfall(20, "pushes dropped", scaling.find_dropped_pushes),
)


def examine(snapshot: ClusterSnapshot) -> tuple[tuple[Pitfall, tuple[Finding, ...]], ...]:
    """Every check that could be made, in order, with what it found (nothing: all is well)."""
    return tuple(
        (check, tuple(check.look(snapshot)))
        for check in CHECKS
        if snapshot.log is not None or not check.needs_log
    )
