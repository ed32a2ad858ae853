"""Model servers that the worker starts itself: their commands, their flags, and that they die with their parent."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import xllamacpp

from events.names import Operation
from functions.backends import backend_kinds, llama_server, vllm_server
from functions.backends.server_arguments import build_arguments
from functions.backends.simulated import answers, server
from functions.runtime.errors import StartupFailed
from functions.worker.model_server import ServerOptions, build_command
from router_model.catalogue.backend_flags import FAKE, LLAMACPP
from router_model.catalogue.model import Backend, Model, Service


class FakeParams(SimpleNamespace):
    """Fields of llama.cpp's parameters, without the library."""

    def __init__(self) -> None:
        super().__init__(
            model=SimpleNamespace(), cpuparams=SimpleNamespace(), cpuparams_batch=SimpleNamespace()
        )


MODEL = Model(id="m", context_length=512)


def service(kind: str, **args: str | float | bool) -> Service:
    return Service(model="m", slug="m", concurrency=3, backend=Backend(kind=kind, args=args))  # type: ignore[arg-type]


def test_catalogue_arguments_become_flags() -> None:
    command = build_command(
        service("llamacpp", embedding=True, threads=2, gpu_layers=0), MODEL, "/m.gguf"
    )
    assert command.module == "functions.backends.llama_server"
    flags = llama_server.parse_flags([*command.flags, "--port", "1"])
    assert (flags.model, flags.context, flags.parallel) == (Path("/m.gguf"), 512, 3)
    assert (flags.embedding, flags.n_gpu_layers) == (True, 0)
    assert getattr(flags, "cpuparams.n_threads") == 2


@pytest.mark.parametrize("name", ["n_gpu_layers", "gpu_layers", "n-gpu-layers"])
def test_an_argument_of_llama_cpp_is_taken_here_as_in_a_pod(name: str) -> None:
    command = build_command(service("llamacpp", **{name: 99, "ctx_size": 4096}), MODEL, "/m.gguf")
    flags = llama_server.parse_flags([*command.flags, "--port", "1"])
    params = llama_server.configure(flags, FakeParams())

    assert (params.n_gpu_layers, params.n_ctx) == (99, 4096)
    assert f"--{name.replace('_', '-')}" in build_arguments(
        service("llamacpp", **{name: 99}), MODEL
    )


def test_threads_are_those_of_a_prompt_too_unless_these_are_named() -> None:
    def threads(**args: int) -> tuple[int, int]:
        command = build_command(service("llamacpp", **args), MODEL, "/m.gguf")
        params = llama_server.configure(
            llama_server.parse_flags([*command.flags, "--port", "1"]), FakeParams()
        )
        return params.cpuparams.n_threads, params.cpuparams_batch.n_threads

    cores = llama_server.count_threads(10**6)
    assert threads(threads=1) == (1, 1)
    assert threads(threads=1, threads_batch=cores) == (1, cores)


def test_every_field_that_the_table_names_is_one_of_llama_cpps() -> None:
    params = xllamacpp.CommonParams()
    for flag in LLAMACPP.values():
        owner = params
        for part in flag.field.split(".") if flag.field else ():
            owner = getattr(owner, part)


def test_what_only_a_pods_server_has_is_named_before_anything_starts() -> None:
    with pytest.raises(
        StartupFailed, match=r"service m: backend.args.lora: .* has no such argument"
    ):
        build_command(service("llamacpp", lora="x"), MODEL, "/m.gguf")


def test_the_page_lists_what_llama_cpp_takes_here() -> None:
    page = Path(__file__).parents[3] / "docs" / "how-to" / "add-a-model.md"
    listed = set(
        re.findall(r"`([a-z_]+)`", page.read_text().partition("On this machine it has")[2])
    )
    assert {name.replace("-", "_") for name, flag in LLAMACPP.items() if flag.field} <= listed


def test_what_the_server_calls_the_model_does_not_replace_its_weights() -> None:
    command = build_command(service("llamacpp", model="theirs"), MODEL, "/m.gguf")
    assert command.flags[:2] == ("--model", "/m.gguf")
    assert "theirs" not in command.flags


