"""The producer and the consumer of docs/how-to/use-kafka.md do what they say, as they stand there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples.local_stack import LocalStack

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "use-kafka.md"
PROGRAMS = re.findall(r"```python\n(.+?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("client", ["confluent_kafka", "kafka"])
def test_a_program_gets_its_answer(client: str, shared_fakes: LocalStack) -> None:
    (program,) = [each for each in PROGRAMS if f"from {client} import" in each]
    mine = program.replace("127.0.0.1:9092", shared_fakes.bootstrap).replace('"auto"', '"warm"')
    assert mine != program

    ended = subprocess.run(
        [sys.executable, "-c", mine], capture_output=True, text=True, timeout=90, check=False
    )

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip()
