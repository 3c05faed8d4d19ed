#!/usr/bin/env python3
"""Makes tiny-gpt2/, tiny-qwen2/, tiny_gpt2_*, tiny_qwen2_* beside this file; README.md has the formats.

A GPT-2 and a Qwen2 of two layers with random weights and biases, in FP32 with eager attention: logits, loss and gradients
of one batch each, and twenty steps of AdamW for GPT-2. Deterministic: one thread, fixed seeds.
"""
import json
import pathlib

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
V, B, T, STEPS, TRAIN_B = 131, 2, 24, 20, 4


def gpt2():
    return GPT2LMHeadModel(GPT2Config(
        vocab_size=V, n_positions=48, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=0, eos_token_id=0, attn_implementation="eager"))


def qwen2():
    return Qwen2ForCausalLM(Qwen2Config(
        vocab_size=V, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-6, rope_theta=10000.0,
        tie_word_embeddings=False, bos_token_id=0, eos_token_id=0, attn_implementation="eager"))


def make_model(name, build):
    """Larger weights than a fresh model's, uneven norms and biases, so that every gradient is far from zero."""
    torch.manual_seed(23)
    model = build()
    with torch.no_grad():
        for key, p in model.named_parameters():
            noise = torch.randn_like(p)
            if p.dim() > 1:
                p.copy_(0.1 * noise)
            else:
                p.copy_(0.1 * noise if key.endswith(".bias") else 1 + 0.1 * noise)
    model.save_pretrained(HERE / f"tiny-{name}")


def fresh(name):
    model = AutoModelForCausalLM.from_pretrained(HERE / f"tiny-{name}", attn_implementation="eager",
                                                 dtype=torch.float32)
    model.train()
    return model


def loss_of(logits, ids):
    """ids (B, T + 1); the mean over B*T tokens of -log p."""
    return torch.nn.functional.cross_entropy(logits.reshape(-1, V), ids[:, 1:].reshape(-1))


def make_step(name, bare):
    g = torch.Generator().manual_seed(29)
    ids = torch.randint(0, V, (B, T + 1), generator=g)
    model = fresh(name)
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    loss = loss_of(logits, ids)
    loss.backward()
    grads = {n.removeprefix(bare): p.grad.contiguous() for n, p in model.named_parameters()}
    save_file(grads, HERE / f"tiny_{name}_step.safetensors")
    save_file({"logits": logits.detach().reshape(-1, V).contiguous()}, HERE / f"tiny_{name}_logits.safetensors")
    step = dict(b=B, t=T, inputs=ids[:, :-1].flatten().tolist(), targets=ids[:, 1:].flatten().tolist(),
                loss_mean=loss.item())
    (HERE / f"tiny_{name}_step.json").write_text(json.dumps(step) + "\n")


def sequence(generator, count):
    """A stream that can be learned: mostly a fixed successor, now and then a jump."""
    out = [int(torch.randint(0, V, (1,), generator=generator))]
    while len(out) < count:
        jump = torch.rand(1, generator=generator).item() < 0.15
        out.append(int(torch.randint(0, V, (1,), generator=generator)) if jump else (out[-1] * 5 + 17) % 61)
    return out


def make_train(name):
    g = torch.Generator().manual_seed(31)
    batches = [torch.tensor([sequence(g, T + 1) for _ in range(TRAIN_B)]) for _ in range(STEPS)]
    model = fresh(name)
    params = list(model.parameters())
    groups = [dict(params=[p for p in params if p.dim() >= 2], weight_decay=0.1),
              dict(params=[p for p in params if p.dim() < 2], weight_decay=0.0)]
    rate = 2e-3
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), eps=1e-8, foreach=False)
    losses, norms = [], []
    for ids in batches:
        loss = loss_of(model(input_ids=ids[:, :-1], use_cache=False).logits, ids)
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(params, 1.0).item())
        optimizer.step()
        losses.append(loss.item())
    run = dict(schedule="constant", learning_rate=rate, warmup_steps=0, rates=[rate] * STEPS, losses=losses,
               gradient_norms=norms)
    out = dict(b=TRAIN_B, t=T, steps=STEPS, beta1=0.9, beta2=0.95, epsilon=1e-8, weight_decay=0.1, clip_norm=1.0,
               ids=[b.flatten().tolist() for b in batches], runs=[run])
    (HERE / f"tiny_{name}_train.json").write_text(json.dumps(out) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    make_model("gpt2", gpt2)
    make_model("qwen2", qwen2)
    make_step("gpt2", bare="transformer.")  # as the first published checkpoints name them
    make_step("qwen2", bare="")
    make_train("gpt2")
