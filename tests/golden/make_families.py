#!/usr/bin/env python3
"""Makes tiny-NAME/ and tiny_NAME_* of qwen3, mistral, llama3, qwen3-moe and mixtral beside this file; README.md has the formats.

Decoders of two layers with random weights, in FP32 with eager attention, each with what sets its family apart: norms of
heads and heads of their own size, a window shorter than the batch's sequences, frequencies of which some are kept, some
mixed and some divided, and mixtures of experts, whose weights add up to 1 or do not. Logits, loss and gradients of one
batch, and gradients of LoRA factors. Deterministic: one thread, fixed seeds.
"""
import json
import pathlib

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import (AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM,
                          MixtralConfig, MixtralForCausalLM, Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig,
                          Qwen3MoeForCausalLM)
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

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


def qwen3_moe():
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZES, head_dim=12, moe_intermediate_size=24, num_experts=4,
                                              num_experts_per_tok=2, norm_topk_prob=False, router_aux_loss_coef=0.5,
                                              rms_norm_eps=1e-6, tie_word_embeddings=False,
                                              rope_parameters=dict(rope_type="default", rope_theta=1000000.0)))


def mixtral():
    sizes = SIZES | dict(intermediate_size=20)
    return MixtralForCausalLM(MixtralConfig(**sizes, num_local_experts=4, num_experts_per_tok=2,
                                            router_aux_loss_coef=0.25, rms_norm_eps=1e-5, tie_word_embeddings=False,
                                            rope_parameters=dict(rope_type="default", rope_theta=10000.0)))


def balance_loss(model, ids):
    """Of each sequence by itself what transformers adds to the loss, and their mean."""
    c, losses = model.config, []
    for row in ids[:, :-1]:
        gates = model(input_ids=row[None], use_cache=False, output_router_logits=True).router_logits
        losses.append(load_balancing_loss_func(tuple(gates), c.num_local_experts, c.num_experts_per_tok))
    return c.router_aux_loss_coef * torch.stack(losses).mean()


def as_stored(model, grads):
    """The names and parts of the files: in memory the experts of a layer are one tensor, gates and ups another."""
    mixtral = model.config.model_type == "mixtral"
    block, names = ("block_sparse_moe", ("w1", "w3", "w2")) if mixtral else ("mlp", ("gate_proj", "up_proj", "down_proj"))
    out = {}
    for n, g in grads.items():
        n = n.replace(".mlp.", f".{block}.")
        if not n.endswith(("experts.gate_up_proj", "experts.down_proj")):
            out[n] = g
            continue
        stem, parts = n.rsplit(".", 1)[0], ((g, names[2]),)
        if n.endswith("gate_up_proj"):
            parts = zip(g.chunk(2, dim=1), names)
        for part, what in parts:
            for i, x in enumerate(part):
                out[f"{stem}.{i}.{what}.weight"] = x.contiguous()
    return out


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
    mixture = getattr(model.config, "num_experts_per_tok", 0)
    (loss + balance_loss(model, ids) if mixture else loss).backward()
    grads = {n: p.grad.contiguous() for n, p in model.named_parameters()}
    save_file(as_stored(model, grads) if mixture else grads, HERE / f"tiny_{name.replace('-', '_')}_step.safetensors")
    save_file({"logits": logits.detach().reshape(-1, V).contiguous()}, HERE / f"tiny_{name.replace('-', '_')}_logits.safetensors")
    step = dict(b=B, t=T, inputs=ids[:, :-1].flatten().tolist(), targets=ids[:, 1:].flatten().tolist(),
                loss_mean=loss.item())
    (HERE / f"tiny_{name.replace('-', '_')}_step.json").write_text(json.dumps(step) + "\n")


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
    mixture = getattr(model.config, "num_experts_per_tok", 0)
    (loss + balance_loss(model, ids) if mixture else loss).backward()
    for key, p in factors:
        out["grad." + key] = p.grad
    out["loss_mean"] = loss.detach().reshape(1)
    save_file({k: v.contiguous() for k, v in out.items()}, HERE / f"tiny_{name.replace('-', '_')}_lora.safetensors",
              metadata={"rank": str(LORA["r"]), "alpha": str(LORA["lora_alpha"])})


if __name__ == "__main__":
    torch.set_num_threads(1)
    ids = torch.randint(0, V, (B, T + 1), generator=torch.Generator().manual_seed(43))
    for name, build in (("qwen3", qwen3), ("mistral", mistral), ("llama3", llama3), ("qwen3-moe", qwen3_moe),
                        ("mixtral", mixtral)):
        make_model(name, build)
        make_step(name, ids)
        make_lora(name, ids)
