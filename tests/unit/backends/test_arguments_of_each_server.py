"""Each kind of model server gets the arguments that its own command line understands."""

import pytest

from functions.backends import backend_kinds
from functions.backends.server_arguments import (
    Place,
    build_arguments,
    build_environment,
    count_gpus,
    parse_version,
    shutdown_timeout_s,
)
from router_model.catalogue.model import Backend, Model, Service

MODEL = Model(id="Org/Model", context_length=4096)
PLACE = Place(path="/models/m", port="8000", grace_s=600)


def service(kind, *, gpus=0, **args):
    gpu = {"gpu": "nvidia.com/gpu", "gpu_share": gpus} if gpus else {}
    return Service(
        model="Org/Model", slug="m", concurrency=16, backend=Backend(kind=kind, args=args), **gpu
    )


def given(kind, *, version="", place=PLACE, of=MODEL, gpus=0, **args):
    """The arguments as a mapping of flag to value (a bare flag: None); a positional one under its position."""
    words = build_arguments(service(kind, gpus=gpus, **args), of, version, place)
    found, flag = {}, None
    for number, word in enumerate(words):
        if word.startswith("--"):
            flag = word
            found[flag] = None
        elif flag is None:
            found[number] = word
        else:
            found[flag] = word
            flag = None
    return found


@pytest.mark.parametrize(
    ("kind", "path", "host", "tensor_parallel"),
    [
        ("vllm", "--model", "--host", ("--tensor-parallel-size", "4")),
        ("tgi", "--model-id", "--hostname", ("--num-shard", "4")),
        ("trtllm", 0, "--host", ("--tp_size", "4")),
        ("sglang", "--model-path", "--host", ("--tp-size", "4")),
        ("llamacpp", "--model", "--host", ("--split-mode", "row")),
    ],
)
def test_every_server_gets_weights_localhost_and_its_devices(kind, path, host, tensor_parallel):
    found = given(kind, gpus=4)
    assert found[path] == "/models/m"
    assert found[host] == "127.0.0.1"
    assert found["--port"] == "8000"
    assert found[tensor_parallel[0]] == tensor_parallel[1]
    assert tensor_parallel[0] not in given(kind, gpus=1)


@pytest.mark.parametrize(
    ("kind", "flag"),
    [
        ("vllm", "--max-num-seqs"),
        ("tgi", "--max-concurrent-requests"),
        ("trtllm", "--max_batch_size"),
        ("sglang", "--max-running-requests"),
        ("llamacpp", "--parallel"),
    ],
)
def test_a_server_takes_as_many_calls_as_its_worker_makes(kind, flag):
    assert given(kind)[flag] == "16"


def test_llama_cpp_shares_its_context_between_slots():
    assert given("llamacpp")["--ctx-size"] == str(4096 * 16)


def test_vllm_drains_where_its_version_can():
    assert given("vllm", version="v0.33.0")["--shutdown-timeout"] == "540"
    assert given("vllm", version="0.18.0")["--shutdown-timeout"] == "540"
    assert "--shutdown-timeout" not in given("vllm", version="0.17.1")
    assert shutdown_timeout_s(10) == 1


def test_an_embedding_model_is_named_as_the_version_names_it():
    model = Model(id="e", capabilities=("embeddings",))
    assert given("vllm", version="0.11.2", of=model)["--runner"] == "pooling"
    assert given("vllm", version="0.9.2", of=model)["--task"] == "embed"
    assert "--embeddings" in given("llamacpp", of=model)
    assert not {"--runner", "--task"} & given("vllm").keys()


def test_the_catalogue_has_the_last_word():
    found = given("vllm", max_num_seqs=3, dtype="float16", enforce_eager=True, served=False)
    assert found["--max-num-seqs"] == "3"
    assert found["--dtype"] == "float16"
    assert found["--enforce-eager"] is None
    assert "--served" not in found
    assert given("trtllm", max_batch_size=2)["--max_batch_size"] == "2"
    assert "--max-model-len" not in given("vllm", max_model_len=False)


def test_the_name_that_is_asked_for_is_the_name_that_is_served():
    assert given("vllm")["--served-model-name"] == "Org/Model"
    assert given("vllm", model="small")["--served-model-name"] == "small"
    assert given("sglang", model="small")["--served-model-name"] == "small"


def test_only_a_server_that_sleeps_is_in_development_mode():
    asleep = Place(path="/m", can_sleep=True)
    assert "--enable-sleep-mode" in given("vllm", place=asleep)
    assert build_environment(service("vllm"), asleep) == {"VLLM_SERVER_DEV_MODE": "1"}
    assert build_environment(service("vllm"), PLACE) == {}
    assert build_environment(service("sglang"), asleep) == {}
    assert "--enable-sleep-mode" not in given("vllm")


def test_a_server_reached_by_address_gets_no_arguments():
    assert build_arguments(service("openai"), MODEL) == ()


def test_a_share_of_a_device_is_one_device():
    assert [count_gpus(service("vllm", gpus=share)) for share in (0, 0.25, 1, 2, 2.5)] == [
        0,
        1,
        1,
        2,
        3,
    ]


def test_versions_are_read_from_tags():
    assert parse_version("v0.33.0") == (0, 33, 0)
    assert parse_version("vllm-openai:0.9.2-cu12") == (0, 9, 2)
    assert parse_version("latest") > (100,)


METRICS = """\
# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="m {x}"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m {x}"} 0.5
vllm:num_requests_running{engine="0"} 2.0
vllm:num_requests_running_more{engine="0"} 7.0
plain 3
"""


def test_a_gauge_is_read_under_its_newest_name():
    row = backend_kinds.TABLE["vllm"]
    assert backend_kinds.gauge(METRICS, row.cache_metrics) == 0.75
    assert backend_kinds.gauge(METRICS, row.running_metrics) == 2.0
    assert backend_kinds.gauge(METRICS, row.waiting_metrics) is None
    assert backend_kinds.gauge("vllm:gpu_cache_usage_perc 0.5\n", row.cache_metrics) == 0.5
    assert backend_kinds.gauge(METRICS, ("plain",)) == 3.0
    assert backend_kinds.gauge("not \x00 a metric\n" + METRICS, ("plain",)) == 3.0
    assert backend_kinds.gauge("plain{ 3\n", ("plain",)) is None


def test_level_two_reads_the_weights_before_it_takes_memory_for_the_cache():
    paths = [step.path for step in backend_kinds.TABLE["vllm"].wake_steps[2]]
    assert paths == ["/wake_up?tags=weights", "/collective_rpc", "/wake_up?tags=kv_cache"]
