"""Environment variables of processes, and those read beside the settings."""

import os
from collections.abc import Collection, Mapping

import msgspec

from functions.runtime.errors import StartupFailed
from functions.runtime.settings import Group, Settings


def to_environ(settings: Settings) -> dict[str, str]:
    """The environment that makes a child process load the same settings (secrets included: pass, never print)."""
    variables: dict[str, str] = {}
    defaults = Settings()
    for top in msgspec.structs.fields(Settings):
        value, default = getattr(settings, top.name), getattr(defaults, top.name)
        if not isinstance(value, Group):
            if value != default:
                variables[f"PICKSPIN_{top.name.upper()}"] = str(value)
            continue
        for field in msgspec.structs.fields(type(value)):
            mine = getattr(value, field.name)
            if mine != getattr(default, field.name) and mine is not None:
                variables[f"PICKSPIN_{top.name}_{field.name}".upper()] = str(mine)
    return variables


def child_environ(settings: Settings, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of a child process: `environ` (None: this process's) with its own settings replaced."""
    return server_environ(to_environ(settings), environ)


def read_kubeconfig_path(environ: Mapping[str, str] | None = None) -> str:
    """What KUBECONFIG says, empty where it says nothing: the variable is Kubernetes' own, not a setting of ours."""
    return (os.environ if environ is None else environ).get("KUBECONFIG", "")


def server_environ(
    added: Mapping[str, str],
    environ: Mapping[str, str] | None = None,
    *,
    hidden: Collection[str] = (),
) -> dict[str, str]:
    """The environment of a program that is not ours: `environ` (None: this process's) without settings and without what
    is `hidden` from it, and `added`.
    """
    variables = dict(os.environ if environ is None else environ)
    kept = {
        name: text
        for name, text in variables.items()
        if not name.startswith("PICKSPIN_") and name not in hidden
    }
    return kept | dict(added)


def read_backend_key(name: str, environ: Mapping[str, str] | None = None) -> str:
    """The key of a model server in the variable that a catalogue names.

    Raises:
        StartupFailed: it is not set, or no HTTP header can hold it; the message never holds it.
    """
    key = (os.environ if environ is None else environ).get(name, "").strip()
    if not key:
        raise StartupFailed(f"the variable {name} (backend.key_env) is not set")
    if not (key.isascii() and key.isprintable()):
        raise StartupFailed(f"the variable {name} (backend.key_env) holds no key")
    return key
