"""What `pickspin up` says once it is ready."""

from typing import Final

from functions.local.columns import pack_parts
from functions.local.readiness_probe import build_url
from functions.runtime.settings import IngressSettings
from router_model.catalogue.model import Catalogue

WIDTH: Final = 80
INDENT: Final = " " * len("  models  ")


def banner(
    *, catalogue: Catalogue, ingress: IngressSettings, broker: str, logs: str, ready_s: float
) -> str:
    """URL, broker, models (simulated ones marked), where logs lie, and a call to try."""
    url = build_url(ingress.host, ingress.port)
    key = ' -H "Authorization: Bearer $OPENAI_API_KEY"' if ingress.api_keys else ""
    lines = [
        "",
        f"Pick and Spin is ready at {url} (after {ready_s:.1f} s)",
        f"  broker  {broker}",
        *_models(catalogue),
        f"  logs    {logs}",
        "",
        "Try it:",
        f"  curl {url}/v1/chat/completions -H 'content-type: application/json'{key} \\",
        """    -d '{"model": "auto", "messages": [{"role": "user", "content": "Say hello."}]}'""",
        f"  curl {url}/v1/models{key}",
        "Models sleep until they are asked for. Stop with ctrl-C.",
        "",
    ]
    return "\n".join(lines)


def _models(catalogue: Catalogue) -> list[str]:
    """As many lines as they need: a terminal would break them within a name."""
    names = [
        f"{model.id} (simulated)" if model.simulated else model.id
        for model in catalogue.models
        if catalogue.services_of(model.id)
    ]
    listed = [f"{name}," for name in names[:-1]] + names[-1:]
    lines = list(pack_parts(listed, WIDTH, indent=INDENT, gap=" "))
    return [f"  models  {lines[0].lstrip()}", *lines[1:]]
