"""Weights that are made of others once, and found again: whole or not there, named by size and time of the original."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from functions.runtime.errors import StartupFailed


def stamp_name(weights: Path, name: str) -> str:
    """`name` with what tells these weights from others under the same path."""
    stat = weights.stat()
    return f"{name}-{stat.st_size:x}-{stat.st_mtime_ns:x}"


def make_once(
    weights: Path, target: Path, make: Callable[[Path, Path], None], *, kind: str
) -> Path:
    """`target`, which `make` (from `weights`, to a path that is not there yet) makes if it is not there: a file or a
    directory. A process that is killed leaves no half of it.

    Raises:
        StartupFailed: packages are missing, or the weights are not of a `kind` model ("Llama") that can be converted.
    """
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(f".part-{os.getpid()}")
    try:
        make(weights, part)
        part.replace(target)
    except ImportError as error:
        raise StartupFailed(
            f"converting {weights.name} needs {error.name}: in a checkout, pip install '.[local]'"
        ) from error
    except (OSError, KeyError, ValueError) as error:
        raise StartupFailed(
            f"{weights} is not a {kind} model that can be converted: {error}"
        ) from error
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)
    return target
