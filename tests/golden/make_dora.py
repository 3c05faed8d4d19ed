#!/usr/bin/env python3
"""Makes tiny_dora.safetensors and tiny_dora.json beside this file; README.md has the formats.

peft's LoRA with use_dora on tiny-llama: gradients of one batch (that of tiny_step.json) with factors and magnitudes that
are away from where they begin, what merge_and_unload makes of them, and fifty steps from the beginning with the batches of
tiny_train.json. Deterministic: one thread, fixed seeds.
"""
import json
import pathlib

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
LORA = dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], lora_dropout=0.0, bias="none",
            use_dora=True)
RATE = 3e-3


def fresh():
    torch.manual_seed(37)
    model = LlamaForCausalLM.from_pretrained(HERE / "tiny-llama", attn_implementation="eager", dtype=torch.float32)
    return get_peft_model(model, LoraConfig(**LORA))


def trained(model):
    """Names as peft saves them."""
    return {n.replace("base_model.model.", "").replace(".default", "").replace("lora_magnitude_vector.weight",
            "lora_magnitude_vector"): p for n, p in model.named_parameters() if p.requires_grad}


def loss_of(model, inputs, targets):
    logits = model(input_ids=inputs, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))


def make_step():
    step = json.loads((HERE / "tiny_step.json").read_text())
    inputs = torch.tensor(step["inputs"]).reshape(step["b"], step["t"])
    targets = torch.tensor(step["targets"]).reshape(step["b"], step["t"])
    model, g, out = fresh(), torch.Generator().manual_seed(41), {}
    for name, p in trained(model).items():
        if "magnitude" in name:
            p.data.mul_(1 + 0.2 * torch.randn(p.shape, generator=g))
        else:
            p.data.copy_(0.1 * torch.randn(p.shape, generator=g))
        out[name] = p.detach().clone()
    loss = loss_of(model, inputs, targets)
    loss.backward()
    for name, p in trained(model).items():
        out["grad." + name] = p.grad.clone()
    out["loss_mean"] = loss.detach().reshape(1)
    merged = model.merge_and_unload()
    out["merged.q_proj"] = merged.model.layers[1].self_attn.q_proj.weight.detach()
    return out


def make_train(out):
    data = json.loads((HERE / "tiny_train.json").read_text())
    b, t = data["b"], data["t"]
    model, losses = fresh(), []
    for name, p in trained(model).items():
        if "lora_A" in name:
            out["start." + name] = p.detach().clone()
    optimizer = torch.optim.AdamW(trained(model).values(), lr=RATE, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0,
                                  foreach=False)
    for ids in data["ids"]:
        rows = torch.tensor(ids).reshape(b, t + 1)
        loss = loss_of(model, rows[:, :-1], rows[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return dict(learning_rate=RATE, beta1=0.9, beta2=0.95, epsilon=1e-8, clip_norm=1.0, rank=LORA["r"],
                alpha=LORA["lora_alpha"], losses=losses)


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = make_step()
    train = make_train(out)
    save_file({k: v.contiguous() for k, v in out.items()}, HERE / "tiny_dora.safetensors")
    (HERE / "tiny_dora.json").write_text(json.dumps(train) + "\n")
