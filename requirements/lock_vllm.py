"""Writes requirements/vllm.lock: vLLM's CPU build of vllm.in and what a text model on a CPU needs of its requirements.

Run by `make lock`. torch is left out (torch.in pins it; its wheel comes from WHEELS), and so are its companions for
pictures, sound and video: their wheels on the index are built for CUDA, and no text model imports them. Hashes are
those of the archives for this platform, so the lock is for Linux on x86-64 with this version of Python.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent
LEFT_OUT: Final = frozenset({"torch", "torchaudio", "torchcodec", "torchvision"})
OF_TORCH: Final = re.compile(r"torch|cuda-[\w-]+|nvidia-[\w-]+")


def report(*arguments: str) -> list[dict[str, Any]]:
    """What pip would install, with metadata and hashes; nothing is installed."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"),
            *("--quiet", "--report", "-", *arguments),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)["install"]
    return found


def needs_of(requirements: list[str], environment: dict[str, str]) -> list[str]:
    """The requirements that apply here without extras, without what is left out, markers taken off."""
    from packaging.requirements import Requirement  # noqa: PLC0415 - comes with the lock's tools

    kept: list[str] = []
    for text in requirements:
        wanted = Requirement(text)
        applies = wanted.marker is None or wanted.marker.evaluate(environment)
        if applies and wanted.name.lower() not in LEFT_OUT:
            wanted.marker = None
            kept.append(str(wanted))
    return kept


def lines_of(installed: list[dict[str, Any]]) -> list[str]:
    """The lock's lines: name, version and hash, by name."""
    found: dict[str, str] = {}
    for item in installed:
        name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        if OF_TORCH.fullmatch(name) is None:
            digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
            found[name] = f"{name}=={item['metadata']['version']} \\\n    --hash=sha256:{digest}"
    return [found[name] for name in sorted(found)]


def main() -> None:
    """Two resolutions: the package alone, then what it needs."""
    (vllm,) = report("--no-deps", "-r", str(FOLDER / "vllm.in"))
    needs = needs_of(vllm["metadata"]["requires_dist"], {"extra": ""})
    torch = re.findall(
        r"^torch==.+$", (FOLDER / "torch.in").read_text(encoding="utf-8"), re.MULTILINE
    )
    rest = report(*sys.argv[1:], *needs, *(f"{each}+cpu" for each in torch))
    header = "# Written by `make lock` from vllm.in. Install with --no-deps --require-hashes."
    text = "\n".join([header, *lines_of([vllm, *rest])]) + "\n"
    (FOLDER / "vllm.lock").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
