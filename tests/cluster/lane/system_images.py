"""`system_images.py CACHE` writes CACHE/images/system.tar: the cluster's own parts, when a binary is newer."""

import sys
from pathlib import Path

from image_archive import Entry, Image, write_archive
from shared_libraries import glibc

PROGRAMS = {
    "pause": ("lane-probe", ("/lane-probe", "pause")),
    "probe": ("lane-probe", ("/lane-probe",)),
    "dns": ("lane-dns", ("/lane-dns",)),
    "knative": ("lane-knative", ("/lane-knative",)),
    "queue": ("lane-knative", ("/lane-knative", "queue")),
    "keda": ("lane-keda", ("/lane-keda",)),
}


def system_images(binaries: Path) -> list[Image]:
    """Those whose program is there."""
    tmp = Entry("/tmp", mode=0o1777)
    found = [
        Image(
            name=f"kind.local/{name}:dev",
            layers=((tmp, Entry(f"/{program}", binaries / program, mode=0o755)),),
            entrypoint=entrypoint,
        )
        for name, (program, entrypoint) in PROGRAMS.items()
        if (binaries / program).exists()
    ]
    envoy = binaries / "envoy"
    if envoy.exists():
        entries = (tmp, *glibc(), Entry("/usr/local/bin/envoy", envoy, mode=0o755))
        found.append(
            Image(
                name="kind.local/envoy:dev",
                layers=(entries,),
                entrypoint=("/usr/local/bin/envoy",),
                user="65534",
            )
        )
    return found


def main(cache: Path) -> None:
    archive = cache / "images" / "system.tar"
    newest = max(path.stat().st_mtime for path in (cache / "bin").iterdir())
    if not archive.exists() or archive.stat().st_mtime < newest:
        write_archive(archive, system_images(cache / "bin"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
