"""`pickspin version`, and `pickspin --version`."""

from importlib import metadata
from typing import Final

import typer

from functions.cli.output import AsJson, say_json

PACKAGE: Final = "pick-and-spin"


def add_version(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(epilog="Example: pickspin version --json")(version)


def print_version(is_wanted: bool) -> None:  # noqa: FBT001 - the command line's own form
    """`pickspin --version`."""
    if is_wanted:
        version()
        raise typer.Exit


def version(*, as_json: AsJson = False) -> None:
    """Print the version."""
    number = metadata.version(PACKAGE)
    if as_json:
        say_json({"version": number})
    else:
        typer.echo(f"pickspin {number}")
