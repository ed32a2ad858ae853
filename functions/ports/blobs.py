"""Where large bodies and files lie."""

from collections.abc import Generator, Iterable
from typing import BinaryIO, Protocol


class BlobStore(Protocol):
    """Bodies too large for a record, files of batches. Content is addressed by its SHA-256."""

    def put(self, data: bytes) -> str:
        """Stores the bytes and returns a `dataref` (`blob:<sha256>`); storing twice is the same reference."""
        ...

    def put_file(self, source: BinaryIO) -> str:
        """Everything that `source` has from its start, piece by piece, as a file of `/v1/files`: `file:<sha256>`.

        Apart from what `put` stores: only rows of files name it, so that it can be known when nobody does any more.
        """
        ...

    def files(self, *, unused_s: float) -> Iterable[str]:
        """References of files that were not put for that long."""
        ...

    def get(self, ref: str, *, limit_bytes: int) -> bytes:
        """Raises `functions.runtime.errors.BlobMissing` (absent, hash differs, over the limit)."""
        ...

    def pieces(self, ref: str, *, limit_bytes: int) -> Generator[bytes, None, None]:
        """As `get`, piece by piece; the last one comes only when the hash is right. Whoever stops early closes it."""
        ...

    def delete(self, ref: str, *, unused_s: float = 0.0) -> bool:
        """Whether it is gone: not where it was put less than `unused_s` ago."""
        ...