def test_simulated_models_and_the_table_have_the_same_arguments() -> None:
    known = {action.dest.replace("_", "-") for action in server.build_parser()._actions}
    assert set(FAKE) == known - {"help", "host", "port", "model", "parent"}


def test_a_simulated_model_needs_no_weights() -> None:
    command = build_command(service("fake", ttft_s=0.5, ignore_limit=False), MODEL, None)
    assert command.flags == ("--model", "m", "--ttft-s", "0.5")


def test_a_server_of_another_kind_must_have_an_address() -> None:
    with pytest.raises(StartupFailed, match=r"weights\.url"):
        build_command(service("tgi"), MODEL, None)


def test_vllm_is_started_with_the_interpreter_that_has_it() -> None:
    options = ServerOptions(python="/vllm/bin/python", can_sleep=True)
    command = build_command(service("vllm", dtype="float32"), MODEL, "/m.hf", options)
    flags, rest = vllm_server.parse_flags([*command.flags, "--port", "1", "--parent", "7"])
    assert (flags.python, flags.parent) == ("/vllm/bin/python", 7)
    assert rest[:2] == ["--model", "/m.hf"]
    assert rest[-2:] == ["--port", "1"]
    assert {"--enable-sleep-mode", "--dtype"} <= set(rest)
    assert command.environment == {"VLLM_SERVER_DEV_MODE": "1"}


def test_an_interpreter_without_vllm_says_what_to_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert vllm_server.main(["--port", "1"]) == 1
    assert "PICKSPIN_WORKER_SERVER_PYTHON" in capsys.readouterr().err
    assert vllm_server.main(["--python", "/nowhere/python"]) == 1
    assert "/nowhere/python cannot be started" in capsys.readouterr().err


def test_threads_never_exceed_the_cores() -> None:
    cores = len(os.sched_getaffinity(0))
    assert llama_server.count_threads(0) == max(1, cores - 1)
    assert llama_server.count_threads(10_000) == cores


def test_the_warm_up_fits_the_model() -> None:
    expected = {
        ("chat", "completions"): Operation.CHAT,
        ("completions",): Operation.COMPLETIONS,
        ("embeddings",): Operation.EMBEDDINGS,
    }
    for capabilities, operation in expected.items():
        model = Model(id="m", capabilities=capabilities)  # type: ignore[arg-type]
        assert backend_kinds.warm_up(model, "m")[0] is operation


def test_a_base_address_is_taken_with_or_without_version() -> None:
    assert {
        backend_kinds.find_server_root(f"http://h:1{end}") for end in ("", "/", "/v1", "/v1/")
    } == {"http://h:1"}


def test_simulated_answers_say_so() -> None:
    body = {"messages": [{"role": "user", "content": "hi nonce:n1"}], "max_tokens": 3}
    asked = answers.read_body("/v1/chat/completions", body, tokens=9, ignores_limit=False)
    content = answers.whole(asked, 1, 9)["choices"][0]["message"]["content"]
    assert content.startswith("[simulated] nonce:n1")
    assert asked.tokens == 3


def test_a_model_server_dies_with_its_worker() -> None:
    program = (
        "import os, subprocess, sys, time\n"
        "command = [sys.executable, '-m', 'functions.backends.simulated.server', '--parent', str(os.getpid())]\n"
        "child = subprocess.Popen(command, start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout as out:
        child = int(out.readline())
        bound_by = time.monotonic() + 10
        while b"simulated.server" not in Path(f"/proc/{child}/cmdline").read_bytes():
            assert time.monotonic() < bound_by
        wait_until_bound(child, bound_by)
        parent.send_signal(signal.SIGKILL)
        parent.wait(5)
        while Path(f"/proc/{child}").exists() and "State:\tZ" not in status_of(child):
            assert time.monotonic() < bound_by


def wait_until_bound(pid: int, deadline: float) -> None:
    """The program is bound once it listens: a socket among its files."""
    while not any("socket:" in target for target in open_files(pid)):
        assert time.monotonic() < deadline


def open_files(pid: int) -> list[str]:
    found: list[str] = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except OSError:
            continue
    return found


def status_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return "State:\tZ"
