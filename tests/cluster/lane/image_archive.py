"""Image archives (an OCI layout as one tar file) without an engine: what `ctr images import` reads.

A layer is a list of entries; equal layers are stored once. Nothing depends on the time or the machine's users: the same
files give the same digests. Layers are not compressed, which is fastest to load here.
"""

import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a layer: a file or a whole folder of this machine (`source`), `text`, a link, or an empty folder."""

    path: str
    source: Path | None = None
    text: str | None = None
    link: str | None = None
    mode: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """`name` must be `kind.local/...` (Knative resolves no digest for it) and not be tagged latest."""

    name: str
    layers: tuple[tuple[Entry, ...], ...]
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    user: str = "65532"
    environment: Mapping[str, str] = field(default_factory=dict)


def write_archive(out: Path, images: Iterable[Image]) -> None:
    """Writes all images into one archive; it is there whole or not at all."""
    partial = out.with_suffix(".partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch, tarfile.open(partial, "w") as tar:
        _Archive(tar, Path(scratch)).write(images)
    partial.replace(out)


class _Archive:
    def __init__(self, tar: tarfile.TarFile, scratch: Path) -> None:
        self._tar = tar
        self._scratch = scratch
        self._names: set[str] = set()
        self._layers: dict[tuple[Entry, ...], dict[str, Any]] = {}

    def write(self, images: Iterable[Image]) -> None:
        self._put("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        manifests = [self._manifest(image) for image in images]
        self._put("index.json", _json({"schemaVersion": 2, "manifests": manifests}))

    def _manifest(self, image: Image) -> dict[str, Any]:
        layers = [self._layer(entries) for entries in image.layers]
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/"} | dict(image.environment)
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": list(image.entrypoint),
                "Cmd": list(image.command),
                "User": image.user,
                "Env": [f"{name}={value}" for name, value in environment.items()],
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
        }
        body = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._blob(config, CONFIG),
            "layers": layers,
        }
        names = {
            "io.containerd.image.name": image.name,
            "org.opencontainers.image.ref.name": image.name.rsplit(":", 1)[1],
        }
        return self._blob(body, MANIFEST) | {"annotations": names}

    def _layer(self, entries: tuple[Entry, ...]) -> dict[str, Any]:
        if entries not in self._layers:
            path = self._scratch / f"layer-{len(self._layers)}"
            write_layer(path, entries)
            digest = _digest_of(path)
            name = f"blobs/sha256/{digest}"
            if name not in self._names:
                self._names.add(name)
                self._tar.add(path, arcname=name, filter=_neutral)
            size = path.stat().st_size
            path.unlink()
            self._layers[entries] = {
                "mediaType": LAYER,
                "digest": f"sha256:{digest}",
                "size": size,
            }
        return self._layers[entries]

    def _blob(self, body: Any, kind: str) -> dict[str, Any]:
        data = _json(body)
        digest = hashlib.sha256(data).hexdigest()
        self._put(f"blobs/sha256/{digest}", data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    def _put(self, name: str, data: bytes) -> None:
        if name not in self._names:
            self._names.add(name)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            self._tar.addfile(info, io.BytesIO(data))


def write_layer(path: Path, entries: Iterable[Entry]) -> None:
    """Writes one layer as a tar file; folders above an entry come by themselves."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        made: set[str] = set()
        for entry in entries:
            for folder in reversed(Path(entry.path.strip("/")).parents):
                _add_folder(tar, made, folder.as_posix(), 0o755)
            _add_entry(tar, made, entry)


def _add_entry(tar: tarfile.TarFile, made: set[str], entry: Entry) -> None:
    name = entry.path.strip("/")
    info = tarfile.TarInfo(name)
    if entry.text is not None:
        data = entry.text.encode()
        info.size, info.mode = len(data), entry.mode or 0o644
        tar.addfile(info, io.BytesIO(data))
    elif entry.link is not None:
        info.type, info.linkname = tarfile.SYMTYPE, entry.link
        tar.addfile(info)
    elif entry.source is None:
        _add_folder(tar, made, name, entry.mode or 0o755)
    elif entry.source.is_dir():
        for file, inside in _walk(entry.source):
            tar.add(file, f"{name}/{inside}".rstrip("/"), recursive=False, filter=_neutral)
    else:
        found = _neutral(tar.gettarinfo(str(entry.source.resolve()), arcname=name))
        found.mode = entry.mode or found.mode
        with entry.source.open("rb") as file:
            tar.addfile(found, file)


def _add_folder(tar: tarfile.TarFile, made: set[str], name: str, mode: int) -> None:
    if name not in made | {"", "."}:
        made.add(name)
        info = tarfile.TarInfo(name)
        info.type, info.mode = tarfile.DIRTYPE, mode
        tar.addfile(info)


def _walk(root: Path) -> Iterator[tuple[Path, str]]:
    """Everything below `root` in one order on every machine."""
    for folder, folders, files in os.walk(root):
        folders.sort()
        here = Path(folder)
        yield here, here.relative_to(root).as_posix() if here != root else ""
        links = [name for name in folders if (here / name).is_symlink()]
        for name in sorted([*files, *links]):
            yield here / name, (here / name).relative_to(root).as_posix()


def _neutral(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    return info


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(body: Any) -> bytes:
    return json.dumps(body, sort_keys=True).encode()
