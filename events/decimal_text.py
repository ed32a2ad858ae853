"""Amounts that travel as text: plain decimal numbers, not negative, without exponent, so that every reader agrees."""

import re
from typing import Final

from events.errors import EventRejected

_AMOUNT: Final = re.compile(r"\d{1,9}(?:\.\d{1,12})?", re.ASCII)


def read_amount(text: str, name: str, *, most: float | None = None) -> float:
    """The number that `text` writes, from 0 to `most` (None: to 999,999,999).

    Raises:
        EventRejected: `invalid_value`, naming `name`.
    """
    if _AMOUNT.fullmatch(text) is not None:
        amount = float(text)
        if most is None or amount <= most:
            return amount
    allowed = "from 0" if most is None else f"from 0 to {most:g}"
    raise EventRejected("invalid_value", f"{name} must be a plain decimal number {allowed}", name)
