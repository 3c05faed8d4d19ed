#!/usr/bin/env python3
"""Makes smollm2_logits.* beside this file: what transformers computes on SmolLM2's dequantised weights."""
import json
import pathlib
import subprocess

import gguf
import numpy
import torch
from gguf.quants import dequantize
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

import make_tok

HERE = pathlib.Path(__file__).resolve().parent
PROMPTS = [
    "The capital of France is Paris, and the capital of Italy is",
    "<|im_start|>user\nWhat is 12 + 30?<|im_end|>\n<|im_start|>assistant\n",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
]
NAMES = dict(attn_norm="input_layernorm", ffn_norm="post_attention_layernorm", attn_q="self_attn.q_proj",
             attn_k="self_attn.k_proj", attn_v="self_attn.v_proj", attn_output="self_attn.o_proj",
             ffn_gate="mlp.gate_proj", ffn_up="mlp.up_proj", ffn_down="mlp.down_proj")


def canonical(name):
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{NAMES[part]}.weight"


def unpermute(w, heads):
    """llama.cpp's converter interleaves the halves of each head's rows; this is the way back."""
    return w.reshape(heads, w.shape[0] // heads // 2, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def model_of(reader):
    def field(key):
        return reader.fields[key].contents()
    config = LlamaConfig(
        vocab_size=field("llama.vocab_size"), hidden_size=field("llama.embedding_length"),
        intermediate_size=field("llama.feed_forward_length"), num_hidden_layers=field("llama.block_count"),
        num_attention_heads=field("llama.attention.head_count"),
        num_key_value_heads=field("llama.attention.head_count_kv"),
        max_position_embeddings=field("llama.context_length"),
        rms_norm_eps=field("llama.attention.layer_norm_rms_epsilon"), rope_theta=field("llama.rope.freq_base"),
        tie_word_embeddings=True, attn_implementation="eager")
    weights = {}
    for t in reader.tensors:
        w = dequantize(t.data, t.tensor_type).astype(numpy.float32)
        if ".attn_q." in t.name:
            w = unpermute(w, config.num_attention_heads)
        if ".attn_k." in t.name:
            w = unpermute(w, config.num_key_value_heads)
        weights[canonical(t.name)] = torch.from_numpy(numpy.ascontiguousarray(w))
    model = LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert missing == ["lm_head.weight"] and not unexpected, (missing, unexpected)
    model.tie_weights()
    return model.float().eval()


def main():
    path = subprocess.check_output([HERE / "fetch.sh", "smollm2"], text=True).strip()
    model = model_of(gguf.GGUFReader(path))
    tokenizer = make_tok.smollm2(path)
    tensors, prompts = {}, []
    for i, text in enumerate(PROMPTS):
        ids = tokenizer.encode(text).ids
        with torch.no_grad():
            logits = model(torch.tensor([ids]), use_cache=False).logits[0]
        tensors[f"prompt{i}.every64"] = logits[:, ::64].contiguous()
        tensors[f"prompt{i}.last"] = logits[-1, ::8].contiguous()
        prompts.append(dict(text=text, ids=ids, argmax=logits.argmax(-1).tolist()))
    save_file(tensors, HERE / "smollm2_logits.safetensors")
    (HERE / "smollm2_logits.json").write_text(json.dumps(dict(prompts=prompts), indent=1) + "\n")


if __name__ == "__main__":
    main()
