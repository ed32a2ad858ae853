"""`make demo` is a test too: every door answers."""

import io

import pytest
from rich.console import Console

from examples import demo

pytestmark = [pytest.mark.process, pytest.mark.model, pytest.mark.timeout(180)]


def test_every_door_answers(broker: str) -> None:
    said = io.StringIO()
    assert 0 == demo.run(Console(file=said, width=200), broker), said.getvalue()
