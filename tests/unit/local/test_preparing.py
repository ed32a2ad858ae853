"""What `pickspin up` refuses before it starts anything."""

import socket
from pathlib import Path

import pytest

from functions.factories import load_catalogue
from functions.local.preflight import (
    UpOptions,
    check_exposure,
    claim_port,
    effective_catalogue,
    hold_lock,
    is_loopback,
    split_model,
    write_catalogue,
)
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import IngressSettings, Settings


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.7", "example.org", "127.0.0.1.example.org"]
)
def test_only_loopback_is_served_without_keys(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(StartupFailed, match="PICKSPIN_API_KEYS"):
        check_exposure(IngressSettings(host=host))
    check_exposure(IngressSettings(host=host, api_keys="a=secret"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    check_exposure(IngressSettings(host=host))


def test_a_taken_port_is_named_with_what_to_do() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(StartupFailed, match=f"port {port}.*--port or PICKSPIN_PORT"):
            claim_port("127.0.0.1", port)


def test_port_zero_becomes_a_free_port() -> None:
    assert claim_port("127.0.0.1", 0) > 0


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(StartupFailed, match=r"192\.0\.2\.1"):
        claim_port("192.0.2.1", 0)


def test_two_stacks_cannot_share_a_data_directory(tmp_path: Path) -> None:
    refused = pytest.raises(StartupFailed, match=r"pid \d+.*--data-dir")
    with hold_lock(tmp_path), refused, hold_lock(tmp_path):
        pass
    with hold_lock(tmp_path):
        pass


@pytest.mark.parametrize("text", ["tiny", "=x.gguf", "tiny=", ""])
def test_a_model_is_name_and_source(text: str) -> None:
    with pytest.raises(StartupFailed, match=r"name=path\.gguf"):
        split_model(text)


def test_a_missing_model_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartupFailed, match=r"no file .*gone\.gguf"):
        split_model(f"tiny={tmp_path / 'gone.gguf'}")


def test_a_model_file_becomes_an_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.gguf").write_bytes(b"GGUF")

    assert split_model("tiny=a.gguf") == ("tiny", str(tmp_path / "a.gguf"))


def test_a_url_keeps_its_own_equals_signs() -> None:
    assert split_model("big=http://h/v1?a=b") == ("big", "http://h/v1?a=b")


def test_own_models_and_the_demo_fleet_join_the_catalogue(tmp_path: Path) -> None:
    options = UpOptions(models=("big=http://127.0.0.1:8000/v1",), fleet="demo")
    catalogue = effective_catalogue(Settings(), options)
    path = write_catalogue(catalogue, tmp_path)

    assert catalogue.model("big") is not None
    assert sum(model.simulated for model in catalogue.models) == 3
    assert load_catalogue(Settings(catalogue=str(path))) == catalogue


def test_a_model_that_is_there_already_is_refused() -> None:
    options = UpOptions(models=("smollm2-135m-instruct=http://127.0.0.1:8000/v1",))

    with pytest.raises(StartupFailed, match="smollm2-135m-instruct"):
        effective_catalogue(Settings(), options)
