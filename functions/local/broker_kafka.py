"""Apache Kafka on this machine: one KRaft node from Maven coordinates, durable, loopback only.

`pickspin up --broker kafka` keeps it as a child; tests use `start_kafka`. Needs `java` (17 or newer) and `mvn`.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

from functions.runtime.errors import StartupFailed

KAFKA_VERSION: Final = "4.3.1"
LOG4J_VERSION: Final = "2.25.4"
"""The logging that this Kafka brings, for the binding that it does not bring."""
MAVEN_S: Final = 600.0
MAVEN_TRIES: Final = 3
FORMAT_S: Final = 60.0
START_S: Final = 60.0
STOP_S: Final = 20.0
CLUSTER_ID: Final = "cGlja3NwaW4tbG9jYWwtMQ"
"""22 characters of URL-safe base64: what the storage tool accepts. One data directory is one cluster."""
HEAP: Final = ("-Xms256m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
LOOPBACK: Final = "127.0.0.1"

_POM: Final = Template("""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>pickspin</groupId>
  <artifactId>local-kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>$kafka</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>$log4j</version>
    </dependency>
  </dependencies>
</project>
""")
_COPY: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
"""In full: its short name is one more thing to fetch, and means another version every year."""
_LOGGING: Final = """\
status = error
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d %p %c: %m%n
rootLogger.level = warn
rootLogger.appenderRef.stderr.ref = stderr
"""
_SERVER: Final = Template("""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@$host:$controller_port
listeners=PLAINTEXT://$host:$port,CONTROLLER://$host:$controller_port
advertised.listeners=PLAINTEXT://$host:$port
controller.listener.names=CONTROLLER
log.dirs=$data
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
message.max.bytes=1048576
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=16777216
group.initial.rebalance.delay.ms=0
group.coordinator.append.linger.ms=0
group.min.session.timeout.ms=1000
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
offsets.retention.minutes=129600
transaction.state.log.num.partitions=2
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaLaunch:
    """A formatted node that only has to be started: its command, and the address it will answer on."""

    command: tuple[str, ...]
    bootstrap: str
    log: Path


class KafkaHandle:
    """A Kafka process for tests: `bootstrap`, `kill` it, `start` it again on the same port and data, `stop` it."""

    def __init__(self, launch: KafkaLaunch) -> None:
        self.bootstrap = launch.bootstrap
        self._launch = launch
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the running broker; None while there is none."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Starts it and waits until it accepts connections. Call from the main thread: it dies with that thread.

        Raises:
            StartupFailed: it ended, or did not listen in time; names its log.
        """
        with self._launch.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                bound_command(self._launch),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline_s = time.monotonic() + START_S
        while not _accepts(self.bootstrap):
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                self.kill()
                raise StartupFailed(f"Kafka did not start: see {self._launch.log}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Shuts it down cleanly, or kills it when that takes too long. Idempotent."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """SIGKILL: what a crash looks like. Idempotent."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_S)
            self._process = None


def start_kafka(directory: Path, port: int = 0) -> KafkaHandle:
    """Prepares and starts a broker whose records lie in `directory`; `port` 0 takes a free one.

    Raises:
        StartupFailed: java or mvn is missing, Maven cannot resolve Kafka, or it does not start.
    """
    handle = KafkaHandle(prepare(directory, port=port))
    handle.start()
    return handle


