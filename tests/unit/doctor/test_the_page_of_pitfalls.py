"""The page that users read lists the checks that are made."""

import re
from pathlib import Path

from functions.doctor.checks import CHECKS

PAGE = Path(__file__).parents[3] / "docs/how-to/look-at-a-cluster.md"


def test_the_page_has_every_check_under_its_number():
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [(int(number), name) for number, name in rows] == [
        (check.number, check.name) for check in CHECKS
    ]
