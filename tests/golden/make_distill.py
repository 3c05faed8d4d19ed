#!/usr/bin/env python3
"""Makes tiny_distill.json and tiny_distill.safetensors beside this file; README.md has the formats.

tiny-llama3 learns one batch from its text and from tiny-qwen2 as its teacher: cross-entropy and, times the temperature's
square, the divergence of the softened predictions (Hinton et al., arXiv:1503.02531). FP32, eager attention.
"""
import json
import pathlib

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
B, T, WEIGHT, TEMPERATURE, EVERY = 2, 16, 0.7, 2.5, 5


def model_of(name):
    return AutoModelForCausalLM.from_pretrained(HERE / name, attn_implementation="eager", dtype=torch.float32)


torch.manual_seed(5)
student, teacher = model_of("tiny-llama3"), model_of("tiny-qwen2")
ids = torch.randint(0, 131, (B, T + 1))
inputs, targets = ids[:, :-1], ids[:, 1:].clone()
targets[0, :5] = -100
targets[1, 9] = -100
kept = targets.flatten() >= 0
z = student(input_ids=inputs, use_cache=False).logits.flatten(0, 1)[kept]
with torch.no_grad():
    u = teacher(input_ids=inputs, use_cache=False).logits.flatten(0, 1)[kept]
text = torch.nn.functional.cross_entropy(z, targets.flatten()[kept])
divergence = torch.nn.functional.kl_div(
    (z / TEMPERATURE).log_softmax(-1), (u / TEMPERATURE).log_softmax(-1), log_target=True, reduction="batchmean")
loss = (1 - WEIGHT) * text + WEIGHT * TEMPERATURE**2 * divergence
loss.backward()
save_file({n: p.grad.flatten()[::EVERY].contiguous() for n, p in student.named_parameters()},
          HERE / "tiny_distill.safetensors")
flat = [t if t >= 0 else -1 for t in targets.flatten().tolist()]
step = dict(b=B, t=T, inputs=inputs.flatten().tolist(), targets=flat, counted=int(kept.sum()), weight=WEIGHT,
            temperature=TEMPERATURE, every=EVERY, loss_text=text.item(), loss_mean=loss.item())
(HERE / "tiny_distill.json").write_text(json.dumps(step) + "\n")
