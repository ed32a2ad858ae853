"""Writes the reference pages that are tables of the code: settings and error codes. Run by `make docs`."""

import inspect
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from functions import settings as module
from functions.errors import CODES
from functions.settings import SECRETS, SHORT_NAMES, Settings, is_group

REFERENCE = Path(__file__).parent / "reference"
SETTINGS_PROSE = """# Settings

Every process reads its settings from the environment, once, at start. A name is
`PICKSPIN_<GROUP>_<FIELD>`; a few everyday ones have a short name as well. All problems are
reported together before anything starts, and an unknown `PICKSPIN_` variable is an error: a typo
never passes silently. (What Kubernetes injects for Services whose names begin with `pickspin` is not
ours, and passed over.) No number may be negative.
On Kubernetes they are `global.settings` of the charts, but for those that the templates set themselves.
Durations are in seconds unless the name says otherwise.
"""
ERRORS_PROSE = """# Error codes

Every refusal and every failed reply has the shape of an OpenAI error: `error.message`,
`error.type`, `error.code`, `error.param`, and beside them `error.src` (`gateway` or `model`: who
spoke) and `error.request_id`. Behind every door the same code means the same. Messages never
contain prompt text, bodies of a model server, host names or keys.

`x-should-retry` tells the official clients whether to try again; where the table has a dash, they
decide by status.
"""
ERRORS_END = """
`deadline_exceeded` is the code of a request in state `expired`, `cancelled` of one in state
`cancelled`; every other code belongs to a refusal (nothing was accepted) or to a request in state
`failed`.
"""
NOTICE = "<!-- Written by `make docs` from {source}. Do not edit. -->\n"


def pages() -> dict[Path, str]:
    """Every generated page with its text."""
    return {REFERENCE / "settings.md": settings_page(), REFERENCE / "errors.md": errors_page()}


def notes(kind: type) -> dict[str, str]:
    """The string under each field, as one line."""
    found: dict[str, str] = {}
    pattern = re.compile(r'^    (\w+): [^\n]+\n    """(.+?)"""', re.MULTILINE | re.DOTALL)
    for name, text in pattern.findall(inspect.getsource(kind)):
        found[name] = " ".join(text.split())
    return found


def type_name(annotation: Any) -> str:
    """`str | None` and the like, without module names."""
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(f"`{part}`" for part in parts)
    if get_origin(annotation) is Annotated:
        return type_name(parts[0])
    if parts:
        return " or ".join("nothing" if part is type(None) else type_name(part) for part in parts)
    return str(annotation.__name__)


def shown(value: object) -> str:
    """A default as one would type it."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value}`"


def rows(kind: type, prefix: str) -> list[str]:
    """One table line for each field of a group."""
    short = {place: name for name, place in SHORT_NAMES.items()}
    texts = notes(kind)
    found = []
    for field in msgspec.structs.fields(kind):
        if is_group(field.type):
            continue
        name = f"PICKSPIN_{prefix}{field.name}".upper()
        alias = short.get((prefix.rstrip("_"), field.name))
        names = f"`{name}`" + (f", `{alias}`" if alias else "")
        secret = " Secret: never printed." if field.name in SECRETS else ""
        text = texts.get(field.name, "").replace("|", "\\|")
        found.append(
            f"| {names} | {type_name(field.type)} | {shown(field.default)} | {text}{secret} |"
        )
    return found


def settings_page() -> str:
    """Groups in the order of the code, one table each."""
    head = "| Variable | Type | Default | Meaning |\n| --- | --- | --- | --- |"
    out = [
        NOTICE.format(source="functions/settings.py"),
        SETTINGS_PROSE,
    ]
    for field in msgspec.structs.fields(Settings):
        kind = field.type
        if is_group(kind):
            doc = kind.__dict__.get("__doc__")
            out.append(f"## {field.name}\n")
            if doc:
                out.append(" ".join(doc.split()) + "\n")
            out.append("\n".join([head, *rows(kind, f"{field.name}_")]) + "\n")
    out.append("## Of every process\n")
    out.append("\n".join([head, *rows(Settings, "")]) + "\n")
    out.append(f"Read by `{module.__name__}.load_settings`.\n")
    return "\n".join(out)


def errors_page() -> str:
    """One line for each code."""
    out = [
        NOTICE.format(source="functions/errors.py"),
        ERRORS_PROSE,
        "| Code | HTTP | `type` | `x-should-retry` | `Retry-After` |",
        "| --- | --- | --- | --- | --- |",
    ]
    for code, row in CODES.items():
        retry = "-" if row.should_retry is None else f"`{str(row.should_retry).lower()}`"
        after = "-" if row.retry_after_s is None else f"{row.retry_after_s} s"
        out.append(f"| `{code}` | {row.status} | `{row.type}` | {retry} | {after} |")
    out.append(ERRORS_END)
    return "\n".join(out)


def main() -> int:
    """Writes every page that differs, and names it."""
    for path, text in pages().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
