#!/usr/bin/env python3
"""Makes tiny_optim.json beside this file; README.md has the format.

Fifty steps of each optimizer on tiny-llama, with the batches of tiny_train.json, in FP32 with a constant rate and the
gradient clipped at norm 1: torch.optim's SGD, Adafactor, Muon and AdamW, and Lion by its authors' lines. Deterministic:
one thread, no randomness.
"""
import json

import torch

from make_tiny import HERE, STEPS, T, TRAIN_B, fresh, loss_of


class Lion(torch.optim.Optimizer):
    """Chen et al., Symbolic Discovery of Optimization Algorithms, arXiv:2302.06675, program 1 and section 2."""

    def __init__(self, params, lr, betas, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(torch.sign(beta1 * m + (1 - beta1) * p.grad), alpha=-group["lr"])
                m.mul_(beta2).add_(p.grad, alpha=1 - beta2)


def by_decay(named, decay):
    return [dict(params=[p for p in named.values() if p.dim() >= 2], weight_decay=decay),
            dict(params=[p for p in named.values() if p.dim() < 2], weight_decay=0.0)]


def hidden(name, p):
    return name.startswith("model.layers.") and p.dim() == 2


def adamw(groups, run):
    return torch.optim.AdamW(groups, lr=run["learning_rate"], betas=(run["beta1"], run["beta2"]), eps=run["epsilon"],
                             foreach=False)


def by_layer(named, run):
    """A group for each tensor, at layer_decay^(layers + 1 - depth) of the rate; embeddings have depth 0, what stands behind
    the layers layers + 1."""
    groups = []
    for name, p in named.items():
        part = name.split(".")
        depth = int(part[2]) + 1 if part[1] == "layers" else 0 if part[1] == "embed_tokens" else 3
        groups.append(dict(params=[p], weight_decay=run["weight_decay"] if p.dim() >= 2 else 0.0,
                           lr=run["learning_rate"] * run["layer_decay"] ** (3 - depth)))
    return adamw(groups, run)


def optimizers(named, run):
    rate, decay = run["learning_rate"], run["weight_decay"]
    if run["name"] == "SGD":
        return [torch.optim.SGD(by_decay(named, decay), lr=rate, momentum=run["momentum"], foreach=False)]
    if run["name"] == "Lion":
        return [Lion(by_decay(named, decay), rate, (run["beta1"], run["beta2"]))]
    if run["name"] == "Adafactor":
        return [torch.optim.Adafactor(by_decay(named, decay), lr=rate, foreach=False)]
    if run["name"] == "AdamW":
        return [by_layer(named, run)]
    inner = [p for n, p in named.items() if hidden(n, p)]
    outer = {n: p for n, p in named.items() if not hidden(n, p)}
    return [torch.optim.Muon(inner, lr=rate, weight_decay=decay, momentum=run["momentum"], nesterov=True,
                             adjust_lr_fn="match_rms_adamw"),
            adamw(by_decay(outer, decay), run)]


def train(batches, run):
    model = fresh()
    steppers = optimizers(dict(model.named_parameters()), run)
    losses, norms = [], []
    for ids in batches:
        loss = loss_of(model, ids)
        model.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), run["clip_norm"]).item())
        for o in steppers:
            o.step()
        losses.append(loss.item())
    return dict(run, losses=losses, gradient_norms=norms)


RUNS = [dict(name="SGD", learning_rate=0.05, momentum=0.9),
        dict(name="SGD", learning_rate=0.2, momentum=0.0),
        dict(name="Lion", learning_rate=1e-4, beta1=0.9, beta2=0.99),
        dict(name="Adafactor", learning_rate=1e-2),
        dict(name="Muon", learning_rate=3e-4, momentum=0.95, beta1=0.9, beta2=0.95, epsilon=1e-8),
        dict(name="AdamW", learning_rate=1e-3, beta1=0.9, beta2=0.95, epsilon=1e-8, layer_decay=0.8)]

if __name__ == "__main__":
    torch.set_num_threads(1)
    # Muon orthogonalises in BF16; in FP32 it is exact enough to be compared with.
    torch.Tensor.bfloat16 = torch.Tensor.clone
    ids = json.loads((HERE / "tiny_train.json").read_text())["ids"]
    batches = [torch.tensor(b).reshape(TRAIN_B, T + 1) for b in ids]
    assert len(batches) == STEPS
    runs = [train(batches, dict(weight_decay=0.1, clip_norm=1.0) | r) for r in RUNS]
    (HERE / "tiny_optim.json").write_text(json.dumps(dict(runs=runs)) + "\n")
