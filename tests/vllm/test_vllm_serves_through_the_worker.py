"""SmolLM2 on a real vLLM, called by a real worker."""

import os
import subprocess
from pathlib import Path

import pytest

from functions.backends import backend_kinds
from functions.backends.server_arguments import Place, build_arguments

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]

ROW = backend_kinds.TABLE["vllm"]
CAPITAL = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
LONG = [{"role": "user", "content": "Tell a very long story about a ship, with many details."}]


def body(messages=CAPITAL, **more):
    return {"messages": messages, "temperature": 0, "max_tokens": 24, **more}


def text_of(chunks):
    deltas = [choice["delta"] for chunk in chunks for choice in chunk.get("choices", ())]
    return "".join(delta.get("content") or "" for delta in deltas)


def test_a_chat_is_answered(stand):
    found = stand.terminal(stand.send(body()))
    (choice,) = found["choices"]
    assert choice["message"]["content"].strip()
    assert found["model"] == "smollm2-135m-instruct"
    assert 0 < found["usage"]["completion_tokens"] <= 24


def test_a_stream_says_the_same_in_parts(stand):
    whole = stand.terminal(stand.send(body()))["choices"][0]["message"]["content"]
    request_id = stand.send(body(stream=True, stream_options={"include_usage": True}))
    found = stand.terminal(request_id)
    chunks = stand.chunks(request_id)
    assert len(chunks) > 3
    assert text_of(chunks) == whole
    assert found["choices"][0]["message"]["content"] == whole
    assert chunks[-1]["usage"]["completion_tokens"] > 0


def test_log_probabilities_come_with_every_token(stand):
    found = stand.terminal(stand.send(body(logprobs=True, top_logprobs=2)))
    (choice,) = found["choices"]
    parts = choice["logprobs"]["content"]
    assert len(parts) == found["usage"]["completion_tokens"]
    assert all(part["logprob"] <= 0 and len(part["top_logprobs"]) == 2 for part in parts)
    assert "".join(part["token"] for part in parts).startswith(choice["message"]["content"][:5])


def test_a_cancelled_request_stops_in_the_engine(stand):
    request_id = stand.send(body(LONG, stream=True, max_tokens=512))
    stand.until(lambda: len(stand.chunks(request_id)) > 3)
    stand.until_gauge(ROW.running_metrics, 1)
    stand.cancel(request_id)
    found = stand.terminal(request_id)
    assert found["error"]["code"] == "cancelled"
    stand.until_gauge(ROW.running_metrics, 0)
    said = text_of(stand.chunks(request_id))
    assert len(said) < 512 * 3  # far from all that it was to say
    metrics = stand.get("/metrics").text
    aborted = [line for line in metrics.splitlines() if 'finished_reason="abort"' in line]
    assert any(float(line.rsplit(" ", 1)[1]) >= 1 for line in aborted)


def test_the_metrics_of_the_table_are_there(stand):
    for names in (ROW.running_metrics, ROW.waiting_metrics, ROW.cache_metrics):
        assert stand.gauge(names[:1]) is not None, names
    assert stand.gauge(("vllm:gpu_cache_usage_perc",)) is None  # the old name is gone


def test_requests_at_once_are_all_answered(stand):
    sent = [stand.send(body(max_tokens=8)) for _ in range(6)]
    for request_id in sent:
        assert stand.terminal(request_id)["choices"]


def test_a_prompt_beyond_the_context_is_the_callers_error(stand):
    found = stand.terminal(
        stand.send(body([{"role": "user", "content": "word " * 3000}], max_tokens=8))
    )
    assert found["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("level", [1, 2])
def test_it_sleeps_and_is_awake_for_the_next_call(stand, level):
    """The endpoints are those of every build; on a CPU vLLM pauses, and leaves its memory as it is."""
    server = stand.worker._parts.server
    before = stand.terminal(stand.send(body()))["choices"][0]["message"]["content"]
    http = stand.worker._parts.http
    stand.loop.run_until_complete(server.sleep(http, level))
    assert stand.get("/is_sleeping").json()["is_sleeping"] is True
    stand.loop.run_until_complete(server.wake(http, level))
    assert stand.get("/is_sleeping").json()["is_sleeping"] is False
    after = stand.terminal(stand.send(body()))["choices"][0]["message"]["content"]
    assert after == before


def test_an_idle_model_sleeps_and_a_request_wakes_it(stand):
    dozing = stand.worker._parts.dozing
    dozing._after_s = 0.0
    try:
        stand.loop.run_until_complete(dozing.doze())
    finally:
        dozing._after_s = 3600.0
    assert dozing.is_asleep
    assert stand.get("/is_sleeping").json()["is_sleeping"] is True
    assert stand.terminal(stand.send(body()))["choices"]
    assert not dozing.is_asleep


def test_development_endpoints_are_bound_to_this_machine(stand):
    pid = stand.worker._parts.server._process.pid
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    assert words[words.index(b"--host") + 1] == b"127.0.0.1"
    assert b"VLLM_SERVER_DEV_MODE=1" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def test_the_cpu_build_has_no_sleep_mode_and_says_so(vllm_python):
    program = (
        "from vllm.platforms import current_platform as p; "
        "print(p.device_type, p.is_sleep_mode_available())"
    )
    done = subprocess.run(
        [vllm_python, "-c", program], check=True, capture_output=True, text=True, timeout=600
    )
    assert done.stdout.split()[-2:] == ["cpu", "False"]


def test_every_argument_of_the_table_is_one_that_vllm_has(vllm_python, whole_service, model):
    """The parser itself, without a model: an unknown argument ends it."""
    words = build_arguments(whole_service, model, "", Place(path="/m", port="1", can_sleep=True))
    program = (
        "import sys\n"
        "from vllm.entrypoints.launchers.cli_args import make_arg_parser\n"
        "from vllm.utils.argparse_utils import FlexibleArgumentParser\n"
        "found = make_arg_parser(FlexibleArgumentParser()).parse_args(sys.argv[1:])\n"
        "print(found.tensor_parallel_size, found.shutdown_timeout, found.enable_sleep_mode)\n"
    )
    done = subprocess.run(
        [vllm_python, "-c", program, *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"VLLM_LOGGING_LEVEL": "ERROR"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[-3:] == ["2", "540", "True"]


def test_the_worker_ends_and_nothing_of_vllm_is_left(opened, stand):
    """Last, for it ends what the others use."""
    pid = stand.worker._parts.server._process.pid
    assert opened.stop(stand) == 0
    assert not [each for each in Path("/proc").glob("[0-9]*") if session_of(each) == pid]


def session_of(process):
    """The session that a process belongs to; the server is the leader of its own."""
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[3])
