"""Blobs as files of a directory, named by their SHA-256 and written atomically."""

import hashlib
import os
import re
import tempfile
from collections.abc import Generator, Iterable
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from functions.adapters.private_files import FOLDER, make_private_folder
from functions.errors import BlobMissing

PIECE_BYTES: Final = 256 * 1024
_REF: Final = re.compile(r"blob:([0-9a-f]{64})")


class DirBlobs:
    """A `BlobStore` in `directory` (created when missing), shared by the processes of one machine or volume.

    Folders and files are their owner's alone.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        make_private_folder(directory)

    def put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        if not self._path(digest).exists():
            self._write(digest, [data])
        return f"blob:{digest}"

    def put_file(self, source: BinaryIO) -> str:
        digest = _digest_of(source)
        if not self._path(digest).exists():
            source.seek(0)
            self._write(digest, iter(partial(source.read, PIECE_BYTES), b""))
        return f"blob:{digest}"

    def _write(self, digest: str, pieces: Iterable[bytes]) -> None:
        path = self._path(digest)
        path.parent.mkdir(mode=FOLDER, exist_ok=True)
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
        path = self._find(ref)
        try:
            if path.stat().st_size > limit_bytes:
                raise BlobMissing(f"the blob is larger than {limit_bytes} bytes")
            data = path.read_bytes()
        except OSError as error:
            raise BlobMissing("the blob is not in the store") from error
        if f"blob:{hashlib.sha256(data).hexdigest()}" != ref:
            raise BlobMissing("the blob's content does not match its hash")
        return data

    def pieces(self, ref: str, *, limit_bytes: int) -> Generator[bytes, None, None]:
        path = self._find(ref)
        found, held = hashlib.sha256(), b""
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size > limit_bytes:
                    raise BlobMissing(f"the blob is larger than {limit_bytes} bytes")
                while piece := file.read(PIECE_BYTES):
                    found.update(piece)
                    if held:
                        yield held
                    held = piece
        except OSError as error:
            raise BlobMissing("the blob is not in the store") from error
        if f"blob:{found.hexdigest()}" != ref:
            raise BlobMissing("the blob's content does not match its hash")
        yield held

    def delete(self, ref: str) -> None:
        self._find(ref).unlink(missing_ok=True)

    def _find(self, ref: str) -> Path:
        # Only our own references: a foreign `dataref` (file://, http://) is never followed.
        match = _REF.fullmatch(ref)
        if match is None:
            raise BlobMissing("the reference is not one of this store")
        return self._path(match.group(1))

    def _path(self, digest: str) -> Path:
        return self._directory / digest[:2] / digest


def _digest_of(source: BinaryIO) -> str:
    source.seek(0)
    found = hashlib.sha256()
    while piece := source.read(PIECE_BYTES):
        found.update(piece)
    return found.hexdigest()
