"""The committed protobuf module is what protoc makes of our file, and speaks KEDA's numbers."""

import filecmp
from pathlib import Path

import pytest

from functions.scaler import externalscaler_pb2 as pb
from functions.scaler.generate_proto import HERE, generate

NAMES = ("externalscaler_pb2.py", "externalscaler_pb2.pyi")


def test_what_is_committed_is_what_protoc_makes(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="of the test extra")
    generate(tmp_path)

    _, differing, missing = filecmp.cmpfiles(HERE, tmp_path, NAMES, shallow=False)
    assert not differing + missing, "run `make schemas`"


@pytest.mark.parametrize(
    ("message", "encoded"),
    [
        (
            pb.ScaledObjectRef(name="n", namespace="s", scalerMetadata={"a": "b"}),
            b"\x0a\x01n\x12\x01s\x1a\x06\x0a\x01a\x12\x01b",
        ),
        (pb.IsActiveResponse(result=True), b"\x08\x01"),
        (
            pb.MetricSpec(metricName="m", targetSize=1, targetSizeFloat=1.0),
            b"\x0a\x01m\x10\x01\x19\x00\x00\x00\x00\x00\x00\xf0\x3f",
        ),
        (
            pb.GetMetricSpecResponse(metricSpecs=[pb.MetricSpec(metricName="m")]),
            b"\x0a\x03\x0a\x01m",
        ),
        (
            pb.GetMetricsRequest(scaledObjectRef=pb.ScaledObjectRef(name="n"), metricName="m"),
            b"\x0a\x03\x0a\x01n\x12\x01m",
        ),
        (
            pb.GetMetricsResponse(
                metricValues=[pb.MetricValue(metricName="m", metricValue=3, metricValueFloat=3.0)]
            ),
            b"\x0a\x0e\x0a\x01m\x10\x03\x19\x00\x00\x00\x00\x00\x00\x08\x40",
        ),
    ],
    ids=lambda found: type(found).__name__ if not isinstance(found, bytes) else "",
)
def test_messages_have_the_numbers_and_kinds_of_keda_s_contract(message, encoded: bytes) -> None:
    assert message.SerializeToString(deterministic=True) == encoded


def test_the_service_has_keda_s_name_and_methods() -> None:
    service = pb.DESCRIPTOR.services_by_name["ExternalScaler"]

    assert service.full_name == "externalscaler.ExternalScaler"
    assert [(method.name, method.server_streaming) for method in service.methods] == [
        ("IsActive", False),
        ("StreamIsActive", True),
        ("GetMetricSpec", False),
        ("GetMetrics", False),
    ]
