"""`pickspin settings`: the settings in force here."""

from typing import Annotated, Any

import typer

from functions.cli.output import AsJson, say_json, say_rows
from functions.runtime.settings import is_given, load_settings, mask_settings


def add_settings(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command("settings", epilog="Example: PICKSPIN_IDLE_S=20 pickspin settings")(show_settings)


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
