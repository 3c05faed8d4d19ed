#!/usr/bin/env python3
"""Makes tiny-qwen3/, tiny-mistral/, tiny-llama3/ and tiny_{qwen3,mistral,llama3}_* beside this file; README.md has the formats.

Decoders of two layers with random weights, in FP32 with eager attention, each with what sets its family apart: norms of
heads and heads of their own size, a window shorter than the batch's sequences, and frequencies of which some are kept, some
mixed and some divided. Logits, loss and gradients of one batch, and gradients of LoRA factors. Deterministic: one thread,
fixed seeds.
"""
import json
import pathlib

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import (AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM,
                          Qwen3Config, Qwen3ForCausalLM)

HERE = pathlib.Path(__file__).resolve().parent
V, B, T = 131, 2, 24
SIZES = dict(vocab_size=V, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=0,
             attn_implementation="eager")
LORA = dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])


def qwen3():
    return Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=12, rms_norm_eps=1e-6, tie_word_embeddings=False,
                                        rope_parameters=dict(rope_type="default", rope_theta=1000000.0)))


def mistral():
    return MistralForCausalLM(MistralConfig(**SIZES, sliding_window=7, rms_norm_eps=1e-5, tie_word_embeddings=False,
                                            rope_parameters=dict(rope_type="default", rope_theta=10000.0)))


def llama3():
    """5.1 waves of the first frequency fit 32 tokens, 1.6 of the second, less than one of the others."""
    return LlamaForCausalLM(LlamaConfig(**SIZES, head_dim=16, rms_norm_eps=1e-5, tie_word_embeddings=True,
                                        rope_parameters=dict(rope_type="llama3", rope_theta=10000.0, factor=8.0,
                                                             low_freq_factor=1.0, high_freq_factor=4.0,
                                                             original_max_position_embeddings=32)))


def make_model(name, build):
    """Larger weights than a fresh model's, and uneven norms, so that every gradient is far from zero."""
    torch.manual_seed(37)
    model = build()
    with torch.no_grad():
        for p in model.parameters():
            noise = torch.randn_like(p)
            p.copy_(0.1 * noise if p.dim() > 1 else 1 + 0.1 * noise)
    model.save_pretrained(HERE / f"tiny-{name}")


def fresh(name):
    model = AutoModelForCausalLM.from_pretrained(HERE / f"tiny-{name}", attn_implementation="eager",
                                                 dtype=torch.float32)
    model.train()
    return model


def loss_of(model, ids):
    """ids (B, T + 1); the mean over B*T tokens of -log p, and the logits."""
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.reshape(-1, V), ids[:, 1:].reshape(-1)), logits


def make_step(name, ids):
    model = fresh(name)
    loss, logits = loss_of(model, ids)
    loss.backward()
    grads = {n: p.grad.contiguous() for n, p in model.named_parameters()}
    save_file(grads, HERE / f"tiny_{name}_step.safetensors")
    save_file({"logits": logits.detach().reshape(-1, V).contiguous()}, HERE / f"tiny_{name}_logits.safetensors")
    step = dict(b=B, t=T, inputs=ids[:, :-1].flatten().tolist(), targets=ids[:, 1:].flatten().tolist(),
                loss_mean=loss.item())
    (HERE / f"tiny_{name}_step.json").write_text(json.dumps(step) + "\n")


def make_lora(name, ids):
    model = get_peft_model(fresh(name), LoraConfig(lora_dropout=0.0, bias="none", **LORA))
    g = torch.Generator().manual_seed(41)
    out = {}
    factors = [(n.replace("base_model.model.", "").replace(".default", ""), p)
               for n, p in model.named_parameters() if "lora_" in n]
    for key, p in factors:
        p.data.copy_(0.1 * torch.randn(p.shape, generator=g))
        out[key] = p.detach().clone()
    loss, _ = loss_of(model, ids)
    loss.backward()
    for key, p in factors:
        out["grad." + key] = p.grad
    out["loss_mean"] = loss.detach().reshape(1)
    save_file({k: v.contiguous() for k, v in out.items()}, HERE / f"tiny_{name}_lora.safetensors",
              metadata={"rank": str(LORA["r"]), "alpha": str(LORA["lora_alpha"])})


if __name__ == "__main__":
    torch.set_num_threads(1)
    ids = torch.randint(0, V, (B, T + 1), generator=torch.Generator().manual_seed(43))
    for build in (qwen3, mistral, llama3):
        make_model(build.__name__, build)
        make_step(build.__name__, ids)
        make_lora(build.__name__, ids)
