"""llama.cpp's OpenAI-compatible server as a program: `python -m functions.backends.llama_server --model PATH --port N`.

The server comes with the xllamacpp wheel and runs in this process; `/health` answers 503 until the model is loaded.
"""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, Final

from functions.runtime.shutdown import StopFlag, die_with_parent
from router_model.catalogue.backend_flags import LLAMACPP, Flag

BATCH_THREADS: Final = "cpuparams_batch.n_threads"
_MIN_BATCH: Final = 512
QUIET: Final = 1
"""llama.cpp's own log level."""


def parse_flags(arguments: list[str] | None = None) -> argparse.Namespace:
    """The program's flags."""
    parser = argparse.ArgumentParser(
        prog="llama-server", description="Serves one GGUF model.", allow_abbrev=False
    )
    parser.add_argument("--model", type=Path, required=True, help="GGUF file")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--context", type=int, default=2048, help="tokens of one request")
    parser.add_argument("--parallel", type=int, default=1, help="requests at once")
    for name, flag in LLAMACPP.items():
        if flag.field and name != "parallel":
            parser.add_argument(f"--{name}", dest=flag.field, **_options(flag))
    parser.add_argument("--parent", type=int, default=0, help="pid to die with")
    return parser.parse_args(arguments)


def _options(flag: Flag) -> dict[str, Any]:
    """How argparse takes an argument of llama.cpp; absent, its field is left as it is."""
    if flag.kind is bool:
        return {"action": "store_true", "default": None}
    return {"type": flag.kind, "default": None}


def count_threads(wanted: int) -> int:
    """Threads to compute with, `wanted` 0: all cores but one.

    llama.cpp's threads wait for each other many times a token: where one of them shares its core with anything else,
    all of them crawl (on two busy cores, two threads were seen ten times slower than one).
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, min(wanted or cores - 1, cores))


def configure(flags: argparse.Namespace, params: Any) -> Any:
    """Fills llama.cpp's parameters. Each of the parallel requests gets the whole context."""
    params.model.path = str(flags.model)
    params.hostnames = [flags.host]
    params.port = flags.port
    params.n_parallel = flags.parallel
    params.n_ctx = flags.context * flags.parallel
    params.n_gpu_layers = 0
    params.n_threads_http = flags.parallel + 2
    params.endpoint_metrics = True
    params.verbosity = QUIET
    params.cpuparams.n_threads = count_threads(0)
    params.cpuparams_batch.n_threads = count_threads(0)
    # The worker makes one real call before it takes work; a second warm-up here would only delay it.
    params.warmup = False
    if flags.embedding:
        params.n_batch = max(_MIN_BATCH, flags.context)
        params.n_ubatch = params.n_batch
    for field in {flag.field for flag in LLAMACPP.values() if flag.field}:
        value = getattr(flags, field, None)
        if value is not None:
            is_batch_named = getattr(flags, BATCH_THREADS, None) is not None
            _set(params, field, value, is_batch_named=is_batch_named)
    return params


def _set(params: Any, field: str, value: Any, *, is_batch_named: bool) -> None:
    """Sets a field of llama.cpp's parameters. Threads are those of a prompt too, unless these are named as well."""
    owner, _, name = field.rpartition(".")
    if owner:
        value = count_threads(value)
    if owner == "cpuparams" and not is_batch_named:
        params.cpuparams_batch.n_threads = value
    setattr(getattr(params, owner) if owner else params, name, value)


def main(arguments: list[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT."""
    flags = parse_flags(arguments)
    if flags.parent:
        die_with_parent(flags.parent, signal.SIGKILL)
    stop = StopFlag.install()
    try:
        import xllamacpp  # noqa: PLC0415 - only this program needs it
    except ImportError:
        sys.stderr.write("llama.cpp is missing: in a checkout, pip install '.[local]'\n")
        return 1
    servers: list[Any] = []

    def load() -> None:
        try:
            servers.append(xllamacpp.Server(configure(flags, xllamacpp.CommonParams())))
        except (RuntimeError, ValueError) as error:
            sys.stderr.write(f"the model cannot be served: {error}\n")
            stop.set()

    threading.Thread(target=load, daemon=True).start()
    stop.wait()
    return 0 if servers else 1


if __name__ == "__main__":
    # Not `sys.exit`: tearing the C++ server down joins threads that may still compute.
    status = main()
    sys.stderr.flush()
    os._exit(status)
