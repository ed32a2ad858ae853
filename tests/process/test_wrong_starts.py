"""What cannot work is refused at the start: one plain sentence that names what is wrong, and exit status 1."""

import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from functions.local.preflight import LOCK_FILE, hold_lock

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]
BOUND_S = 60.0
"""Ten seconds are promised; a machine may be several times slower than one that has nothing else to do."""
SECRET = "5ecret-of-somebody"


LLAMA = """
models: [{id: tiny, weights: {path: /tmp/tiny.gguf}}]
services: [{model: tiny, backend: {kind: llamacpp, args: {ARGS}}}]
"""


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a person types, and a part of the sentence that tells them what is wrong with it."""

    says: str
    arguments: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    """Written below the folder of the test, `{here}` in everything else."""


def setting(name: str, value: str, says: str) -> Start:
    return Start(environ={name: value}, says=says)


def catalogue(text: str, says: str) -> Start:
    return Start(
        files={"catalogue.yaml": text},
        arguments=("--catalogue", "{here}/catalogue.yaml"),
        says=says,
    )


STARTS: Mapping[str, Start] = {
    # Settings
    "classifier": setting("PICKSPIN_ROUTER_CLASSIFIER", "foo", "ROUTER_CLASSIFIER.*keyword.*foo"),
    "keys": setting("PICKSPIN_API_KEYS", SECRET, "PICKSPIN_API_KEYS.*tenant=key"),
    "same key twice": setting(
        "PICKSPIN_API_KEYS", f"one={SECRET},two={SECRET}", "PICKSPIN_API_KEYS.*same key"
    ),
    "store": setting("PICKSPIN_STORE_URL", "bogus://", "PICKSPIN_STORE_URL"),
    "unreachable store": setting(
        "PICKSPIN_STORE_URL",
        "sqlite:////no/such/folder/x.db",
        "PICKSPIN_STORE_URL.*/no/such/folder",
    ),
    "no database server": setting(
        "PICKSPIN_STORE_URL",
        f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/x",
        "PICKSPIN_STORE_URL.*127.0.0.1 port 1 .Connection refused",
    ),
    "number": setting("PICKSPIN_IDLE_S", "abc", "PICKSPIN_IDLE_S.*number.*abc"),
    "negative number": setting(
        "PICKSPIN_WORKER_DRAIN_S", "-1", "PICKSPIN_WORKER_DRAIN_S.*at least 0.*-1"
    ),
    "no number at all": setting("PICKSPIN_SPIN_POLL_S", "nan", "PICKSPIN_SPIN_POLL_S.*nan"),
    "count": setting("PICKSPIN_BROKER_PARTITIONS", "0", "PICKSPIN_BROKER_PARTITIONS"),
    "misspelt": setting("PICKSPIN_IDEL_S", "20", "PICKSPIN_IDEL_S.*mean PICKSPIN_IDLE_S"),
    "misspelt group": setting(
        "PICKSPIN_WORKR_MAX_ATTEMPTS", "20", "mean PICKSPIN_WORKER_MAX_ATTEMPTS"
    ),
    "yes or no": setting("PICKSPIN_STORE_KEEP_PROMPTS", "perhaps", "STORE_KEEP_PROMPTS.*true"),
    "log level": setting("PICKSPIN_LOG_LEVEL", "LOUD", "PICKSPIN_LOG_LEVEL.*WARNING.*LOUD"),
    "schedule": setting("PICKSPIN_CALLBACKS_SCHEDULE_S", "0,soon", "CALLBACKS_SCHEDULE_S"),
    "two at once": Start(
        environ={"PICKSPIN_IDLE_S": "abc", "PICKSPIN_STORE_REAP_S": "def"},
        says="PICKSPIN_IDLE_S.*PICKSPIN_STORE_REAP_S",
    ),
    "open without keys": setting("PICKSPIN_HOST", "0.0.0.0", "PICKSPIN_API_KEYS"),
    "weights": setting("PICKSPIN_ROUTER_WEIGHTS", "/no/weights", "ROUTER_WEIGHTS.*/no/weights"),
    # Files
    "no catalogue": Start(arguments=("--catalogue", "{here}/gone.yaml"), says="gone.yaml"),
    "catalogue is a folder": Start(arguments=("--catalogue", "{here}"), says="{here}"),
    "catalogue is no YAML": catalogue("models: [", "catalogue"),
    "catalogue with an unknown word": catalogue("modles: []", "modles.*models"),
    "server without such a flag": catalogue(
        LLAMA.replace("ARGS", "n_gpu_layer: 9"), "backend.args.n_gpu_layer .*'n_gpu_layers'"
    ),
    "flag of a pod alone": catalogue(LLAMA.replace("ARGS", "lora: x"), "backend.args.lora: "),
    "data directory is a file": Start(
        files={"data": ""}, arguments=("--data-dir", "{here}/data"), says="{here}/data"
    ),
    "data directory that nobody can make": Start(
        arguments=("--data-dir", "/proc/none"), says="/proc/none"
    ),
    "store is no database": Start(
        files={"data/store.sqlite3": "no database " * 100}, says="store.sqlite3"
    ),
    # Ports
    "router's port is the ingress's": Start(
        environ={"PICKSPIN_ROUTER_PORT": "{free}", "PICKSPIN_PORT": "{free}"},
        says="PICKSPIN_ROUTER_PORT",
    ),
    "port beyond": setting("PICKSPIN_PORT", "99999", "PICKSPIN_PORT.*65535"),
    "host of somebody else": setting("PICKSPIN_ROUTER_HOST", "192.0.2.1", "192.0.2.1"),
    "router's port is taken": setting("PICKSPIN_ROUTER_PORT", "{taken}", "PICKSPIN_ROUTER_PORT"),
    "port is taken": setting("PICKSPIN_PORT", "{taken}", "PICKSPIN_PORT"),
    # Brokers
    "nobody listens": Start(
        arguments=("--bootstrap", "127.0.0.1:1"), says="cannot reach Kafka at 127.0.0.1:1"
    ),
    "listens, but is no broker": Start(
        environ={"PICKSPIN_BROKER_REACH_S": "2"},
        arguments=("--bootstrap", "127.0.0.1:{taken}"),
        says="cannot reach Kafka at 127.0.0.1:",
    ),
    "no such host": Start(
        environ={"PICKSPIN_BROKER_REACH_S": "2"},
        arguments=("--bootstrap", "kafka.invalid:9092"),
        says="cannot reach Kafka at kafka.invalid",
    ),
    "no port": Start(arguments=("--bootstrap", "127.0.0.1"), says="host:port"),
    "no certificates": setting("PICKSPIN_BROKER_SSL_CAFILE", "/no/ca.pem", "/no/ca.pem"),
    "security": setting("PICKSPIN_BROKER_SECURITY_PROTOCOL", "TLS", "SECURITY_PROTOCOL.*SASL_SSL"),
    "no java": Start(arguments=("--broker", "kafka"), environ={"PATH": "{here}"}, says="java"),
    # Models
    "no model file": Start(arguments=("--model", "tiny={here}/gone.gguf"), says="gone.gguf"),
    "not a model file": Start(
        files={"text.gguf": "once upon a time"},
        arguments=("--model", "tiny={here}/text.gguf"),
        says="text.gguf.*GGUF",
    ),
    "no model": Start(arguments=("--model", "tiny"), says="name=path.gguf"),
    "no host of a model": Start(arguments=("--model", "tiny=http:///v1"), says="http:///v1"),
}


@contextmanager
def somebody_listening() -> Iterator[int]:
    """A port that takes connections, and says nothing."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def up(start: Start, filled: Callable[[str], str]) -> subprocess.CompletedProcess[str]:
    clean = {name: text for name, text in os.environ.items() if "PICKSPIN" not in name}
    said = {name: filled(text) for name, text in start.environ.items()}
    return subprocess.run(
        [sys.executable, "-m", "functions", "up", *map(filled, start.arguments)],
        env=clean | {"PICKSPIN_PORT": "0", "PICKSPIN_DATA_DIR": filled("{here}/data")} | said,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a start ended, in whose folder, and what it should have said."""

    how: subprocess.CompletedProcess[str]
    folder: Path
    says: str


def ended_in(start: Start, folder: Path) -> Ended:
    for path, text in start.files.items():
        file = folder / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    with somebody_listening() as taken, socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound and not listening: nobody else is given it meanwhile
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port = free.getsockname()[1]

        def filled(text: str) -> str:
            found = text.replace("{here}", str(folder)).replace("{taken}", str(taken))
            return found.replace("{free}", str(port))

        return Ended(how=up(start, filled), folder=folder, says=filled(start.says))


@pytest.mark.parametrize("name", STARTS)
def test_a_wrong_start_is_refused_in_a_sentence(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = ended_in(STARTS[name], tmp_path_factory.mktemp("start"))
    ended, folder, start = found.how, found.folder, STARTS[name]
    assert ended.returncode == 1, ended
    assert re.fullmatch(r"pickspin: [^\n]+\n", ended.stderr), ended
    assert re.search(found.says, ended.stderr), ended
    assert len(ended.stderr) < 500, ended
    for unwanted in (SECRET, "Traceback", "Error(", "Errno"):
        assert unwanted not in ended.stderr + ended.stdout
    is_of_the_broker = "cannot reach Kafka" in start.says
    assert is_of_the_broker or {path.name for path in (folder / "data" / "logs").glob("*.log")} <= {
        "up.log"
    }


def test_the_data_directory_of_another_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with hold_lock(tmp_path / "data"):
        held = (tmp_path / "data" / LOCK_FILE).read_text()

        ended = up(Start(says=""), lambda text: text.replace("{here}", str(tmp_path)))

        assert (tmp_path / "data" / LOCK_FILE).read_text() == held
    assert ended.returncode == 1
    assert re.fullmatch(r"pickspin: another [^\n]+ \(pid \d+\)[^\n]+\n", ended.stderr), ended


def test_a_process_that_never_starts_ends_the_start_with_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with closing(sqlite3.connect(tmp_path / "data" / "store.sqlite3")) as store, store:
        store.execute("create table schema_version (version integer)")
        store.execute("insert into schema_version values (999)")

    ended = up(Start(says=""), lambda text: text.replace("{here}", str(tmp_path)))

    assert ended.returncode == 1
    assert re.fullmatch(
        r"pickspin: the \w+ does not start: the store has schema version 999, [^\n]+\n",
        ended.stderr,
    ), ended
