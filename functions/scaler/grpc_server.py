"""The gRPC server of the external scaler. Generic handlers make generated stubs unnecessary."""

from collections.abc import Callable
from typing import Any, Final

import grpc

from functions.runtime.errors import StartupFailed
from functions.scaler import externalscaler_pb2 as pb
from functions.scaler.external_scaler import ExternalScaler

SERVICE: Final = "externalscaler.ExternalScaler"
OPTIONS: Final = (
    # A stream whose client vanished without a word is found out and ended.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # KEDA's messages are small: a trigger's metadata is the largest part.
    ("grpc.max_receive_message_length", 64 * 1024),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.so_reuseport", 0),
)


def build_handlers(scaler: ExternalScaler) -> grpc.GenericRpcHandler:
    """The service's methods by name, with their messages."""
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "IsActive": _unary(scaler.is_active, pb.ScaledObjectRef),
            "StreamIsActive": grpc.unary_stream_rpc_method_handler(
                scaler.stream_is_active,
                request_deserializer=pb.ScaledObjectRef.FromString,
                response_serializer=_bytes,
            ),
            "GetMetricSpec": _unary(scaler.get_metric_spec, pb.ScaledObjectRef),
            "GetMetrics": _unary(scaler.get_metrics, pb.GetMetricsRequest),
        },
    )


def _unary(method: Callable[..., Any], takes: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        method, request_deserializer=takes.FromString, response_serializer=_bytes
    )


def _bytes(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


class GrpcServer:
    """Listens on one address. `close` lets calls finish."""

    def __init__(self, scaler: ExternalScaler) -> None:
        self._scaler = scaler
        self._server = grpc.aio.server(options=OPTIONS)
        self._server.add_generic_rpc_handlers((build_handlers(scaler),))

    async def start(self, host: str, port: int) -> int:
        """Listens and returns the port (`port` 0: one that the system chose).

        Raises:
            StartupFailed: the address cannot be bound.
        """
        try:
            bound: int = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise StartupFailed(f"cannot listen on {host}:{port} (gRPC)") from error
        await self._server.start()
        return bound

    async def close(self, drain_s: float) -> None:
        """Finishes the streams, refuses new calls, waits at most `drain_s` for open ones."""
        self._scaler.close()
        await self._server.stop(drain_s)
