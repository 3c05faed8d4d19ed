#!/usr/bin/env python3
"""Makes tiny-llama/, tiny_step.*, tiny_train.json and tiny_lora.safetensors beside this file; README.md has the formats.

A Llama of two layers with random weights, in FP32 with eager attention: loss and gradients of one batch, fifty steps of
AdamW under two schedules, and the gradients of LoRA factors. Deterministic: one thread, fixed seeds.
"""
import json
import math
import pathlib

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
B, T, STEPS = 2, 32, 50
TRAIN_B = 4
LORA = dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])


def config():
    return LlamaConfig(
        vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5, rope_theta=10000.0,
        tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, attn_implementation="eager")


def fresh():
    model = LlamaForCausalLM.from_pretrained(HERE / "tiny-llama", attn_implementation="eager", dtype=torch.float32)
    model.train()
    return model


def make_model():
    """Larger weights than a fresh model's, and uneven norms, so that every gradient is far from zero."""
    torch.manual_seed(7)
    model = LlamaForCausalLM(config())
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(1 + 0.1 * torch.randn_like(p) if p.dim() == 1 else 0.08 * torch.randn_like(p))
    model.save_pretrained(HERE / "tiny-llama")


def loss_of(model, ids):
    """ids (B, T + 1); the mean over B*T tokens of -log p."""
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))


def sequence(generator, count):
    """A stream that can be learned: mostly a fixed successor, now and then a jump."""
    out = [int(torch.randint(0, 256, (1,), generator=generator))]
    while len(out) < count:
        jump = torch.rand(1, generator=generator).item() < 0.15
        out.append(int(torch.randint(0, 256, (1,), generator=generator)) if jump else (out[-1] * 5 + 17) % 64)
    return out


def make_step():
    g = torch.Generator().manual_seed(11)
    ids = torch.randint(0, 256, (B, T + 1), generator=g)
    model = fresh()
    loss = loss_of(model, ids)
    loss.backward()
    save_file({n: p.grad.contiguous() for n, p in model.named_parameters()}, HERE / "tiny_step.safetensors")
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits.detach()
    step = dict(b=B, t=T, inputs=ids[:, :-1].flatten().tolist(), targets=ids[:, 1:].flatten().tolist(),
                loss_mean=loss.item(), last_logits=logits[-1, -1].tolist())
    (HERE / "tiny_step.json").write_text(json.dumps(step) + "\n")
    return ids


def rate(schedule, base, warmup, step):
    """step counts from 0."""
    if step < warmup:
        return base * (step + 1) / warmup
    if schedule == "constant":
        return base
    return base * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (STEPS - warmup)))


def train(batches, schedule, base, warmup):
    model = fresh()
    named = dict(model.named_parameters())
    groups = [dict(params=[p for p in named.values() if p.dim() >= 2], weight_decay=0.1),
              dict(params=[p for p in named.values() if p.dim() < 2], weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=base, betas=(0.9, 0.95), eps=1e-8, foreach=False)
    losses, norms, rates = [], [], []
    for step, ids in enumerate(batches):
        lr = rate(schedule, base, warmup, step)
        for group in optimizer.param_groups:
            group["lr"] = lr
        loss = loss_of(model, ids)
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
        optimizer.step()
        losses.append(loss.item())
        rates.append(lr)
    return dict(schedule=schedule, learning_rate=base, warmup_steps=warmup, rates=rates, losses=losses,
                gradient_norms=norms)


def make_train():
    g = torch.Generator().manual_seed(13)
    batches = [torch.tensor([sequence(g, T + 1) for _ in range(TRAIN_B)]) for _ in range(STEPS)]
    runs = [train(batches, "constant", 1e-3, 0), train(batches, "cosine", 3e-3, 10)]
    out = dict(b=TRAIN_B, t=T, steps=STEPS, beta1=0.9, beta2=0.95, epsilon=1e-8, weight_decay=0.1, clip_norm=1.0,
               ids=[b.flatten().tolist() for b in batches], runs=runs)
    (HERE / "tiny_train.json").write_text(json.dumps(out) + "\n")


def make_lora(ids):
    model = get_peft_model(fresh(), LoraConfig(lora_dropout=0.0, bias="none", **LORA))
    g = torch.Generator().manual_seed(17)
    out = {}
    factors = [(n.replace("base_model.model.", "").replace(".default", ""), p)
               for n, p in model.named_parameters() if "lora_" in n]
    for name, p in factors:
        p.data.copy_(0.1 * torch.randn(p.shape, generator=g))
        out[name] = p.detach().clone()
    loss = loss_of(model, ids)
    loss.backward()
    for name, p in factors:
        out["grad." + name] = p.grad
    out["loss_mean"] = loss.detach().reshape(1)
    save_file({k: v.contiguous() for k, v in out.items()}, HERE / "tiny_lora.safetensors",
              metadata={"rank": str(LORA["r"]), "alpha": str(LORA["lora_alpha"])})


if __name__ == "__main__":
    torch.set_num_threads(1)
    make_model()
    ids = make_step()
    make_train()
    make_lora(ids)
