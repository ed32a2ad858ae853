"""Verbs that need no ingress: settings, version; adds those of the catalogue."""

from importlib import metadata
from typing import Annotated, Any

import typer

from functions.cli.catalogue import add_catalogue_verbs
from functions.cli.output import AsJson, say_json, say_rows
from functions.runtime.settings import is_given, load_settings, mask_settings

PACKAGE = "pick-and-spin"


def explain(app: typer.Typer) -> None:
    """Adds the verbs that explain."""
    catalogue = typer.Typer(help="Work on a catalogue file.")
    catalogue.callback()(lambda: None)
    add_catalogue_verbs(catalogue)
    app.add_typer(catalogue, name="catalogue")
    app.command("settings", epilog="Example: PICKSPIN_IDLE_S=20 pickspin settings")(show_settings)
    app.command(epilog="Example: pickspin version --json")(version)


def show_settings(
    *,
    process: Annotated[
        bool, typer.Option("--process", help="As a single process would use them, not `up`.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the settings that `pickspin up` would use here.

    With the variables that set them; secrets are masked. Options of `up` come on top.
    """
    from functions.local.preflight import apply_up_defaults  # noqa: PLC0415 - only this verb needs it

    settings = load_settings()
    if not process:
        given = is_given("broker", "bootstrap")
        settings = apply_up_defaults(settings, is_bootstrap_given=given)
    tree = mask_settings(settings)
    if as_json:
        say_json(tree)
        return
    say_rows([(name, text) for name, text in _flatten(tree)])


def print_version(is_wanted: bool) -> None:  # noqa: FBT001 - the command line's own form
    """`pickspin --version`."""
    if is_wanted:
        version()
        raise typer.Exit


def version(*, as_json: AsJson = False) -> None:
    """Print the version."""
    found = metadata.version(PACKAGE)
    if as_json:
        say_json({"version": found})
    else:
        typer.echo(f"pickspin {found}")


def _flatten(tree: dict[str, Any]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for group, value in tree.items():
        if isinstance(value, dict):
            rows += [
                (f"PICKSPIN_{group}_{name}".upper(), _text(each)) for name, each in value.items()
            ]
        else:
            rows.append((f"PICKSPIN_{group}".upper(), _text(value)))
    return rows


def _text(value: Any) -> str:
    return "-" if value is None or value == "" else str(value)
