"""Ties any program to the process that starts it, so that nothing is left behind however that one dies.

`python -m functions.local.parent_bound <parent pid> <signal number> <command...>` binds itself and then becomes the
command: the binding survives `exec`. The kernel watches the parent's *thread* that spawned the child, so supervisors
spawn from their main thread only.
"""

import os
import sys

from functions.runtime.shutdown import die_with_parent


def main(arguments: list[str]) -> None:
    """Binds and becomes `arguments[2:]`; never returns."""
    parent_pid, death_signal, command = int(arguments[0]), int(arguments[1]), arguments[2:]
    die_with_parent(parent_pid, death_signal)
    os.execvp(command[0], command)  # noqa: S606 - to become that program is the purpose; no shell wanted


if __name__ == "__main__":
    main(sys.argv[1:])
