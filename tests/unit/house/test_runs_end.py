"""A run of tests ends, whatever its tests left behind."""

import shutil
import subprocess
import sys
from pathlib import Path

CONFTEST = Path(__file__).parents[2] / "conftest.py"
LEFT_BEHIND = """
import threading

def test_leaves_a_thread():
    threading.Thread(target=threading.Event().wait, name="forgotten").start()
"""


def test_a_thread_left_behind_is_shown_and_fails_the_run_instead_of_holding_it_up(tmp_path):
    shutil.copy(CONFTEST, tmp_path)
    (tmp_path / "test_one.py").write_text(LEFT_BEHIND)
    (tmp_path / "pytest.ini").write_text("[pytest]\nexit_limit_s = 0.5\n")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert "1 passed" in ran.stdout
    assert ran.returncode == 1
    assert "wait" in ran.stderr
