"""`pickspin`, `python -m functions`: the CLI, with a short cut for processes.

`pickspin <process>` skips the CLI's imports: they are a fifth of a worker's cold start. With `--parent <pid>` it also
dies with the process that started it.
"""

import os
import signal
import sys
from typing import Final

from functions.processes import PROCESSES, run_process
from functions.runtime.errors import PickspinError
from functions.runtime.settings import load_settings
from functions.runtime.shutdown import die_with_parent

_YIELDING: Final = frozenset({"recorder", "callbacks"})
"""No caller waits for these: on one machine they give way to the processes that one waits for."""
_NICE: Final = 10
_INTERRUPTED: Final = 130


def console() -> int:
    """The program `pickspin`."""
    return main(sys.argv[1:])


def main(arguments: list[str]) -> int:
    """Runs a process, or hands everything else to the CLI; returns the exit status."""
    if len(arguments) == 3 and arguments[0] in PROCESSES and arguments[1] == "--parent":
        return _supervised(arguments[0], int(arguments[2]))
    if len(arguments) == 1 and arguments[0] in PROCESSES:
        return _process(arguments[0])
    from functions.cli import main as run_cli  # noqa: PLC0415 - typer is not needed by processes

    return run_cli(arguments)


def _supervised(verb: str, parent_pid: int) -> int:
    die_with_parent(parent_pid, signal.SIGKILL)
    if verb in _YIELDING:
        os.nice(_NICE)
    return _process(verb)


def _process(verb: str) -> int:
    """What the CLI does for a process, its errors in one line included."""
    try:
        return run_process(verb, load_settings())
    except (PickspinError, OSError) as error:
        sys.stderr.write(f"pickspin: {' '.join(str(error).split())}\n")
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
