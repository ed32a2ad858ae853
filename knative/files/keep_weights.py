"""Makes weights that were fetched into the artefact that all replicas of a model serve, or copies them from a volume.

Usage: keep_weights.py copy | keep, with SOURCE_DIR (copy), INCOMING, TARGET, SOURCE, FILE, SHA256 in the environment.
`keep` hashes every file, compares the hash of all with SHA256 (empty: the source itself is pinned), writes the record
and only then gives the directory its name, which is derived from source and hash: a path that is there is complete
and verified, and never changes. What is there already is left as it is.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

RECORD = ".pickspin-weights.json"
CHUNK_BYTES = 4 * 1024 * 1024


class WeightsRefused(Exception):
    """What was fetched is not what the catalogue names; the text says how it differs."""


def list_files(directory: Path) -> list[Path]:
    """Files that count, sorted by their path: what begins with a dot at the top is the fetching tool's own."""
    found = [path for path in directory.rglob("*") if path.is_file()]
    counted = [path for path in found if not path.relative_to(directory).parts[0].startswith(".")]
    return sorted(counted, key=lambda path: path.relative_to(directory).as_posix().encode())


def hash_file(path: Path) -> str:
    """SHA-256 of one file, read in parts."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(CHUNK_BYTES):
            digest.update(part)
    return digest.hexdigest()


def hash_files(directory: Path) -> dict[str, str]:
    """Hash by relative path, in order."""
    return {
        path.relative_to(directory).as_posix(): hash_file(path) for path in list_files(directory)
    }


def hash_all(listing: Mapping[str, str]) -> str:
    """What `cd DIR; find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum` prints."""
    lines = "".join(f"{digest}  {path}\n" for path, digest in listing.items())
    return hashlib.sha256(lines.encode()).hexdigest()


def keep(incoming: Path, target: Path, *, source: str, sha256: str, file: str) -> str:
    """Verifies `incoming` and gives it its name; returns a line that says what happened.

    Raises:
        WeightsRefused: nothing was fetched, the hash differs (and what was fetched is removed), `file` is not in it.
    """
    if (target / RECORD).is_file():
        return f"{target} is there"
    listing = hash_files(incoming) if incoming.is_dir() else {}
    if not listing:
        raise WeightsRefused(f"{source}: nothing was fetched")
    found = hash_all(listing)
    if sha256 and found != sha256:
        shutil.rmtree(incoming)
        raise WeightsRefused(f"{source}: its sha256 is {found}, the catalogue says {sha256}")
    if file and file not in listing:
        raise WeightsRefused(f"{source} has no file {file}; it has {', '.join(listing)}")
    record = {"source": source, "sha256": found, "files": listing}
    (incoming / RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")
    incoming.rename(target)
    return f"{target}: {len(listing)} files, sha256 {found}"


def copy(source: Path, incoming: Path, target: Path) -> str:
    """Copies a directory of a mounted volume; a copy that was begun is begun again."""
    if (target / RECORD).is_file():
        return f"{target} is there"
    shutil.rmtree(incoming, ignore_errors=True)
    shutil.copytree(source, incoming)
    return f"copied {source}"


def main(arguments: list[str]) -> int:
    """Exit status 1 where the weights are refused or cannot be read or written: the job tries again."""
    given = os.environ
    incoming, target = Path(given["INCOMING"]), Path(given["TARGET"])
    try:
        if arguments == ["copy"]:
            print(copy(Path(given["SOURCE_DIR"]), incoming, target))
        else:
            said = keep(
                incoming,
                target,
                source=given["SOURCE"],
                sha256=given["SHA256"],
                file=given["FILE"],
            )
            print(said)
    except (WeightsRefused, OSError) as error:
        print(f"keep_weights: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
