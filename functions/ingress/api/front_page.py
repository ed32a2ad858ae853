"""`GET /`: a page for people: what runs here, and what to try. HTML for browsers, else text.

Pure but for the route. With keys it shows nothing of the catalogue, because a browser sends none.
"""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from functions.ingress.api.models import show_models
from functions.ingress.api_keys import DEFAULT_TENANT
from functions.ingress.dependencies import Dependencies
from functions.ingress.endpoint import TEXT, Endpoint

HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}"
    "pre{background:#8882;padding:.8rem;overflow-x:auto}td,th{text-align:left;padding:0 1.5rem 0 0}"
)
_CHAT: Final = '{"model": "auto", "messages": [{"role": "user", "content": "Say hello."}]}'
_KINDS: Final = {"auto": "the best of all"}
_LINKS: Final = ("/v1/models", "/readyz", "/metrics", "/openapi.json")


async def show(deps: Dependencies, request: Request) -> Response:
    models = None if deps.keys else show_models(deps, DEFAULT_TENANT)
    is_ready = deps.health.is_ready()
    base = f"{request.url.scheme}://{request.url.netloc}"
    if "text/html" in request.headers.get("accept", ""):
        html = as_html(base, models, is_ready=is_ready)
        return Response(html, media_type="text/html; charset=utf-8", headers=HEADERS)
    return Response(as_text(base, models, is_ready=is_ready), media_type="text/plain")


def as_text(base: str, models: Sequence[Mapping[str, Any]] | None, *, is_ready: bool) -> str:
    """The page for a terminal."""
    lines = [f"Pick and Spin is {_state(is_ready=is_ready)}.", ""]
    lines += [f"  {name}  {state}" for name, state in _rows(models)] or [f"  {_hidden()}"]
    lines += ["", "Try it:", *(f"  {line}" for line in _calls(base, has_keys=models is None)), ""]
    return "\n".join(lines)


def as_html(base: str, models: Sequence[Mapping[str, Any]] | None, *, is_ready: bool) -> str:
    """The page for a browser. It has no script, and everything that is not ours is escaped."""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(state)}</td></tr>" for name, state in _rows(models)
    )
    table = f"<table><tr><th>Model</th><th>State</th></tr>{rows}</table>"
    calls = escape("\n".join(_calls(base, has_keys=models is None)))
    links = " · ".join(f'<a href="{path}">{path}</a>' for path in _LINKS)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Pick and Spin</title>'
        f"<style>{_STYLE}</style><h1>Pick and Spin</h1>"
        f"<p>Many models behind one OpenAI-compatible API. It is <b>{_state(is_ready=is_ready)}</b>.</p>"
        f"<h2>What runs</h2>{table if rows else f'<p>{escape(_hidden())}</p>'}"
        f"<h2>What to try</h2><pre>{calls}</pre><p>{links}</p></html>\n"
    )


def _rows(models: Sequence[Mapping[str, Any]] | None) -> Iterator[tuple[str, str]]:
    for model in models or ():
        about = model["pickspin"]
        kind = about.get("virtual") or ("simulated" if about.get("simulated") else "")
        name = f"{model['id']} ({_KINDS.get(kind, kind)})" if kind else str(model["id"])
        eta = about.get("eta_s")
        state = str(about.get("state"))
        yield name, state if not eta else f"{state}, ready {eta:.0f} s after it is asked for"


def _calls(base: str, *, has_keys: bool) -> Iterator[str]:
    key = ' -H "Authorization: Bearer $OPENAI_API_KEY"' if has_keys else ""
    yield f"curl {base}/v1/chat/completions{key} -H 'content-type: application/json' \\"
    yield f"  -d '{_CHAT}'"
    yield f"curl {base}/v1/models{key}"


def _state(*, is_ready: bool) -> str:
    return "ready" if is_ready else "not ready: /readyz says why"


def _hidden() -> str:
    return "Models are listed for those who have a key: GET /v1/models."


ENDPOINTS: Final = (
    Endpoint(
        "GET", "/", show, "What runs here and what to try, for a person.", gives="Text",
        gives_types=("text/html", TEXT), is_open=True
    ),
)  # fmt: skip
