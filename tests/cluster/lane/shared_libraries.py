"""The shared libraries that programs of this machine need inside an image: found with `ldd`, as they are here."""

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from image_archive import Entry

LOADER = "/lib64/ld-linux-x86-64.so.2"
FOLDER = "/lib/x86_64-linux-gnu"
GLIBC = ("libc.so.6", "libm.so.6", "librt.so.1", "libdl.so.2", "libpthread.so.0")


def glibc() -> list[Entry]:
    """The loader and the C library."""
    found = [Entry(f"{FOLDER}/{name}", Path(FOLDER, name), mode=0o755) for name in GLIBC]
    return [Entry(LOADER, Path(LOADER), mode=0o755), *found]


def libraries_of(programs: Iterable[Path]) -> list[Entry]:
    """Every library that one of them links, outside of `programs` themselves, at the place where the loader looks."""
    paths = [str(path) for path in programs]
    found: dict[str, Path] = {}
    inside = {Path(path).name for path in paths}
    for start in range(0, len(paths), 50):
        done = subprocess.run(
            ["ldd", *paths[start : start + 50]], capture_output=True, text=True, check=False
        )
        for name, path in re.findall(r"^\s+(\S+) => (/\S+) \(0x", done.stdout, flags=re.MULTILINE):
            if name not in inside:
                found[name] = Path(path)
    return [Entry(f"{FOLDER}/{name}", path, mode=0o755) for name, path in sorted(found.items())]
