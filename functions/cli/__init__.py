"""`pickspin`: one command for every process, for asking a running ingress, and for looking at settings.

Errors are one line on standard error. Exit status: 0 done, 1 failed, 2 not understood, 130 interrupted.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from functions.cli.batch import batch
from functions.cli.catalogue import add_catalogue
from functions.cli.doctor import add_doctor
from functions.cli.extend import add_extend
from functions.cli.models import add_models
from functions.cli.outcomes import add_outcomes
from functions.cli.process_verbs import add_processes
from functions.cli.replay import replaying
from functions.cli.request import add_request
from functions.cli.route import routing
from functions.cli.settings import add_settings
from functions.cli.status import add_status
from functions.cli.train import add_train
from functions.cli.tune import add_tune
from functions.cli.up import add_up
from functions.cli.verb_groups import GroupedVerbs
from functions.cli.version import add_version, print_version
from functions.runtime.errors import PickspinError

USAGE: Final = 2
FAILED: Final = 1
INTERRUPTED: Final = 130
CLOSED: Final = "standard output is closed"
_USAGE_ERROR: Final[type[Any]] = typer.BadParameter.__mro__[1]
_CLICK_ERROR: Final[type[Any]] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="pickspin",
    help="Event-driven serverless inference: many models behind one OpenAI-compatible API.",
    epilog="Start with: pickspin up",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    cls=GroupedVerbs,
)


@app.callback(help=app.info.help, epilog=app.info.epilog)
def pickspin(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """What stands before every verb."""


add_up(app)
add_processes(app)
app.command()(batch)
add_models(app)
add_status(app)
add_request(app)
add_doctor(app)
routing(app)
add_catalogue(app)
add_settings(app)
add_version(app)
replaying(app)
add_outcomes(app)
add_tune(app)
add_train(app)
add_extend(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line (None: this process's) and returns its exit status. Never raises, never prints a trace."""
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if not all(_is_utf8(text) for text in given) or sys.stdout is None:
        return _complain(CLOSED if sys.stdout is None else "an argument is not UTF-8", USAGE)
    try:
        status = typer.main.get_command(app).main(given, "pickspin", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except _CLICK_ERROR as error:
        if isinstance(error, _USAGE_ERROR):
            verb = error.ctx.command_path if error.ctx else "pickspin"
            return _complain(f"{error.format_message()} ({verb} --help)", USAGE)
        return _complain(error.format_message(), FAILED)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except PickspinError as error:
        return _complain(str(error), FAILED)
    except (BrokenPipeError, SystemExit):
        # The command line library turns a closed pipe into an exit of its own.
        _abandon_stdout()
        return _complain(CLOSED, USAGE)
    except OSError as error:
        return _complain(str(error), FAILED)


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _complain(message: str, status: int) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"pickspin: {line}\n")
    return status


def _abandon_stdout() -> None:
    """Keeps the interpreter from complaining a second time when it flushes at exit."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