def prepare(directory: Path, *, port: int = 0, libraries: Path | None = None) -> KafkaLaunch:
    """Fetches the jars (once a machine), writes the configuration, formats the storage (once a directory). Blocks.

    Args:
        directory: where records, configuration and log lie; created when missing.
        port: of the listener; 0 takes a free one. The controller's is always a free one.
        libraries: where the jars are kept; None: the user's cache directory.

    Raises:
        StartupFailed: java or mvn is missing, or one of them failed.
    """
    java = _tool("java")
    jars = ensure_jars(libraries or Path.home() / ".cache" / "pickspin" / f"kafka-{KAFKA_VERSION}")
    directory.mkdir(parents=True, exist_ok=True)
    data = directory.resolve() / "data"
    chosen, controller = _free_ports(port)
    values = {"host": LOOPBACK, "port": chosen, "controller_port": controller, "data": data}
    properties, logging = directory / "server.properties", directory / "log4j2.properties"
    properties.write_text(_SERVER.substitute(values), encoding="utf-8")
    logging.write_text(_LOGGING, encoding="utf-8")
    run_java = (java, *HEAP, f"-Dlog4j2.configurationFile={logging}", "-cp", f"{jars}/*")
    if not (data / "meta.properties").exists():
        formatting = (*run_java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID)
        _run((*formatting, "-c", str(properties)), FORMAT_S, "formatting Kafka's storage")
    return KafkaLaunch(
        command=(*run_java, "kafka.Kafka", str(properties)),
        bootstrap=f"{LOOPBACK}:{chosen}",
        log=directory / "kafka.log",
    )


def bound_command(launch: KafkaLaunch) -> tuple[str, ...]:
    """The command that starts the broker and shuts it down cleanly when this process's main thread is gone."""
    binding = ("-m", "functions.local.parent_bound", str(os.getpid()), str(int(signal.SIGTERM)))
    return (sys.executable, *binding, *launch.command)


def ensure_jars(libraries: Path) -> Path:
    """The directory of Kafka's jars, filled by Maven when it is not there yet.

    Raises:
        StartupFailed: mvn is missing or cannot resolve them.
    """
    if libraries.is_dir():
        return libraries
    maven = _tool("mvn")
    libraries.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=libraries.parent) as scratch:
        pom, jars = Path(scratch) / "pom.xml", Path(scratch) / "jars"
        text = _POM.substitute(kafka=KAFKA_VERSION, log4j=LOG4J_VERSION)
        pom.write_text(text, encoding="utf-8")
        scope = (f"-DoutputDirectory={jars}", "-DincludeScope=runtime")
        command = (maven, "-B", "-q", "-Dstyle.color=never", *scope, "-f", str(pom), _COPY)
        _fetch(command)
        with contextlib.suppress(FileExistsError, OSError):
            # Another process may have been first; the content is the same.
            jars.rename(libraries)
    return libraries


def _fetch(command: tuple[str, ...]) -> None:
    """Runs Maven, and again where a transfer broke off: it remembers failures for a day unless told -U.

    All tries together have `MAVEN_S`.
    """
    what = f"fetching Kafka {KAFKA_VERSION} with Maven"
    give_up_s = time.monotonic() + MAVEN_S
    for number in range(1, MAVEN_TRIES + 1):
        try:
            _run(command, give_up_s - time.monotonic(), what)
        except StartupFailed:
            if number == MAVEN_TRIES or time.monotonic() >= give_up_s:
                raise
            command = (*command, "-U")
        else:
            return


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise StartupFailed(
            f"Apache Kafka needs `{name}` on the PATH (Debian: apt-get install default-jre-headless maven); "
            "without it use the embedded broker, or --bootstrap host:port"
        )
    return path


def _run(command: Iterable[str], timeout_s: float, what: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - our own command line
            tuple(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired as error:
        raise StartupFailed(f"{what} took more than {timeout_s:.0f} s") from error
    if done.returncode != 0:
        raise StartupFailed(f"{what} failed: {_reason(done.stdout + done.stderr)}")


def _reason(output: str) -> str:
    """The first line that says ERROR, else the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    first_error = next((line for line in lines if "ERROR" in line), None)
    return first_error or (lines[-1] if lines else "no output")


def _free_ports(port: int) -> tuple[int, int]:
    """The listener's port (free when `port` is 0) and another free one."""
    with socket.socket() as first, socket.socket() as second:
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            first.bind((LOOPBACK, port))
        except OSError as error:
            raise StartupFailed(f"Kafka cannot listen on port {port}: {error.strerror}") from error
        second.bind((LOOPBACK, 0))
        return first.getsockname()[1], second.getsockname()[1]


def _accepts(bootstrap: str) -> bool:
    host, _, port = bootstrap.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1.0):
            return True
    except OSError:
        return False
