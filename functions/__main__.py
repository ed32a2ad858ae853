"""`python -m functions`: the CLI, with a short cut for the processes that a supervisor starts.

`python -m functions <process> --parent <pid>` skips the CLI's imports and dies with the process that started it.
"""

import os
import signal
import sys
from typing import Final

from functions.entry import PROCESSES, run_process
from functions.errors import StartupFailed
from functions.lifecycle import die_with_parent
from functions.settings import load_settings

_YIELDING: Final = frozenset({"recorder", "callbacks"})
"""No caller waits for these: on one machine they give way to the processes that one waits for."""
_NICE: Final = 10


def main(arguments: list[str]) -> int:
    """Runs a supervised process, or hands everything else to the CLI."""
    if len(arguments) == 3 and arguments[0] in PROCESSES and arguments[1] == "--parent":
        return _supervised(arguments[0], int(arguments[2]))
    from functions.cli import main as run_cli  # noqa: PLC0415 - typer is not needed by processes

    return run_cli(arguments)


def _supervised(verb: str, parent_pid: int) -> int:
    die_with_parent(parent_pid, signal.SIGKILL)
    if verb in _YIELDING:
        os.nice(_NICE)
    try:
        return run_process(verb, load_settings())
    except StartupFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
