"""Arguments of model servers in a catalogue (`backend.args`): one table, for a pod's server and this machine's alike.

Names are those of the server's own command line, with `_` or `-`. Source of llama.cpp's: tools/server/README.md. A name
that is not here is passed on in a pod, where the server may be a newer one, unless it looks like a slip of the pen.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from router_model.catalogue.model import BackendKind

Value = str | int | float | bool
_NEAR: Final = 0.8


@dataclass(frozen=True, slots=True)
class Flag:
    """What an argument holds, and the field of llama.cpp's parameters that it sets on this machine.

    `field` empty: only the server of a pod has it.
    """

    kind: type[int | float | str | bool] = str
    field: str = ""


def _flags(kind: type[int | float | str | bool], **fields: str) -> dict[str, Flag]:
    return {name.replace("_", "-"): Flag(kind, field) for name, field in fields.items()}


_POD_ONLY: Final = (
    "flash-attn", "rope-scaling", "rope-scale", "cache-type-k", "cache-type-v", "defrag-thold", "mlock", "no-mmap",
    "numa", "device", "override-tensor", "cpu-moe", "n-cpu-moe", "split-mode", "tensor-split", "override-kv", "lora",
    "lora-scaled", "log-file", "samplers", "seed", "temp", "top-k", "top-p", "min-p", "pooling", "mmproj", "alias",
    "reasoning-format", "reasoning-budget", "chat-template-file", "chat-template-kwargs", "timeout", "reranking",
    "rerank", "model-draft", "draft-max", "draft-min", "draft-p-min", "gpu-layers-draft", "ctx-size-draft",
    "no-webui", "no-warmup", "no-cont-batching", "no-slots", "no-jinja", "no-context-shift", "fit",
)  # fmt: skip
LLAMACPP: Final[Mapping[str, Flag]] = MappingProxyType(
    dict.fromkeys(_POD_ONLY, Flag())
    | _flags(
        int,
        threads="cpuparams.n_threads", threads_batch="cpuparams_batch.n_threads", ctx_size="n_ctx",
        batch_size="n_batch", ubatch_size="n_ubatch", n_predict="n_predict", predict="n_predict", keep="n_keep",
        n_gpu_layers="n_gpu_layers", gpu_layers="n_gpu_layers", main_gpu="main_gpu", parallel="n_parallel",
        verbosity="verbosity", cache_reuse="n_cache_reuse", cache_ram="cache_ram_mib",
        threads_http="n_threads_http",
    )
    | _flags(
        float,
        rope_freq_base="rope_freq_base", rope_freq_scale="rope_freq_scale",
        slot_prompt_similarity="slot_prompt_similarity",
    )
    | _flags(str, chat_template="chat_template", slot_save_path="slot_save_path")
    | _flags(
        bool,
        embedding="embedding", embeddings="embedding", jinja="use_jinja", no_kv_offload="no_kv_offload",
        no_op_offload="no_op_offload", check_tensors="check_tensors", swa_full="swa_full", special="special",
        cont_batching="cont_batching", context_shift="ctx_shift", kv_unified="kv_unified",
        metrics="endpoint_metrics", props="endpoint_props", slots="endpoint_slots",
    )
)  # fmt: skip
FAKE: Final[Mapping[str, Flag]] = MappingProxyType(
    _flags(float, load_s="-", ttft_s="-", tokens_per_s="-", fail_rate="-")
    | _flags(int, tokens="-", seed="-")
    | _flags(bool, ignore_limit="-")
    | _flags(str, fail_mode="-", history="-")
)
"""Of the simulated model, which is this machine's in a pod too."""
_WORDS: Final[Mapping[type, str]] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def spell_flag(name: str) -> str:
    """The name of an argument as a command line has it, without its hyphens in front."""
    return name.lstrip("-").replace("_", "-")


def find_argument_problem(kind: BackendKind, name: str, value: Value) -> str | None:
    """What is wrong with one entry of `backend.args`; None: nothing that is known."""
    table = {"llamacpp": LLAMACPP, "fake": FAKE}.get(kind)
    if table is None or name == "model":
        return None
    flag = table.get(spell_flag(name))
    if flag is None:
        near = difflib.get_close_matches(spell_flag(name), table, n=1, cutoff=_NEAR)
        if near:
            return f"the server has no such argument (did you mean {near[0].replace('-', '_')!r}?)"
        return None if kind != "fake" else f"there are {', '.join(sorted(table)).replace('-', '_')}"
    is_good = isinstance(value, (int, float) if flag.kind is float else flag.kind)
    if flag.kind is not bool and isinstance(value, bool):
        is_good = False
    if flag.kind is str or is_good:
        return None
    return f"must be {_WORDS[flag.kind]}, not {value!r}"


def find_local_problem(name: str) -> str | None:
    """Why the llama.cpp that this machine starts cannot take an argument; None: it can, or it is not its own."""
    flag = LLAMACPP.get(spell_flag(name))
    if name == "model" or (flag is not None and flag.field):
        return None
    return (
        "the llama.cpp of this machine has no such argument (docs/how-to/add-a-model.md lists them)"
    )
