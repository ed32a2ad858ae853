"""Weights that a job fetches: pinned, verified, kept once for all replicas."""

import subprocess
import sys
from pathlib import Path

import pytest

from router_model.catalogue.loader import load_catalogue
from tests.chart.manifests import (
    catalogue,
    container_of,
    environment,
    named,
    of_kind,
    pod_of,
    service,
)

PROGRAM = Path(__file__).parents[2] / "knative" / "files" / "keep_weights.py"
HUB = f"hf://org/model@{'a' * 40}"
IMAGE = f"oci://registry.example/models/m@sha256:{'b' * 64}"
HASH = "d" * 64


def values(source, **knative):
    found = catalogue(service())
    found["global"]["catalogue"]["models"][0]["weights"] = source
    return found | {"knative": knative}


def job_of(docs):
    return next(doc for doc in of_kind(docs, "Job") if "-weights-" in doc["metadata"]["name"])


def fetching(docs):
    return job_of(docs)["spec"]["template"]["spec"]["initContainers"][0]


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ({"source": HUB}, {"REPOSITORY": "org/model", "REVISION": "a" * 40}),
        ({"source": IMAGE}, {"REFERENCE": IMAGE.removeprefix("oci://")}),
        ({"source": "s3://bucket/m", "sha256": HASH}, {"SOURCE": "s3://bucket/m"}),
        ({"source": "pvc://claim/a/b", "sha256": HASH}, {"SOURCE_DIR": "/source/a/b"}),
        ({"source": "pvc://claim", "sha256": HASH}, {"SOURCE_DIR": "/source"}),
    ],
)
def test_each_kind_of_source_is_fetched_as_it_is_pinned(render, weights, told):
    given = environment(fetching(render(values(weights))))
    assert told.items() <= given.items()
    assert given["SHA256"] == weights.get("sha256", "")


def test_replicas_read_what_the_job_keeps(render):
    docs = render(values({"source": HUB, "file": "sub/model.gguf"}))
    kept = environment(job_of(docs)["spec"]["template"]["spec"]["containers"][0])
    path = environment(container_of(docs, "m", "model"))["MODEL_PATH"]
    assert path == f"{kept['TARGET']}/{kept['FILE']}"
    mine = next(v for v in pod_of(docs, "m")["volumes"] if v["name"] == "models")
    theirs = next(
        v for v in job_of(docs)["spec"]["template"]["spec"]["volumes"] if v["name"] == "models"
    )
    claim = theirs["persistentVolumeClaim"]["claimName"]
    assert mine["persistentVolumeClaim"] == {"claimName": claim, "readOnly": True}
    assert named(docs, "PersistentVolumeClaim", claim)


def test_another_revision_is_another_path_and_another_job(render):
    found = [render(values({"source": f"hf://org/model@{digit * 40}"})) for digit in "ab"]
    paths = {environment(container_of(docs, "m", "model"))["MODEL_PATH"] for docs in found}
    assert len(paths) == 2
    assert len({job_of(docs)["metadata"]["name"] for docs in found}) == 2


def test_the_services_of_a_model_share_its_weights(render):
    found = values({"source": HUB})
    found["global"]["catalogue"]["services"].append(service(slug="second", gpu="none"))
    docs = render(found)
    paths = {
        environment(container_of(docs, slug, "model"))["MODEL_PATH"] for slug in ("m", "second")
    }
    assert len(paths) == 1
    assert len([job for job in of_kind(docs, "Job") if "-weights-" in job["metadata"]["name"]]) == 1


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({"source": "hf://org/model@main"}, "is not pinned or not known"),
        ({"source": "http://x/y"}, "is not pinned or not known"),
        ({"source": "s3://bucket/m"}, "weights.sha256 is needed"),
        ({"source": HUB, "path": "/x"}, "exactly one of"),
    ],
)
def test_the_chart_refuses_what_the_loader_refuses(render, weights, reason):
    with pytest.raises(Exception, match=reason):
        render(values(weights))
    with pytest.raises(Exception, match=r"source|path|sha256"):
        load_catalogue(
            f"models: [{{id: m, weights: {weights}}}]\n"
            "services: [{model: m, backend: {kind: vllm}}]"
        )


