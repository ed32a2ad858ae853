"""What every verb is tested in: none of the caller's settings, and the keyword rule, whatever weights are shipped."""

import os

import pytest


@pytest.fixture(autouse=True)
def _settings_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PICKSPIN")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PICKSPIN_ROUTER_CLASSIFIER", "keyword")
