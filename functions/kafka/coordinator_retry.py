"""Coordinators of groups: on a cluster that just started, or moved one, they are on their way for some seconds."""

from typing import Final

from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    NotCoordinatorError,
)
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

COORDINATOR_S: Final = 5.0
_RETRY_S: Final = 0.1
_ON_ITS_WAY: Final = (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    NotCoordinatorError,
)
"""The first two are also what a cluster answers where nobody ever asked for a group: it makes the topic of their
offsets first.
"""


def retry_coordinator() -> Retrying:
    """A caller that asks again while a coordinator is on its way, for `COORDINATOR_S`; then kafka-python's error is
    raised. Every other error is raised at once.
    """
    return Retrying(
        retry=retry_if_exception_type(_ON_ITS_WAY),
        stop=stop_after_delay(COORDINATOR_S),
        wait=wait_fixed(_RETRY_S),
        reraise=True,
    )
