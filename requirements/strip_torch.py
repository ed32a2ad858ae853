"""Takes torch, and what comes only with a CUDA build of it, out of a lock. Run by `make lock`.

The wheel of torch differs from source to source, so that its hash cannot be locked: `torch.in` pins the version.
"""

import re
import sys
from pathlib import Path
from typing import Final

UNLOCKED: Final = re.compile(r"(torch|triton|cuda-[\w-]+|nvidia-[\w-]+)==")


def stripped(text: str) -> str:
    """The lock without these packages and their hashes."""
    kept, is_dropped = [], False
    for line in text.splitlines(keepends=True):
        if not line.startswith(" "):
            is_dropped = UNLOCKED.match(line) is not None
        if not is_dropped:
            kept.append(line)
    return "".join(kept)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(stripped(path.read_text(encoding="utf-8")), encoding="utf-8")
