"""Documents of each kind of server about itself, in the shapes of the versions named."""

from typing import Any

import pytest

from events.payloads import ServerInfo
from functions.backends.server_info import guess_kind, own_name, read_entries, read_server_info
from functions.runtime.errors import StartupFailed

# llama.cpp b6900 to b8000, tools/server.
PROPS: dict[str, Any] = {
    "default_generation_settings": {"params": {"ignore_eos": False}, "n_ctx": 2048},
    "total_slots": 4,
    "modalities": {"vision": False, "audio": True},
    "chat_template_caps": {"supports_tools": False, "supports_system_role": True},
    "build_info": "b6900-ab12cd3",
}
LLAMA = {
    "id": "small.gguf",
    "aliases": ["small"],
    "owned_by": "llamacpp",
    "meta": {"n_vocab": 49152},
}
# vLLM 0.11 to 0.20.
VLLM = {
    "id": "org/m",
    "object": "model",
    "owned_by": "vllm",
    "root": "/weights",
    "max_model_len": 32768,
}
# SGLang 0.5.
SGLANG = {"id": "org/m", "owned_by": "sglang", "root": "org/m", "max_model_len": 8192}
# Ollama 0.12: docs/api.md.
SHOW = {"capabilities": ["completion", "tools"], "model_info": {"llama.context_length": 131072}}
PS = {"models": [{"name": "qwen3:4b", "model": "qwen3:4b", "context_length": 4096}]}


@pytest.mark.parametrize(
    ("kind", "entry", "documents", "info"),
    [
        (
            "llamacpp",
            LLAMA,
            {"/props": PROPS},
            ServerInfo(
                kind="llamacpp", model="small.gguf", version="b6900-ab12cd3", context_length=2048,
                tools=False, vision=False, audio=True, choices=4, vocabulary=49152,
            ),
        ),
        (
            "vllm",
            VLLM,
            {"/version": {"version": "0.11.2"}},
            ServerInfo(kind="vllm", model="org/m", version="0.11.2", context_length=32768),
        ),
        (
            "sglang",
            SGLANG,
            {
                "/get_model_info": {"has_image_understanding": True, "has_audio_understanding": False},
                "/get_server_info": {"version": "0.5.5", "context_length": None},
            },
            ServerInfo(
                kind="sglang", model="org/m", version="0.5.5", context_length=8192, vision=True, audio=False
            ),
        ),
        (
            "tgi",  # TGI 3.3
            {"id": "org/m", "owned_by": "org/m"},
            {"/info": {"model_id": "org/m", "version": "3.3.6", "max_total_tokens": 4096}},
            ServerInfo(kind="tgi", model="org/m", version="3.3.6", context_length=4096),
        ),
        (
            "trtllm",  # TensorRT-LLM 1.1
            {"id": "org/m", "owned_by": "tensorrt_llm"},
            {"/version": {"version": "1.1.0"}},
            ServerInfo(kind="trtllm", model="org/m", version="1.1.0"),
        ),
        (
            "ollama",
            {"id": "qwen3:4b", "owned_by": "library"},
            {"/api/version": {"version": "0.12.6"}, "/api/show": SHOW, "/api/ps": PS},
            ServerInfo(
                kind="ollama", model="qwen3:4b", version="0.12.6", context_length=4096, tools=True, vision=False
            ),
        ),
    ],
    ids=lambda found: found if isinstance(found, str) else "",
)  # fmt: skip
def test_what_each_kind_says_is_read(
    kind: Any, entry: dict[str, Any], documents: dict[str, Any], info: ServerInfo
) -> None:
    assert read_server_info(kind, entry["id"], [entry], documents) == info


ODD = [None, [], "x", 5, {"n_ctx": "many"}, {"version": 7}, {"capabilities": "tools"}]


@pytest.mark.parametrize(
    "kind", ["llamacpp", "vllm", "sglang", "tgi", "trtllm", "ollama", "openai"]
)
@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_an_odd_document_says_nothing(kind: Any, odd: Any) -> None:
    paths = ("/props", "/version", "/info", "/server_info", "/model_info", "/api/show", "/api/ps")
    found = read_server_info(
        kind, "m", read_entries({"data": [{"id": "m"}, odd]}), dict.fromkeys(paths, odd)
    )
    assert found == ServerInfo(kind=kind, model="m")


def test_the_list_of_models_tells_what_the_server_is() -> None:
    assert guess_kind([VLLM]) == "vllm"
    assert guess_kind([LLAMA]) == "llamacpp"
    assert guess_kind([{"id": "m", "owned_by": ["vllm"]}]) is None
    assert guess_kind([VLLM, SGLANG]) is None


def test_a_model_that_is_listed_under_its_file_is_known_by_the_name_it_was_started_under() -> None:
    listed = {**LLAMA, "id": "/weights/small.gguf", "aliases": []}
    found = read_server_info("llamacpp", "small", [listed], {"/props": PROPS})
    assert (found.model, found.vocabulary) == ("small", 49152)


def named(asked: str, *entries: dict[str, Any], is_configured: bool = False) -> str:
    return own_name(asked, entries, is_ours=False, is_configured=is_configured)


def test_the_only_model_of_a_server_is_the_one_that_is_meant() -> None:
    assert named("big", {"id": "org/some-70b"}) == "org/some-70b"


def test_a_listed_name_is_taken_as_it_is_and_an_alias_too() -> None:
    assert named("b", {"id": "a"}, {"id": "b"}) == "b"
    assert named("small", LLAMA, {"id": "other"}) == "small.gguf"
    assert named("qwen3", {"id": "qwen3:latest"}, {"id": "other"}) == "qwen3:latest"
    assert named("/weights", VLLM, {"id": "adapter"}) == "org/m"


def test_of_several_models_none_is_guessed() -> None:
    with pytest.raises(StartupFailed, match="no model 'big'; it has: a, b"):
        named("big", {"id": "a"}, {"id": "b"})


def test_a_name_that_the_catalogue_says_is_not_doubted() -> None:
    assert named("alias-of-a", {"id": "a"}, {"id": "b"}, is_configured=True) == "alias-of-a"
    assert named("big") == "big"
