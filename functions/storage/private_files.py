"""Files and folders that only their owner may read: prompts, answers, keys of callbacks and logs are in them."""

from contextlib import suppress
from pathlib import Path
from typing import Final

OTHERS: Final = 0o077
"""What a group and everybody else may do: nothing."""
FOLDER: Final = 0o700
FILE: Final = 0o600


def make_private_folder(path: Path) -> Path:
    """The folder, created when missing, closed to others. Its parents keep what the system gives them.

    Raises:
        OSError: it cannot be created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=FOLDER, exist_ok=True)
    close_to_others(path)
    return path


def make_private_file(path: Path) -> Path:
    """The file, created empty when missing, closed to others.

    Raises:
        OSError: it cannot be created.
    """
    path.touch(mode=FILE, exist_ok=True)
    close_to_others(path)
    return path


def close_to_others(path: Path) -> None:
    """Removes the rights of others, if the file exists and is ours. A volume may have another
    owner.
    """
    with suppress(FileNotFoundError, PermissionError):
        mode = path.stat().st_mode
        if mode & OTHERS:
            path.chmod(mode & ~OTHERS & 0o7777)
