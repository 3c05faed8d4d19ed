#!/usr/bin/env python3
"""Makes tiny_adapters.safetensors and tiny_adapters.json beside this file; README.md has the formats.

Adapters behind sub-layers as AdapterHub's `adapters` 1.3 defines them (Adapter of methods/modeling.py with DoubleSeqBnConfig,
Houlsby's, and SeqBnConfig, Pfeiffer's), written in plain torch around transformers' layers, on tiny-llama, tiny-gpt2 and
tiny-bert: gradients of one batch with parameters that are away from where they begin, and fifty steps from the beginning.
Deterministic: one thread, fixed seeds.
"""
import json

import torch
from safetensors.torch import save_file
from transformers import BertForTokenClassification, GPT2LMHeadModel, LlamaForCausalLM

from make_bert import HERE, batch, open_model

RATE = 3e-3
ACTIVATIONS = dict(ReLU=torch.relu, GELU=torch.nn.functional.gelu, SiLU=torch.nn.functional.silu)
RUNS = [("llama", "Houlsby", 16, "SiLU"), ("llama", "Pfeiffer", 16, "ReLU"), ("gpt2", "Houlsby", 8, "ReLU"),
        ("gpt2", "Pfeiffer", 8, "GELU"), ("bert", "Houlsby", 8, "GELU"), ("bert", "Pfeiffer", 8, "SiLU")]


class Adapter(torch.nn.Module):
    """f becomes f + up(act(down(a))): a is f, or what `of` makes of f and the residual."""

    def __init__(self, dim, size, act, of=None):
        super().__init__()
        self.adapter_down, self.adapter_up = torch.nn.Linear(dim, size), torch.nn.Linear(size, dim)
        self.act, self.of, self.residual = act, of, None
        for linear in (self.adapter_down, self.adapter_up):
            torch.nn.init.normal_(linear.weight, 0.0, 0.02)
            torch.nn.init.zeros_(linear.bias)

    def hook(self, module, args, f):
        return f + self.adapter_up(self.act(self.adapter_down(self.of(f, self.residual) if self.of else f)))

    def keep(self, index):
        def hook(module, args):
            self.residual = args[index]
        return hook


def places(family, model):
    """Of each layer: the modules that give f of attention and of the feed-forward, the one whose argument is the latter's
    residual, that argument's index, and the norm behind it."""
    if family == "llama":
        return [(l.self_attn.o_proj, l.mlp, l.post_attention_layernorm, 0, None) for l in model.model.layers]
    if family == "gpt2":
        return [(l.attn.c_proj, l.mlp, l.ln_2, 0, None) for l in model.transformer.h]
    return [(l.attention.output.dense, l.output.dense, l.output, 1, l.output.LayerNorm) for l in model.bert.encoder.layer]


def fresh(family, kind, reduction, activation):
    """The model and what is trained, under our names."""
    if family == "bert":
        model = open_model("tiny-bert", BertForTokenClassification)
    else:
        cls = LlamaForCausalLM if family == "llama" else GPT2LMHeadModel
        model = cls.from_pretrained(HERE / f"tiny-{family}", attn_implementation="eager", dtype=torch.float32).eval()
    torch.manual_seed(53)
    dim, act, trained = model.config.hidden_size, ACTIVATIONS[activation], {}
    for p in model.parameters():
        p.requires_grad_(False)
    for i, (attention, ffn, before, index, norm) in enumerate(places(family, model)):
        def summed(f, x, norm=norm):
            return norm(f + x) if norm else f + x
        added = [("mlp.down_proj", ffn, Adapter(dim, dim // reduction, act, summed if kind == "Pfeiffer" else None))]
        if kind == "Houlsby":
            added.insert(0, ("self_attn.o_proj", attention, Adapter(dim, dim // reduction, act)))
        for name, module, adapter in added:
            before.register_forward_pre_hook(adapter.keep(index))
            module.register_forward_hook(adapter.hook)
            trained |= {f"model.layers.{i}.{name}.{n}": p for n, p in adapter.named_parameters()}
    if family == "bert":
        trained |= {f"classifier.{n}": p for n, p in model.classifier.named_parameters()}
    for p in trained.values():
        p.requires_grad_(True)
    return model, trained


def loss_of(family, model, inputs, targets):
    if family == "bert":
        ids, there, labels = batch()
        return model(input_ids=ids, attention_mask=there.long(), labels=labels).loss
    logits = model(input_ids=inputs, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))


def make_step(run, out):
    family, kind, _, _ = run
    key, generator = f"{family}.{kind}.", torch.Generator().manual_seed(59)
    step = json.loads((HERE / ("tiny_step.json" if family == "llama" else f"tiny_{family}_step.json")).read_text())
    inputs, targets = (torch.tensor(step[k]).reshape(step["b"], step["t"]) for k in ("inputs", "targets"))
    model, trained = fresh(*run)
    for name, p in trained.items():
        if "adapter" in name:
            p.data.copy_(0.1 * torch.randn(p.shape, generator=generator))
            out[key + name] = p.detach().clone()
    loss = loss_of(family, model, inputs, targets)
    loss.backward()
    out |= {key + "grad." + name: p.grad.clone() for name, p in trained.items()}
    out[key + "loss_mean"] = loss.detach().reshape(1)


def make_train(run, out):
    family, kind, _, _ = run
    data = json.loads((HERE / "tiny_train.json").read_text())
    model, trained = fresh(*run)
    out |= {f"{family}.{kind}.start.{n}": p.detach().clone() for n, p in trained.items()
            if n.endswith("weight") and "adapter" in n}
    optimizer = torch.optim.AdamW(trained.values(), lr=RATE, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0, foreach=False)
    losses = []
    for ids in data["ids"]:
        rows = torch.tensor(ids).reshape(data["b"], data["t"] + 1)
        loss = loss_of(family, model, rows[:, :-1], rows[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    torch.set_num_threads(1)
    out, runs = {}, []
    for run in RUNS:
        make_step(run, out)
        runs.append(dict(zip(("model", "kind", "reduction_factor", "activation"), run)))
        if run[0] != "gpt2":
            runs[-1]["losses"] = make_train(run, out)
    save_file({k: v.contiguous() for k, v in out.items()}, HERE / "tiny_adapters.safetensors")
    (HERE / "tiny_adapters.json").write_text(json.dumps(dict(
        learning_rate=RATE, beta1=0.9, beta2=0.95, epsilon=1e-8, clip_norm=1.0, runs=runs)) + "\n")
