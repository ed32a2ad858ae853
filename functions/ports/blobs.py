"""Storage of large bodies and of files."""

from collections.abc import Generator, Iterable
from typing import BinaryIO, Protocol


class BlobStore(Protocol):
    """Bodies too large for a record, and files. Content is addressed by its SHA-256."""

    def put(self, data: bytes) -> str:
        """Stores the bytes and returns their `dataref` (`blob:<sha256>`)."""
        ...

    def put_file(self, source: BinaryIO) -> str:
        """Stores all of `source`, piece by piece, as a file of `/v1/files` (`file:<sha256>`).

        Files are separate from blobs. Only file rows refer to them, so that unused ones can be
        recognised.
        """
        ...

    def files(self, *, unused_s: float) -> Iterable[str]:
        """References of files that were last put longer ago than that."""
        ...

    def get(self, ref: str, *, limit_bytes: int) -> bytes:
        """Raises `functions.runtime.errors.BlobMissing` (absent, hash differs, over the limit)."""
        ...

    def pieces(self, ref: str, *, limit_bytes: int) -> Generator[bytes, None, None]:
        """As `get`, piece by piece. The last piece comes only if the hash is right.

        A caller that stops early closes the generator.
        """
        ...

    def delete(self, ref: str, *, unused_s: float = 0.0) -> bool:
        """Deletes it, unless it was put less than `unused_s` ago. Returns whether it is gone."""
        ...
