"""Converts a BERT sentence-embedding model (MiniLM) from safetensors to GGUF, so that llama.cpp serves it.

Beside the weights lie `config.json` and `vocab.txt`. llama.cpp wants a WordPiece vocabulary in which a piece that
starts a word carries U+2581 and a continuation lost its `##`. Pooling is the mean over tokens, as in training.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from functions.backends.converted_weights import make_once, stamp_name

_SPACE: Final = "\u2581"
_SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_EMBEDDINGS: Final = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm.weight": "token_embd_norm.weight",
    "embeddings.LayerNorm.bias": "token_embd_norm.bias",
}
_LAYER: Final = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def convert_minilm(weights: Path, directory: Path) -> Path:
    """The GGUF file of these weights in `directory`, made when it is not there yet (a few seconds, once).

    Raises:
        StartupFailed: the packages for it are missing, or these are not the files of a BERT model.
    """
    target = directory / f"{stamp_name(weights, weights.parent.parent.name)}.gguf"
    return make_once(weights, target, _convert, kind="BERT")


def vocabulary(lines: list[str]) -> tuple[list[str], list[bool]]:
    """Tokens as llama.cpp has them, and which of them are special. Pure."""
    tokens = [
        line if line in _SPECIAL else line[2:] if line.startswith("##") else _SPACE + line
        for line in lines
    ]
    return tokens, [line in _SPECIAL for line in lines]


def tensor_names(layers: int) -> dict[str, str]:
    """Names of the tensors: as the checkpoint has them -> as GGUF has them. Pure."""
    names = dict(_EMBEDDINGS)
    for layer in range(layers):
        for theirs, ours in _LAYER.items():
            for kind in ("weight", "bias"):
                names[f"encoder.layer.{layer}.{theirs}.{kind}"] = f"blk.{layer}.{ours}.{kind}"
    return names


def _convert(weights: Path, target: Path) -> None:
    import gguf  # noqa: PLC0415 - only a conversion needs it

    config = json.loads((weights.parent / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") != "bert":
        raise ValueError(f"model_type is {config.get('model_type')!r}")
    writer = gguf.GGUFWriter(target, "bert")
    _write_config(writer, config)
    _write_vocabulary(writer, weights.parent / "vocab.txt")
    for name, tensor in _tensors(weights, config["num_hidden_layers"]):
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_config(writer: Any, config: dict[str, Any]) -> None:
    import gguf  # noqa: PLC0415

    writer.add_name(Path(str(config.get("_name_or_path", "bert"))).name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(value=False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)


def _write_vocabulary(writer: Any, path: Path) -> None:
    import gguf  # noqa: PLC0415

    lines = path.read_text(encoding="utf-8").splitlines()
    tokens, specials = vocabulary(lines)
    writer.add_tokenizer_model("bert")
    writer.add_token_type_count(2)
    writer.add_token_list(tokens)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if special else gguf.TokenType.NORMAL for special in specials]
    )
    pad, unknown, start, end, mask = (lines.index(token) for token in _SPECIAL)
    writer.add_bos_token_id(start)
    writer.add_eos_token_id(end)
    writer.add_unk_token_id(unknown)
    writer.add_sep_token_id(end)
    writer.add_pad_token_id(pad)
    writer.add_mask_token_id(mask)


def _tensors(weights: Path, layers: int) -> Iterator[tuple[str, Any]]:
    """Matrices of the layers as 16-bit floats, everything else as 32-bit."""
    import numpy as np  # noqa: PLC0415
    from safetensors import safe_open  # noqa: PLC0415

    with safe_open(str(weights), framework="numpy") as file:
        for theirs, ours in tensor_names(layers).items():
            tensor = file.get_tensor(theirs)
            is_matrix = tensor.ndim == 2 and ours.startswith(("blk.", "token_embd.weight"))
            yield ours, tensor.astype(np.float16 if is_matrix else np.float32)
