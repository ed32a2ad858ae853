"""`pickspin up`: the whole product on this machine."""

from enum import StrEnum
from typing import Annotated, Final

import msgspec
import typer

from functions.runtime.settings import Settings, load_settings

EXAMPLES: Final = """\b
Examples:
  pickspin up
  pickspin up --fleet demo --port 9000
  pickspin up --model tiny=./tiny.gguf --model big=http://127.0.0.1:8000/v1
  pickspin up --broker kafka --data-dir ./data
  pickspin up --bootstrap kafka-1:9092,kafka-2:9092
"""


class BrokerKind(StrEnum):
    EMBEDDED = "embedded"
    KAFKA = "kafka"


class Fleet(StrEnum):
    DEMO = "demo"


class Binding(StrEnum):
    HTTP = "http"
    LOG = "log"


def add_up(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(epilog=EXAMPLES)(up)


def up(  # noqa: PLR0913 - each parameter is an option of the command line
    *,
    broker: Annotated[
        BrokerKind | None,
        typer.Option(help="embedded (in memory), or kafka (java and mvn needed)."),
    ] = None,
    bootstrap: Annotated[
        str | None,
        typer.Option(
            envvar=["PICKSPIN_BOOTSTRAP", "PICKSPIN_BROKER_BOOTSTRAP"],
            show_envvar=False,
            help="host:port of a Kafka cluster that already runs.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Add a model: name=path.gguf or name=http://host/v1. Repeatable."),
    ] = None,
    fleet: Annotated[Fleet | None, typer.Option(help="demo: three simulated models.")] = None,
    catalogue: Annotated[str | None, typer.Option(help="Catalogue file.")] = None,
    router_binding: Annotated[
        Binding | None,
        typer.Option(help="How the router is fed: http (function) or log (consumer)."),
    ] = None,
    idle_s: Annotated[
        float | None, typer.Option(min=0, help="Seconds without work after which a model sleeps.")
    ] = None,
    data_dir: Annotated[str | None, typer.Option(help="Where store, files and logs lie.")] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to serve on. [default: 127.0.0.1]")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to serve on; 0: any. [default: 8080]")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON line for each change of state.")
    ] = False,
) -> int:
    """Serve on this machine, everything included.

    Broker, ingress, router, and models that start from zero at their first request.
    """
    from functions.local.main import run  # noqa: PLC0415 - rich, kafka: not needed by other verbs
    from functions.local.preflight import BrokerChoice, UpOptions  # noqa: PLC0415

    if bootstrap is not None and broker is not None:
        raise typer.BadParameter("--broker and --bootstrap (PICKSPIN_BOOTSTRAP) exclude each other")
    settings = _apply_options(
        load_settings(),
        {
            "": {"catalogue": catalogue, "data_dir": data_dir},
            "broker": {"bootstrap": bootstrap},
            "ingress": {"host": host, "port": port},
            "router": {"binding": router_binding and router_binding.value},
            "spin": {"idle_s": idle_s},
        },
    )
    chosen: BrokerChoice = "embedded" if bootstrap is None else "external"
    if broker is not None:
        chosen = "kafka" if broker is BrokerKind.KAFKA else "embedded"
    options = UpOptions(
        broker=chosen,
        models=tuple(model or ()),
        fleet=fleet and fleet.value,
        is_json=as_json,
    )
    return run(settings, options)


def _apply_options(settings: Settings, changes: dict[str, dict[str, object]]) -> Settings:
    """Settings with every option that was given put in its group ("" is the top)."""
    for group, options in changes.items():
        given = {name: value for name, value in options.items() if value is not None}
        if not given:
            continue
        if group:
            given = {group: msgspec.structs.replace(getattr(settings, group), **given)}
        settings = msgspec.structs.replace(settings, **given)
    return settings
