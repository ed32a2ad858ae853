"""Makes a Hugging Face directory of a GGUF file of a Llama model, so that vLLM and its like serve the same weights.

GGUF keeps the rows of the query and key matrices in pairs for its own rotation; Hugging Face keeps the two halves
apart, so they are put back (llama.cpp convert_hf_to_gguf.py, `LlamaModel.permute`, reversed). Quantised tensors become
16-bit floats: what is served is the quantised model, not the original. The tokenizer is byte-level BPE, from the
merges in the file.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from functions.backends.converted_weights import make_once, stamp_name

_CONTROL: Final = 3
"""Token type of GGUF for tokens that are no text."""
_TOP: Final = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_LAYER: Final = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_DIGIT_SPLITTERS: Final = frozenset({"smollm"})
"""Pre-tokenizers that split at every digit; the others known here are plain GPT-2."""
_PRE_TOKENIZERS: Final = _DIGIT_SPLITTERS | {"gpt-2", "default"}


def convert_gguf(weights: Path, directory: Path) -> Path:
    """The Hugging Face directory of this GGUF file inside `directory`, made when it is not there yet (seconds, once).

    Raises:
        StartupFailed: the packages for it are missing, or the file is not a Llama model with a BPE tokenizer.
    """
    target = directory / f"{stamp_name(weights, weights.stem)}.hf"
    return make_once(weights, target, _convert, kind="Llama")


def tensor_name(name: str) -> str:
    """The name of a tensor in Hugging Face's Llama for its name in GGUF. Pure.

    Raises:
        ValueError: a tensor that such a model does not have.
    """
    head, _, kind = name.rpartition(".")
    if head in _TOP:
        return f"{_TOP[head]}.{kind}"
    parts = head.split(".")
    if len(parts) == 3 and parts[0] == "blk" and parts[2] in _LAYER:
        return f"model.layers.{int(parts[1])}.{_LAYER[parts[2]]}.{kind}"
    raise ValueError(f"it has a tensor {name}")


def halves_apart(matrix: Any, heads: int) -> Any:
    """A query or key matrix (rows of each head in rotation pairs) with the halves of pairs apart. Pure."""
    rows, columns = matrix.shape
    pairs = matrix.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def build_config(fields: Mapping[str, Any], *, is_tied: bool) -> dict[str, Any]:
    """`config.json` from the metadata of the file; `is_tied`: the output layer is the embedding. Pure.

    Raises:
        ValueError: another architecture.
        KeyError: a number is missing.
    """
    if fields["general.architecture"] != "llama":
        raise ValueError(f"its architecture is {fields['general.architecture']!r}")
    heads = fields["llama.attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": fields["llama.embedding_length"],
        "intermediate_size": fields["llama.feed_forward_length"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": fields.get("llama.attention.head_count_kv", heads),
        "head_dim": fields["llama.embedding_length"] // heads,
        "hidden_act": "silu",
        "max_position_embeddings": fields["llama.context_length"],
        "rms_norm_eps": fields["llama.attention.layer_norm_rms_epsilon"],
        "rope_theta": fields.get("llama.rope.freq_base", 10000.0),
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
        "tie_word_embeddings": is_tied,
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": "float16",
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "pad_token_id": fields.get("tokenizer.ggml.padding_token_id"),
    }


def build_tokenizer(fields: Mapping[str, Any]) -> Any:
    """The fast tokenizer (`tokenizers.Tokenizer`) of the file's vocabulary and merges.

    Raises:
        ValueError: another kind of tokenizer.
    """
    from tokenizers import (  # noqa: PLC0415 - only a conversion needs it
        AddedToken,
        Tokenizer,
        decoders,
        models,
        pre_tokenizers,
    )

    kind, pre = fields["tokenizer.ggml.model"], fields.get("tokenizer.ggml.pre", "default")
    if kind != "gpt2" or pre not in _PRE_TOKENIZERS:
        raise ValueError(f"its tokenizer is {kind} {pre}")
    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, fuse_unk=False))
    splits: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False)]
    if pre in _DIGIT_SPLITTERS:
        splits.insert(0, pre_tokenizers.Digits(individual_digits=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits)
    tokenizer.decoder = decoders.ByteLevel()
    types = fields["tokenizer.ggml.token_type"]
    tokenizer.add_special_tokens(
        [
            AddedToken(token, normalized=False, special=True)
            for token, number in zip(tokens, types, strict=True)
            if number == _CONTROL
        ]
    )
    return tokenizer


def _convert(weights: Path, target: Path) -> None:
    import gguf  # noqa: PLC0415 - only a conversion needs it
    from safetensors.numpy import save_file  # noqa: PLC0415

    target.mkdir()
    reader = gguf.GGUFReader(weights)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    is_tied = all(tensor.name != "output.weight" for tensor in reader.tensors)
    config = build_config(fields, is_tied=is_tied)
    _write(target / "config.json", config)
    build_tokenizer(fields).save(str(target / "tokenizer.json"))
    _write(target / "tokenizer_config.json", _tokenizer_config(fields))
    _write(
        target / "generation_config.json",
        {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")},
    )
    save_file(
        dict(_tensors(reader, config)), target / "model.safetensors", metadata={"format": "pt"}
    )


def _tokenizer_config(fields: Mapping[str, Any]) -> dict[str, Any]:
    tokens = fields["tokenizer.ggml.tokens"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": fields["llama.context_length"],
        "bos_token": tokens[fields["tokenizer.ggml.bos_token_id"]],
        "eos_token": tokens[fields["tokenizer.ggml.eos_token_id"]],
        "pad_token": tokens[fields.get("tokenizer.ggml.padding_token_id", 0)],
        "unk_token": tokens[fields.get("tokenizer.ggml.unknown_token_id", 0)],
        "chat_template": fields["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
    }


def _tensors(reader: Any, config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    import gguf  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    heads = {
        "attn_q": config["num_attention_heads"],
        "attn_k": config["num_key_value_heads"],
    }
    for tensor in reader.tensors:
        if tensor.name == "rope_freqs.weight":
            continue  # made from rope_theta again
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        part = tensor.name.split(".")[-2]
        if part in heads:
            values = halves_apart(values, heads[part])
        yield tensor_name(tensor.name), np.ascontiguousarray(values, dtype=np.float16)


def _write(path: Path, fields: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(fields, indent=1, ensure_ascii=False), encoding="utf-8")
