#!/usr/bin/env python3
"""Makes tiny_adalora.safetensors and tiny_adalora.json beside this file; README.md has the formats.

peft's AdaLoRA on tiny-llama: gradients of one batch (that of tiny_step.json), regulariser included, with factors and singular
values that are away from where they begin; fifty steps from the beginning with the batches of tiny_train.json, through all of
the budget's schedule; what peft saves then, as it was loaded again, and the merged weights. Deterministic: one thread, fixed
seeds.
"""
import json
import pathlib
import tempfile

import torch
from peft import AdaLoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
ADALORA = dict(init_r=6, target_r=3, tinit=5, tfinal=12, deltaT=4, beta1=0.85, beta2=0.8, orth_reg_weight=0.5, total_step=50,
               lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], lora_dropout=0.0, bias="none",
               task_type="CAUSAL_LM")
RATE = 1e-2


def base():
    return LlamaForCausalLM.from_pretrained(HERE / "tiny-llama", attn_implementation="eager", dtype=torch.float32)


def fresh():
    torch.manual_seed(43)
    return get_peft_model(base(), AdaLoraConfig(**ADALORA))


def trained(model):
    """Under our names."""
    out = {}
    for n, p in model.named_parameters():
        if p.requires_grad:
            n = n.replace("base_model.model.", "").replace(".default", "")
            out[n if n.endswith("lora_E") else n + ".weight"] = p
    return out


def loss_of(model, inputs, targets):
    """Of the tokens alone, and what peft adds."""
    logits = model(input_ids=inputs, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))
    whole = model(input_ids=inputs, labels=inputs, use_cache=False).loss
    added = whole - model.base_model.model(input_ids=inputs, labels=inputs, use_cache=False).loss
    return loss, added


def flat(p):
    return p.detach().reshape(-1) if p.shape[-1] == 1 else p.detach().clone()


def make_step():
    step = json.loads((HERE / "tiny_step.json").read_text())
    inputs = torch.tensor(step["inputs"]).reshape(step["b"], step["t"])
    targets = torch.tensor(step["targets"]).reshape(step["b"], step["t"])
    model, g, out = fresh(), torch.Generator().manual_seed(47), {}
    for name, p in trained(model).items():
        p.data.copy_(0.1 * torch.randn(p.shape, generator=g))
        out[name] = flat(p)
    loss, added = loss_of(model, inputs, targets)
    (loss + added).backward()
    for name, p in trained(model).items():
        out["grad." + name] = flat(p.grad)
    out["loss_mean"] = loss.detach().reshape(1)
    return out


def save(model, out, inputs):
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = PeftModel.from_pretrained(base(), folder)
        with torch.no_grad():
            far = (model(input_ids=inputs).logits - again(input_ids=inputs).logits).abs().max().item()
            assert far < 1e-5, far
        for name, p in load_file(pathlib.Path(folder) / "adapter_model.safetensors").items():
            out["saved." + name] = p
        config = json.loads((pathlib.Path(folder) / "adapter_config.json").read_text())
    out["merged.q_proj"] = again.merge_and_unload().model.layers[1].self_attn.q_proj.weight.detach()
    return config


def make_train(out):
    data = json.loads((HERE / "tiny_train.json").read_text())
    b, t = data["b"], data["t"]
    model, losses, added = fresh(), [], []
    for name, p in trained(model).items():
        if not name.endswith("lora_E"):
            out["start." + name] = p.detach().clone()
    optimizer = torch.optim.AdamW(trained(model).values(), lr=RATE, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0,
                                  foreach=False)
    for step, ids in enumerate(data["ids"], 1):
        rows = torch.tensor(ids).reshape(b, t + 1)
        loss, more = loss_of(model, rows[:, :-1], rows[:, 1:])
        optimizer.zero_grad()
        (loss + more).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.base_model.update_and_allocate(step)
        losses.append(loss.item())
        added.append(more.item())
    config = save(model, out, rows[:, :-1])
    values = {n: flat(p) for n, p in trained(model).items() if n.endswith("lora_E")}
    out.update({"end." + n: p for n, p in values.items()})
    keys = ("init_r", "target_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight", "total_step", "lora_alpha")
    return dict(learning_rate=RATE, optimizer_beta1=0.9, optimizer_beta2=0.95, epsilon=1e-8, clip_norm=1.0,
                config={k: config[k] for k in keys}, rank_pattern=config["rank_pattern"], losses=losses, added=added)


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = make_step()
    train = make_train(out)
    save_file({k: v.contiguous() for k, v in out.items()}, HERE / "tiny_adalora.safetensors")
    (HERE / "tiny_adalora.json").write_text(json.dumps(train) + "\n")
