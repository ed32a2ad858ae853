"""vLLM as a program of this machine: `python -m functions.backends.vllm_server --model DIR --port N ...`.

It becomes vLLM's own server (the process is replaced), with every argument that is not one of the two below. vLLM has
dependencies of its own, so that its interpreter may be another one.
"""

import argparse
import importlib.util
import os
import signal
import sys

from functions.runtime.shutdown import die_with_parent

SERVER = "vllm.entrypoints.openai.api_server"


def parse_flags(arguments: list[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """The program's own flags, and what is left for the server."""
    parser = argparse.ArgumentParser(
        prog="vllm-server", description="Serves with vLLM.", allow_abbrev=False
    )
    parser.add_argument("--python", default=sys.executable, help="interpreter that has vLLM")
    parser.add_argument("--parent", type=int, default=0, help="pid to die with")
    return parser.parse_known_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Becomes the server; returns 1 where that cannot be."""
    flags, rest = parse_flags(arguments)
    if flags.python == sys.executable and importlib.util.find_spec("vllm") is None:
        sys.stderr.write(
            "vLLM is missing: set PICKSPIN_WORKER_SERVER_PYTHON to the interpreter that has it\n"
        )
        return 1
    if flags.parent:
        # SIGTERM, not SIGKILL: the server has to end its engine process. The request survives the exec.
        die_with_parent(flags.parent, signal.SIGTERM)
    try:
        os.execv(flags.python, [flags.python, "-m", SERVER, *rest])  # noqa: S606 - no shell is wanted
    except OSError as error:
        sys.stderr.write(f"{flags.python} cannot be started: {error.strerror}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
