"""kafka-python compiles the decoder of a response when the first one arrives, and not for one thread at a time.

Two clients of one process that meet a response for the first time together may leave behind a decoder that raises for
ever: while it is compiled the class to make is swapped in and out of an object that both share
(`StructField.compiled_decode_from`, kafka-python 3.0.12). Such a process never reads its topics' metadata.
"""

import threading
from typing import Any, Final

from kafka.protocol.schemas.fields.struct import StructField

_COMPILING: Final = threading.RLock()


def compile_one_at_a_time() -> None:
    """Puts a lock around the compiling. Idempotent; must have been called before the first client is made."""
    with _COMPILING:
        compiled = StructField.compiled_decode_from
        if getattr(compiled, "is_locked", False):
            return

        def locked(struct: Any, *arguments: Any, **named: Any) -> Any:
            with _COMPILING:
                return compiled(struct, *arguments, **named)

        locked.is_locked = True  # type: ignore[attr-defined]
        StructField.compiled_decode_from = locked
