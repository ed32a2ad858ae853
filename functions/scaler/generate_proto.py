"""Generates the protobuf module of `externalscaler.proto`.

Usage: `python -m functions.scaler.generate_proto [DIRECTORY]`.

Needs the test extra (grpcio-tools).
`make schemas` runs it; a test compares what is committed with what it makes.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
PROTO: Final = HERE / "externalscaler.proto"


def generate(into: Path) -> None:
    """Writes `externalscaler_pb2.py` and `.pyi` into a directory.

    Raises:
        subprocess.CalledProcessError: protoc refused the file.
    """
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{HERE}"]
    outputs = [f"--python_out={into}", f"--pyi_out={into}", PROTO.name]
    subprocess.run([*command, *outputs], check=True)  # noqa: S603 - our own command line


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
