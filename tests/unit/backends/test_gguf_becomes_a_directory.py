"""A GGUF file of a Llama model becomes the directory that vLLM and its like read."""

import json
from pathlib import Path

import numpy as np
import pytest

from functions.backends import gguf_to_hf, model_weights
from functions.runtime.errors import StartupFailed
from router_model.catalogue.model import Weights

FIELDS = {
    "general.architecture": "llama",
    "llama.attention.head_count": 2,
    "llama.embedding_length": 8,
    "llama.feed_forward_length": 16,
    "llama.block_count": 1,
    "llama.context_length": 64,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": ["<end>", "a", "b", "1", "2", "ab", "\u0120", "\u0120a"],
    "tokenizer.ggml.merges": ["a b", "\u0120 a"],
    "tokenizer.ggml.token_type": [3, 1, 1, 1, 1, 1, 1, 1],
    "tokenizer.ggml.bos_token_id": 0,
    "tokenizer.ggml.eos_token_id": 0,
}


def rotated_as_gguf_does(matrix, heads):
    """llama.cpp's `permute`, which the conversion to GGUF applied."""
    rows, columns = matrix.shape
    halves = matrix.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def test_query_rows_come_back_to_where_they_were():
    matrix = np.arange(12 * 5).reshape(12, 5)
    for heads in (1, 2, 3):
        stored = rotated_as_gguf_does(matrix, heads)
        assert (gguf_to_hf.halves_apart(stored, heads) == matrix).all()


def test_every_tensor_has_its_name():
    names = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
        "blk.11.attn_q.weight": "model.layers.11.self_attn.q_proj.weight",
        "blk.0.ffn_norm.weight": "model.layers.0.post_attention_layernorm.weight",
    }
    assert {name: gguf_to_hf.tensor_name(name) for name in names} == names
    with pytest.raises(ValueError, match="ffn_gate_inp"):
        gguf_to_hf.tensor_name("blk.0.ffn_gate_inp.weight")


def test_the_configuration_says_what_the_file_says():
    found = gguf_to_hf.build_config(FIELDS, is_tied=True)
    assert found["num_key_value_heads"] == 2
    assert (found["head_dim"], found["vocab_size"]) == (4, 8)
    assert found["tie_word_embeddings"] is True
    with pytest.raises(ValueError, match="bert"):
        gguf_to_hf.build_config(FIELDS | {"general.architecture": "bert"}, is_tied=True)


def test_the_tokenizer_merges_and_splits_digits():
    found = gguf_to_hf.build_tokenizer(FIELDS)
    assert found.encode("ab a12<end>").tokens == ["ab", "\u0120a", "1", "2", "<end>"]
    assert found.decode(found.encode("ab a12").ids) == "ab a12"
    with pytest.raises(ValueError, match="spm"):
        gguf_to_hf.build_tokenizer(FIELDS | {"tokenizer.ggml.model": "spm"})


def test_what_is_no_gguf_is_refused_in_one_line(tmp_path):
    file = tmp_path / "m.gguf"
    file.write_bytes(b"not a model")
    with pytest.raises(StartupFailed, match="not a Llama model"):
        model_weights.locate(Weights(path=str(file)), tmp_path / "data", "directory")
    assert list((tmp_path / "data" / "converted").iterdir()) == []
    other = tmp_path / "m.bin"
    other.write_bytes(b"")
    with pytest.raises(StartupFailed, match="neither"):
        model_weights.locate(Weights(path=str(other)), tmp_path, "directory")


def test_a_directory_is_taken_as_it_is(tmp_path):
    assert model_weights.locate(Weights(path=str(tmp_path)), tmp_path, "directory") == tmp_path
    with pytest.raises(StartupFailed, match="sha256"):
        model_weights.locate(Weights(path=str(tmp_path), sha256="0"), tmp_path, "directory")


def tiny_gguf(path: Path) -> Path:
    """A whole file of one layer, with random weights."""
    import gguf  # noqa: PLC0415 - only this test writes one

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_head_count(2)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(16)
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(FIELDS["tokenizer.ggml.tokens"])
    writer.add_token_merges(FIELDS["tokenizer.ggml.merges"])
    writer.add_token_types(FIELDS["tokenizer.ggml.token_type"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_chat_template("{{ messages }}")
    numbers = np.random.default_rng(1)
    shapes = {
        "token_embd": (8, 8),
        "output_norm": (8,),
        "blk.0.attn_norm": (8,),
        "blk.0.ffn_norm": (8,),
        "blk.0.ffn_gate": (16, 8),
        "blk.0.ffn_up": (16, 8),
        "blk.0.ffn_down": (8, 16),
        **{f"blk.0.attn_{name}": (8, 8) for name in ("q", "k", "v", "output")},
    }
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", numbers.random(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_file_is_converted_once(tmp_path):
    from safetensors.numpy import load_file  # noqa: PLC0415 - as above

    file = tiny_gguf(tmp_path / "m.gguf")
    found = model_weights.locate(Weights(path=str(file)), tmp_path / "data", "directory")
    assert {path.name for path in found.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    tensors = load_file(found / "model.safetensors")
    assert tensors["model.layers.0.mlp.down_proj.weight"].shape == (8, 16)
    assert json.loads((found / "config.json").read_text())["tie_word_embeddings"] is True
    made = found.stat().st_mtime_ns
    assert model_weights.locate(Weights(path=str(file)), tmp_path / "data", "directory") == found
    assert found.stat().st_mtime_ns == made
