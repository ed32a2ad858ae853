"""Two clients that meet a response together leave behind a decoder that makes objects, not one that raises for ever."""

import threading

import pytest
from kafka.protocol.metadata import MetadataResponse
from kafka.protocol.schemas.fields.struct import StructField

from functions.kafka.kafka_python_patches import compile_one_at_a_time

VERSION = 12
PATIENCE_S = 0.5


@pytest.fixture
def overlapping(monkeypatch):
    """The first thread that emits code waits in the middle, with its class swapped in, for a second one to arrive."""
    second = threading.Event()
    emitting = []
    plain = StructField.emit_decode_from

    def emit(struct, ctx, name, *arguments, **named):
        if name == "obj":
            emitting.append(threading.current_thread())
            if len(emitting) == 1:
                second.wait(PATIENCE_S)
            else:
                second.set()
                emitting[0].join(PATIENCE_S)
        return plain(struct, ctx, name, *arguments, **named)

    monkeypatch.setattr(StructField, "emit_decode_from", emit)
    monkeypatch.setattr(MetadataResponse._struct, "_compiled_encoders", {})


def test_a_decoder_that_two_threads_ask_for_at_once_makes_objects(overlapping):
    compile_one_at_a_time()
    raw = bytes(MetadataResponse[VERSION](brokers=[], topics=[]).encode())
    made, failed = [], []

    def decode():
        try:
            made.append(MetadataResponse.decode(raw, version=VERSION))
        except TypeError as error:
            failed.append(error)

    threads = [threading.Thread(target=decode) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert [list(one.topics) for one in made] == [[], []]
    assert list(MetadataResponse.decode(raw, version=VERSION).topics) == []
