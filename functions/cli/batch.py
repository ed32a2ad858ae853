"""`pickspin batch in.jsonl out.jsonl`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from functions.cli.output import AsJson, Key, Url, base_url, say_json

if TYPE_CHECKING:
    from functions.batch.main import Run, Summary


def batch(  # noqa: PLR0913 - each parameter is a word of the command line
    input_file: Annotated[Path, typer.Argument(help="Requests, one JSON object a line.")],
    output_file: Annotated[Path, typer.Argument(help="Results; a second run resumes from it.")],
    *,
    url: Url = None,
    key: Key = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Requests at once.")] = 8,
    model: Annotated[str | None, typer.Option(help="Use this model for every line.")] = None,
    errors: Annotated[
        Path | None,
        typer.Option(
            help="Failed lines; the next run tries them again. [default: OUT.errors.jsonl]"
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Run a file of requests through an ingress. Lines are OpenAI batch lines or bare request bodies.

    Exit status 1 when lines failed or a file or the ingress cannot be used, 2 for a wrong command line.
    """
    from functions.batch.main import Files, Run, Target  # noqa: PLC0415 - httpx is slow to import

    if "-" in {str(input_file), str(output_file)}:
        raise typer.BadParameter("files are needed: a run resumes from them, - cannot be resumed")
    failures = errors or output_file.with_suffix(".errors.jsonl")
    if len({path.resolve() for path in (input_file, output_file, failures)}) < 3:
        raise typer.BadParameter("input, output and errors must be three files")
    files = Files(input=input_file, output=output_file, errors=failures)
    if any(path.exists() and not path.is_file() for path in (output_file, failures)):
        raise typer.BadParameter("output and errors are replaced as a whole: name regular files")
    target = Target(url=base_url(url), key=key, concurrency=concurrency)
    run = Run(files, target, model=model)
    summary = _send(run, is_quiet=as_json)
    if as_json:
        say_json(asdict(summary))
    else:
        typer.echo(
            f"{summary.completed} completed, {summary.failed} failed, "
            f"{summary.skipped} done before, of {summary.total}"
        )
    return 1 if summary.failed else 0


def _send(run: "Run", *, is_quiet: bool) -> "Summary":
    """Sends under a progress bar on standard error, where that is a terminal."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = ("requests", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, disable=is_quiet or not console.is_terminal
    ) as progress:
        bar = progress.add_task("", total=len(run.asks), completed=run.skipped)
        return run.send(
            lambda ended: progress.update(bar, completed=ended),
            on_wait=lambda why: console.print(why, markup=False, highlight=False, soft_wrap=True),
        )