def test_a_volume_needs_no_storage_class(render):
    docs = render(values({"source": HUB}, weights={"volume": {"hostPath": "/srv/models"}}))
    volume = next(
        doc for doc in of_kind(docs, "PersistentVolume") if "weights" in doc["metadata"]["name"]
    )
    claim = named(docs, "PersistentVolumeClaim", volume["spec"]["claimRef"]["name"])
    assert volume["spec"]["hostPath"]["path"].startswith("/srv/models/")
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    assert claim["spec"]["storageClassName"] == volume["spec"]["storageClassName"] == ""


def test_a_local_volume_is_tied_to_its_node(render):
    given = {"volume": {"hostPath": "/srv/models", "node": "gpu-1"}}
    docs = render(values({"source": HUB}, weights=given))
    (volume,) = of_kind(docs, "PersistentVolume")
    assert "local" in volume["spec"]
    assert "gpu-1" in str(volume["spec"]["nodeAffinity"])


def test_the_data_claim_can_be_the_releases_own(render):
    docs = render({"global": {"dataVolume": {"create": True, "hostPath": "/srv/pickspin"}}})
    assert named(docs, "PersistentVolumeClaim", "pickspin-data")
    (volume,) = of_kind(docs, "PersistentVolume")
    assert volume["spec"]["hostPath"]["path"] == "/srv/pickspin/pickspin-data"


# --- the program in the job ---


@pytest.fixture
def fetched(tmp_path):
    incoming = tmp_path / "incoming"
    (incoming / "sub").mkdir(parents=True)
    (incoming / ".cache").mkdir()
    (incoming / "config.json").write_text("{}", encoding="utf-8")
    (incoming / "sub" / "model.gguf").write_bytes(b"weights")
    (incoming / ".cache" / "lock").write_text("tool's own", encoding="utf-8")
    return incoming


def run(verb, tmp_path, *, sha256="", file="", source_dir=""):
    environ = {
        "INCOMING": str(tmp_path / "incoming"),
        "TARGET": str(tmp_path / "kept"),
        "SOURCE": HUB,
        "SHA256": sha256,
        "FILE": file,
        "SOURCE_DIR": str(source_dir),
    }
    return subprocess.run(
        [sys.executable, PROGRAM, verb], env=environ, capture_output=True, text=True, check=False
    )


def hash_by_shell(directory):
    command = "find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum"
    return subprocess.check_output(["sh", "-c", command], cwd=directory, text=True).split()[0]


def test_what_was_fetched_is_kept_under_its_name(tmp_path, fetched):
    wanted = hash_by_shell(fetched)
    done = run("keep", tmp_path, sha256=wanted, file="sub/model.gguf")
    assert done.returncode == 0, done.stderr
    assert wanted in done.stdout
    assert (tmp_path / "kept" / "sub" / "model.gguf").read_bytes() == b"weights"
    assert not fetched.exists()


def test_weights_that_are_not_those_of_the_catalogue_are_never_kept(tmp_path, fetched):
    found = hash_by_shell(fetched)
    done = run("keep", tmp_path, sha256=HASH)
    assert done.returncode == 1
    assert found in done.stderr
    assert not (tmp_path / "kept").exists()
    assert not fetched.exists()


def test_a_file_that_the_server_needs_has_to_be_there(tmp_path, fetched):
    done = run("keep", tmp_path, file="other.gguf")
    assert done.returncode == 1
    assert "has no file other.gguf" in done.stderr
    assert not (tmp_path / "kept").exists()


def test_nothing_fetched_is_nothing_kept(tmp_path):
    done = run("keep", tmp_path)
    assert done.returncode == 1
    assert "nothing was fetched" in done.stderr


def test_what_is_kept_stays_as_it_is(tmp_path, fetched):
    assert run("keep", tmp_path).returncode == 0
    fetched.mkdir()
    (fetched / "config.json").write_text("other", encoding="utf-8")
    assert run("keep", tmp_path).returncode == 0
    assert (tmp_path / "kept" / "config.json").read_text(encoding="utf-8") == "{}"


def test_a_volume_is_copied_whole_or_again(tmp_path, fetched):
    source = tmp_path / "volume"
    fetched.rename(source)
    fetched.mkdir()
    (fetched / "half").write_text("of an earlier copy", encoding="utf-8")
    assert run("copy", tmp_path, source_dir=source).returncode == 0
    assert run("keep", tmp_path, sha256=hash_by_shell(source)).returncode == 0
    assert not (tmp_path / "kept" / "half").exists()
    assert run("copy", tmp_path, source_dir=source).stdout.endswith("is there\n")
