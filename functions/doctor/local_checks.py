"""`pickspin doctor` without a cluster: checks the local stack, stopped or running. Only reads."""

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from functions import factories
from functions.doctor.findings import Finding
from functions.local.preflight import LOCK_FILE, check_exposure, claim_port, find_lock_holder
from functions.local.settings_checks import check_settings
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import Settings
from router_model.catalogue.model import Catalogue

LEAST_PYTHON: Final = (3, 11)
LEAST_FREE_BYTES: Final = 1024**3
Ask = Callable[[str], Any]
"""What the local ingress answers to a GET of a path, as JSON. Raises PickspinError if none runs."""
Checked = tuple[str, tuple[Finding, ...]]


def examine_local(settings: Settings, ask: Ask) -> list[Checked]:
    """Every check with what it found, in the order in which a start would meet them."""
    holder = find_lock_holder(factories.data_path(settings) / LOCK_FILE)
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("this machine", _check_machine),
        ("settings", lambda: _check_settings(settings)),
        ("data directory", lambda: _check_directory(settings)),
        ("catalogue and weights", lambda: _check_catalogue(settings)),
    ]
    if holder is None:
        checks.append(("port", lambda: _check_port(settings)))
    else:
        checks.append((f"the stack that runs (pid {holder})", lambda: _check_stack(ask)))
    return [(name, tuple(check())) for name, check in checks]


def _check_machine() -> Iterator[Finding]:
    if sys.version_info < LEAST_PYTHON:
        yield _build_error("Python", f"is {platform.python_version()}", "use 3.11 or newer")
    if sys.platform != "linux":
        yield _build_warning("system", f"is {sys.platform}", "the local stack is made for Linux")


def _check_settings(settings: Settings) -> Iterator[Finding]:
    checks: tuple[Callable[[], None], ...] = (
        lambda: check_settings(settings),
        lambda: check_exposure(settings.ingress),
    )
    for check in checks:
        try:
            check()
        except StartupFailed as error:
            yield _build_error("environment", str(error), "correct it; docs/reference/settings.md")


def _check_directory(settings: Settings) -> Iterator[Finding]:
    path = factories.data_path(settings)
    there = next(each for each in (path, *path.parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        yield _build_error(str(there), "cannot be written", "name another with PICKSPIN_DATA_DIR")
    elif (free := shutil.disk_usage(there).free) < LEAST_FREE_BYTES:
        yield _build_warning(str(there), f"has {free / 2**20:.0f} MiB left", "make room")


def _check_catalogue(settings: Settings) -> Iterator[Finding]:
    try:
        catalogue = factories.load_catalogue(settings)
    except StartupFailed as error:
        yield _build_error(
            "catalogue", str(error), "pickspin catalogue validate FILE names every problem"
        )
        return
    yield from _check_weights(catalogue)
    kinds = {service.backend.kind for service in catalogue.services if service.enabled}
    if "llamacpp" in kinds and importlib.util.find_spec("xllamacpp") is None:
        yield _build_error("llama.cpp", "is not in this environment", "install the extra `local`")


def _check_weights(catalogue: Catalogue) -> Iterator[Finding]:
    for model in catalogue.models:
        path, package = model.weights.path, model.weights.package
        if path is not None and not Path(path).exists():
            yield _build_error(f"model {model.id}", f"there is no {path}", "correct weights.path")
        if package is not None and importlib.util.find_spec(package.partition("/")[0]) is None:
            name = package.partition("/")[0]
            yield _build_error(f"model {model.id}", f"there is no package {name}", "make setup")


def _check_port(settings: Settings) -> Iterator[Finding]:
    try:
        claim_port(settings.ingress.host, settings.ingress.port)
    except StartupFailed as error:
        yield _build_error("ingress", str(error), "choose another, or end who has it")


def _check_stack(ask: Ask) -> Iterator[Finding]:
    try:
        listed = ask("/v1/models").get("data", [])
    except Exception as error:  # noqa: BLE001 - whatever it says, a person is to see it
        yield _build_error("ingress", str(error), "look at logs/ingress.log in the data directory")
        return
    for model in listed:
        for service in model.get("pickspin", {}).get("services", ()):
            if service.get("state") == "failed" or service.get("breaker", "closed") != "closed":
                why = str(service.get("message") or "its calls fail")
                name = str(service.get("service"))
                yield _build_error(f"model {name}", why, f"look at logs/worker-{name}.log")


def _build_error(where: str, what: str, fix: str) -> Finding:
    return Finding(severity="error", where=where, what=what, fix=fix)


def _build_warning(where: str, what: str, fix: str) -> Finding:
    return Finding(severity="warning", where=where, what=what, fix=fix)
