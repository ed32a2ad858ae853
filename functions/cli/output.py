"""How commands say what they found: as JSON when asked, else as text for a person."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from functions.local.columns import format_rows, make_columns, terminal_width
from functions.local.readiness_probe import build_url
from functions.runtime.settings import load_settings

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Url = Annotated[
    str | None, typer.Option(help="A running ingress. [default: http://127.0.0.1:$PICKSPIN_PORT]")
]
Key = Annotated[
    str | None,
    typer.Option(envvar="OPENAI_API_KEY", help="API key, where the ingress asks for one."),
]


def say_json(document: Any) -> None:
    """Prints one JSON document."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def say_rows(rows: Sequence[tuple[str, ...]]) -> None:
    """Prints columns padded to the widest cell; the last column is left as it is."""
    if not rows:
        return
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        typer.echo("  ".join([*cells, row[-1]]).rstrip())


def say_table(
    head: Sequence[str], rows: Sequence[tuple[str, ...]], *, numbers: Sequence[str] = ()
) -> None:
    """Prints a table where the terminal is wide enough for it, else a block for each row; nothing is cut."""
    for line in format_rows(make_columns(head, numbers=numbers), rows, terminal_width()):
        typer.echo(line)


def base_url(url: str | None) -> str:
    """The ingress to ask: the one named, else the one that the settings would start; without `/v1`."""
    if url is not None:
        if not url.startswith(("http://", "https://")) or not url.partition("://")[2].strip("/"):
            raise typer.BadParameter(f"{url!r} is not http://host:port", param_hint="--url")
        return url.rstrip("/").removesuffix("/v1")
    ingress = load_settings().ingress
    return build_url(ingress.host, ingress.port)
