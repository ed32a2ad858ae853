"""`kafka_source.py WORK STATE`: images and manifests of KafkaSource and KafkaSink, as `kafka-source-up` built them."""

import sys
from pathlib import Path

from image_archive import Entry, Image, write_archive
from render_manifests import Object, objects, write
from shared_libraries import FOLDER, glibc

CONTROL_PLANE = ("100-broker", "100-channel", "100-kafka-internal", "100-sink", "100-source")
EVENTING_KINDS = ("broker", "trigger", "channel", "subscription", "eventpolicy")
JAVA_PROGRAMS = ("dispatcher", "receiver")
JAVA_LIBRARIES = ("libz.so.1", "libstdc++.so.6", "libgcc_s.so.1")


def images(work: Path) -> list[Image]:
    libraries = [
        Entry(f"{FOLDER}/{name}", Path(FOLDER, name), mode=0o755) for name in JAVA_LIBRARIES
    ]
    runtime = (Entry("/tmp", mode=0o1777), *glibc(), *libraries, Entry("/jre", work / "jre"))
    controller = (Entry("/kafka-controller", work / "kafka-controller", mode=0o755),)
    java = [
        Image(
            name=f"kind.local/kafka-{name}:dev",
            layers=(runtime, (Entry("/app.jar", work / f"{name}.jar", mode=0o644),)),
            entrypoint=("/jre/bin/java", "-jar", "/app.jar"),
        )
        for name in JAVA_PROGRAMS
    ]
    return [
        *java,
        Image(
            name="kind.local/kafka-controller:dev",
            layers=(controller,),
            entrypoint=("/kafka-controller",),
        ),
    ]


def adapted(item: Object) -> Object:
    """An object of upstream's without its webhook, with the lane's images and small requests."""
    if item["kind"] == "CustomResourceDefinition":
        item["spec"].pop("conversion", None)  # its webhook is not installed here
    if item["kind"] not in {"Deployment", "StatefulSet"}:
        return item
    spec = item["spec"]["template"]["spec"]
    spec.pop("affinity", None)
    spec.pop("topologySpreadConstraints", None)
    container = spec["containers"][0]
    container["resources"] = {
        "requests": {"cpu": "10m", "memory": "50Mi"},
        "limits": {"memory": "900Mi"},
    }
    for probe in ("readinessProbe", "livenessProbe"):
        if probe in container:
            quick = {"initialDelaySeconds": 2, "periodSeconds": 1, "failureThreshold": 60}
            container[probe].update(quick)
    name = item["metadata"]["name"]
    found = next((program for program in JAVA_PROGRAMS if program in name), "controller")
    container["image"] = f"kind.local/kafka-{found}:dev"
    if (
        found == "dispatcher"
    ):  # upstream's pod webhook adds this volume; one dispatcher is enough here
        item["spec"]["replicas"] = 1
        contract = {"name": "kafka-source-dispatcher-0", "optional": True}
        spec["volumes"].append({"name": "contract-resources", "configMap": contract})
    return item


def main(work: Path, state: Path) -> None:
    archive = work / "images.tar"
    newest = max((work / name).stat().st_mtime for name in ("kafka-controller", "receiver.jar"))
    if not archive.exists() or archive.stat().st_mtime < newest:
        write_archive(archive, images(work))
    kinds = [f"eventing/resources/{kind}.yaml" for kind in EVENTING_KINDS]
    found = objects(
        work / "upstream",
        "eventing/100-namespace.yaml",
        "eventing/configmaps/*.yaml",
        "eventing/roles/*.yaml",
        *kinds,
        *(f"control-plane/{name}/*.yaml" for name in (*CONTROL_PLANE, "200-controller")),
        "data-plane/source/*.yaml",
        "data-plane/sink/*.yaml",
    )
    items = [adapted(item) for item in found]
    first = [item for item in items if item["kind"] in {"CustomResourceDefinition", "Namespace"}]
    write(state, "kafka-source-0.json", first)
    write(state, "kafka-source-1.json", [item for item in items if item not in first])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
