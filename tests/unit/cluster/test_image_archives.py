"""Images made without an engine: what is in them, and that the same files give the same archive."""

import hashlib
import importlib.util
import io
import json
import os
import sys
import tarfile
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "cluster" / "lane" / "image_archive.py"


@pytest.fixture(scope="module")
def archives():
    spec = importlib.util.spec_from_file_location("image_archive", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def image(archives, tmp_path):
    folder = tmp_path / "site"
    (folder / "package").mkdir(parents=True)
    (folder / "package" / "module.py").write_text("x = 1\n", encoding="utf-8")
    entries = (
        archives.Entry("/tmp", mode=0o1777),
        archives.Entry("/opt/site", folder),
        archives.Entry("/usr/local/bin/program", text="#!/bin/sh\n", mode=0o755),
        archives.Entry("/usr/local/bin/link", link="program"),
    )
    return archives.Image(
        name="kind.local/one:abc", layers=(entries,), entrypoint=("program",), user="10001"
    )


def blobs_of(path):
    with tarfile.open(path) as tar:
        return {name: tar.extractfile(name).read() for name in tar.getnames()}


def test_an_archive_holds_what_its_manifest_names(archives, image, tmp_path):
    out = tmp_path / "images.tar"
    archives.write_archive(out, [image])
    blobs = blobs_of(out)
    for name, data in blobs.items():
        if name.startswith("blobs/"):
            assert hashlib.sha256(data).hexdigest() == name.rsplit("/", 1)[1]
    (entry,) = json.loads(blobs["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == "kind.local/one:abc"
    manifest = json.loads(blobs[f"blobs/sha256/{entry['digest'][7:]}"])
    config = json.loads(blobs[f"blobs/sha256/{manifest['config']['digest'][7:]}"])
    assert (config["config"]["User"], config["config"]["Entrypoint"]) == ("10001", ["program"])
    (layer,) = manifest["layers"]
    with tarfile.open(fileobj=io.BytesIO(blobs[f"blobs/sha256/{layer['digest'][7:]}"])) as tar:
        found = {member.name: member for member in tar}
    assert {"tmp", "opt/site/package/module.py", "usr/local/bin/program"} <= found.keys()
    assert found["tmp"].mode == 0o1777
    assert found["usr/local/bin/program"].mode == 0o755
    assert found["usr/local/bin/link"].linkname == "program"
    assert {(member.uid, member.mtime) for member in found.values()} == {(0, 0)}


def test_the_same_files_give_the_same_archive_whenever_they_were_written(archives, image, tmp_path):
    first, second = tmp_path / "first.tar", tmp_path / "second.tar"
    archives.write_archive(first, [image])
    for path in (tmp_path / "site").rglob("*"):
        os.utime(path, (1, 1))
    archives.write_archive(second, [image])
    assert blobs_of(first) == blobs_of(second)


def test_a_layer_of_two_images_is_there_once(archives, image, tmp_path):
    out = tmp_path / "images.tar"
    twin = archives.Image(name="kind.local/two:abc", layers=image.layers)
    archives.write_archive(out, [image, twin])
    index = json.loads(blobs_of(out)["index.json"])
    assert len(index["manifests"]) == 2
    with tarfile.open(out) as tar:
        names = tar.getnames()
    assert len(names) == len(set(names))
