"""Blobs as files of a directory, named by their SHA-256 and written atomically."""

import hashlib
import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from functions.runtime.errors import BlobMissing
from functions.storage.private_files import FOLDER, make_private_folder

PIECE_BYTES: Final = 256 * 1024
_FILES: Final = "files"
"""Folder of what `put_file` stores, beside the folders of the rest."""
_REF: Final = re.compile(r"(blob|file):([0-9a-f]{64})")


class BlobDirectory:
    """A `BlobStore` in `directory` (created when missing), shared by the processes of one machine or volume.

    Folders and files are their owner's alone.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        make_private_folder(directory)

    def put(self, data: bytes) -> str:
        ref = f"blob:{hashlib.sha256(data).hexdigest()}"
        self._put(ref, lambda: [data])
        return ref

    def put_file(self, source: BinaryIO) -> str:
        ref = f"file:{_hash_source(source)}"

        def pieces() -> Iterable[bytes]:
            source.seek(0)
            return iter(partial(source.read, PIECE_BYTES), b"")

        self._put(ref, pieces)
        return ref

    def files(self, *, unused_s: float) -> Iterable[str]:
        before_s = time.time() - unused_s
        for path in (self._directory / _FILES).glob("[0-9a-f][0-9a-f]/*"):
            ref = f"file:{path.name}"
            if _REF.fullmatch(ref) and _changed_s(path) <= before_s:
                yield ref

    def _put(self, ref: str, pieces: Callable[[], Iterable[bytes]]) -> None:
        path = self._find(ref)
        try:
            os.utime(path)  # it is in use again: whoever sweeps leaves it
        except FileNotFoundError:
            self._write(path, pieces())

    def _write(self, path: Path, pieces: Iterable[bytes]) -> None:
        path.parent.mkdir(mode=FOLDER, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except OSError:
            # A full disk is not filled further by what could not be finished.
            Path(name).unlink(missing_ok=True)
            raise

    def get(self, ref: str, *, limit_bytes: int) -> bytes:
        return b"".join(self.pieces(ref, limit_bytes=limit_bytes))

    def pieces(self, ref: str, *, limit_bytes: int) -> Generator[bytes, None, None]:
        path = self._find(ref)
        digest, held = hashlib.sha256(), b""
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size > limit_bytes:
                    raise BlobMissing(f"the blob is larger than {limit_bytes} bytes")
                while piece := file.read(PIECE_BYTES):
                    digest.update(piece)
                    if held:
                        yield held
                    held = piece
        except OSError as error:
            raise BlobMissing("the blob is not in the store") from error
        if digest.hexdigest() != path.name:
            raise BlobMissing("the blob's content does not match its hash")
        yield held

    def delete(self, ref: str, *, unused_s: float = 0.0) -> bool:
        path = self._find(ref)
        try:
            if path.stat().st_mtime > time.time() - unused_s:
                return False
            path.unlink()
        except FileNotFoundError:
            pass
        return True

    def _find(self, ref: str) -> Path:
        # Only our own references: a foreign `dataref` (file://, http://) is never followed.
        match = _REF.fullmatch(ref)
        if match is None:
            raise BlobMissing("the reference is not one of this store")
        kind, digest = match.groups()
        folder = self._directory / _FILES if kind == "file" else self._directory
        return folder / digest[:2] / digest


def _hash_source(source: BinaryIO) -> str:
    source.seek(0)
    digest = hashlib.sha256()
    while piece := source.read(PIECE_BYTES):
        digest.update(piece)
    return digest.hexdigest()


def _changed_s(path: Path) -> float:
    """When it was last put; in the future where it is gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return math.inf
