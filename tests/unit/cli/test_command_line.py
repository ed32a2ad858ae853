"""The command line: what it prints, its exit statuses, and that no mistake ever shows a trace."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from functions import cli
from functions.cli import main
from functions.processes import PROCESSES

CHAT = {
    "id": "tiny",
    "pickspin": {
        "state": "cold",
        "eta_s": 2.0,
        "simulated": True,
        "context_length": 4096,
        "services": [{"server": {"kind": "llamacpp", "tools": False, "vision": False}}],
    },
}
VIRTUAL = [
    {"id": "auto", "pickspin": {"virtual": "auto", "of": ["tiny"], "state": "cold", "eta_s": 2.0}},
    {
        "id": "gpt-4o",
        "pickspin": {"virtual": "alias", "of": ["tiny"], "state": "cold", "eta_s": 2.0},
    },
]
REQUEST = {"id": "req_1", "state": "running"}
REFUSAL = {"error": {"code": "not_found", "message": "No such request."}}


class Ingress(BaseHTTPRequestHandler):
    """The few answers that the CLI asks for."""

    def do_GET(self) -> None:
        found = {
            "/readyz": (200, {}),
            "/v1/models": (200, {"data": [CHAT, *VIRTUAL]}),
            "/v1/requests/req_1": (200, REQUEST),
        }
        self._answer(*found.get(self.path, (404, REFUSAL)))

    def do_POST(self) -> None:
        is_known = self.path == "/v1/requests/req_1/cancel"
        self._answer(*((200, {**REQUEST, "state": "cancelled"}) if is_known else (404, REFUSAL)))

    def _answer(self, status: int, found: object) -> None:
        raw = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Ingress)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-verb"],
        ["catalogue"],
        ["catalogue", "nope"],
        ["up", "--port", "99999"],
        ["up", "--broker", "rabbit"],
        ["up", "--broker", "kafka", "--bootstrap", "h:1"],
        ["catalogue", "validate", "-"],
        ["batch", "-", "out.jsonl"],
        ["batch", "in.jsonl", "in.jsonl"],
        ["batch", "in.jsonl", "/dev/full"],
        ["batch", "in.jsonl", "out.jsonl", "--errors", "out.jsonl"],
        ["batch", "in.jsonl"],
        ["models", "--nope"],
        ["request", "get"],
        ["route", "\udcff"],
    ],
)
def test_what_is_not_understood_is_one_line_and_status_two(arguments, capsys) -> None:
    assert main(arguments) == 2

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("pickspin: ")
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["models", "--url", "http://127.0.0.1:1"],
        ["worker"],
        ["route", "hello", "--model", "no-such-model"],
        ["route", "hello", "--catalogue", "/no/such/file"],
        ["batch", "/no/such/in.jsonl", "/no/such/out.jsonl"],
    ],
)
def test_what_fails_is_one_line_and_status_one(arguments, capsys) -> None:
    assert main(arguments) == 1

    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1


def test_a_bad_setting_is_named(monkeypatch, capsys) -> None:
    monkeypatch.setenv("PICKSPIN_PORT", "many")

    assert main(["settings"]) == 1
    assert "PICKSPIN_PORT must be a whole number" in capsys.readouterr().err


def test_nothing_at_all_prints_the_help(capsys) -> None:
    assert main([]) == 0
    assert "pickspin up" in capsys.readouterr().out


@pytest.mark.parametrize(
    "verb",
    [
        "up",
        "worker",
        "batch",
        "models",
        "status",
        "route",
        "replay",
        "settings",
        "version",
        "ingress",
    ],
)
def test_every_verb_has_help(verb, capsys) -> None:
    assert main([verb, "--help"]) == 0
    assert f"pickspin {verb}" in capsys.readouterr().out


def test_models_are_listed_with_state_and_simulation(url, capsys) -> None:
    assert main(["models", "--url", url]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [
        "tiny",
        "(simulated)",
        "cold",
        "2.0",
        "s",
        "4096",
        "llamacpp,",
        "no",
        "tools/vision",
    ]

    assert main(["models", "--url", f"{url}/v1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"data": [CHAT, *VIRTUAL]}


def test_status_is_zero_only_when_ready(url, capsys) -> None:
    assert main(["status", "--url", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ready"] is True

    assert main(["status", "--url", "http://127.0.0.1:1"]) == 1
    assert "not ready" in capsys.readouterr().out


def test_a_request_is_shown_and_cancelled(url, capsys) -> None:
    assert main(["request", "get", "req_1", "--url", url]) == 0
    assert json.loads(capsys.readouterr().out) == REQUEST

    assert main(["request", "cancel", "req_1", "--url", url]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "cancelled"


def test_a_refusal_of_the_ingress_is_its_own_words(url, capsys) -> None:
    assert main(["request", "get", "../../etc", "--url", url]) == 1
    assert capsys.readouterr().err == "pickspin: not_found: No such request.\n"


def test_a_decision_is_explained_offline(capsys) -> None:
    assert main(["route", "Prove it.", "--json"]) == 0

    decision = json.loads(capsys.readouterr().out)
    assert decision["service"] == "smollm2-135m-instruct"
    assert decision["route_class"] == "high"
    assert decision["candidates"]


def test_a_catalogue_is_checked_under_the_old_name_too(tmp_path: Path, capsys) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(
        "models: [{id: a, simulated: true}]\nservices: [{model: a, backend: {kind: fake}}]\n"
    )
    bad.write_text("models: [{id: a, tier: L9}]\nservices: [{model: b}]\n")

    assert main(["catalogue", "check", str(good)]) == 0
    assert "1 models, 1 services" in capsys.readouterr().out
    assert main(["catalogue", "check", str(bad)]) == 1
    assert "tier" in capsys.readouterr().out


def test_settings_are_printed_with_secrets_masked(monkeypatch, capsys) -> None:
    monkeypatch.setenv("PICKSPIN_API_KEYS", "me=hunter2")
    monkeypatch.setenv("PICKSPIN_IDLE_S", "20")

    assert main(["settings"]) == 0
    said = capsys.readouterr().out
    assert "hunter2" not in said
    assert "PICKSPIN_SPIN_IDLE_S" in said
    assert main(["settings", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ingress"]["api_keys"] == "***"


def test_an_interrupt_is_status_130(monkeypatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.typer.main, "get_command", interrupted)

    assert main(["version"]) == 130


@pytest.mark.process
@pytest.mark.parametrize("shell", ["{} settings | head -c 1", "{} version >&-", "{} $'\\xff'"])
def test_closed_output_and_foreign_bytes_leave_one_line_and_no_trace(shell: str) -> None:
    command = shell.format(f"{sys.executable} -m functions")
    found = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert found.returncode in {0, 2}
    assert "Traceback" not in found.stderr
    assert len(found.stderr.splitlines()) <= 1


@pytest.mark.process
def test_help_imports_no_process() -> None:
    code = (
        "import sys; from functions.cli import main; main(['--help']); "
        "print([m for m in sys.modules if m in {'kafka', 'sqlalchemy', 'starlette', 'flask', 'httpx'}])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )

    assert found.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", ["worker", "controller"])
def test_a_process_starts_without_the_libraries_of_the_command_line(verb: str) -> None:
    code = (
        "import sys; from functions.__main__ import main; "
        f"sys.argv[1:] = [{verb!r}]; status = main([{verb!r}]); "
        "assert 'typer' not in sys.modules; sys.exit(status)"
    )
    environment = {"PATH": "", "PICKSPIN_WORKER_PORT": "x", "PICKSPIN_CONTROLLER_PORT": "x"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("pickspin: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


READ = sorted({process.module for process in PROCESSES.values()} | {"functions.worker.main"})


@pytest.mark.parametrize("module", READ)
def test_a_process_reads_no_library_of_a_screen(module: str) -> None:
    code = (
        "import importlib, sys; from functions.runtime.shutdown import speed_up_imports\n"
        f"with speed_up_imports(): importlib.import_module({module!r})\n"
        "print(sorted({'typer', 'rich', 'pygments'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_worker_without_a_service_says_what_it_needs() -> None:
    command = [sys.executable, "-m", "functions", "worker"]
    done = subprocess.run(command, env={"PATH": ""}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "pickspin: which service? give --service or set PICKSPIN_WORKER_SERVICE\n"


def test_models_lists_every_name_that_can_be_asked_for(url, capsys) -> None:
    assert main(["models", "--url", url]) == 0
    shown = capsys.readouterr().out
    assert "tiny (simulated)" in shown
    assert "auto (the best of all)" in shown
    assert "gpt-4o (alias of tiny)" in shown


def test_every_summary_of_the_verbs_fits_eighty_columns(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0
    shown = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("Usage")]
    assert [line for line in shown if line.endswith("...")] == []


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (["up", "--prot"], "(pickspin up --help)"),
        (["request", "req_1"], "(pickspin request --help)"),
    ],
)
def test_a_slip_of_the_pen_points_to_the_help_of_its_verb(given, hint, capsys):
    assert main(given) == 2
    assert capsys.readouterr().err.rstrip().endswith(hint)
