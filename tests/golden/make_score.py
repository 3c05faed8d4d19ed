#!/usr/bin/env python3
"""Makes tiny_score_* beside this file; README.md has the formats.

Decoders that label whole texts at their last token (LlamaForSequenceClassification and its like): the tiny models of
make_families.py and make_gpt2.py with a `score` over three labels, in FP32 with eager attention: logits, loss and gradients
of sequences of unlike lengths, padding behind them; and what peft's LoRA makes of it. Deterministic.
"""
import json
import pathlib

import torch
from peft import LoraConfig, TaskType, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForSequenceClassification

HERE = pathlib.Path(__file__).resolve().parent
LENGTHS, T, PAD, TARGETS = [16, 11, 5], 16, 3, [2, 0, 1]
FAMILIES = ["llama3", "qwen2", "qwen3", "mistral"]
WHOLE = "qwen3"  # of it all gradients, of the others those of the adapters' training


def batch():
    """A text ends with its padding token once, which transformers takes for padding; another has it in the middle."""
    g = torch.Generator().manual_seed(67)
    ids = torch.randint(4, 131, (len(LENGTHS), T), generator=g)
    ids[0, 15] = ids[1, 4] = PAD
    there = torch.arange(T) < torch.tensor(LENGTHS)[:, None]
    return ids.masked_fill(~there, PAD), there.long()


def open_model(name):
    model = AutoModelForSequenceClassification.from_pretrained(
        HERE / f"tiny-{name}", num_labels=3, attn_implementation="eager", dtype=torch.float32)
    model.config.pad_token_id = PAD
    torch.manual_seed(73)
    with torch.no_grad():
        model.score.weight.copy_(0.3 * torch.randn_like(model.score.weight))
    return model.train()


def run(model):
    ids, there = batch()
    out = model(input_ids=ids, attention_mask=there, labels=torch.tensor(TARGETS), use_cache=False)
    out.loss.backward()
    return out


def make(name):
    model = open_model(name)
    out = run(model)
    tensors = {"logits": out.logits.detach().contiguous(), "score.weight": model.score.weight.detach().contiguous(),
               "loss_mean": out.loss.detach().reshape(1)}
    if name == WHOLE:
        tensors |= {"full." + n.replace("score", "classifier"): p.grad.contiguous() for n, p in model.named_parameters()}
    torch.manual_seed(79)
    model = get_peft_model(open_model(name), LoraConfig(task_type=TaskType.SEQ_CLS, r=4, lora_alpha=8, lora_dropout=0.0,
                                                        target_modules=["q_proj", "v_proj"]))
    with torch.no_grad():
        for key, p in model.named_parameters():
            if "lora_" in key:
                p.copy_(0.1 * torch.randn_like(p))
    tensors["lora.loss_mean"] = run(model).loss.detach().reshape(1)
    for key, p in model.named_parameters():
        if p.requires_grad:
            ours = key.replace(".default", "").replace(".modules_to_save", "").removeprefix("base_model.model.")
            ours = ours.replace("score", "classifier")
            tensors["grad." + ours] = p.grad.contiguous()
            tensors["lora." + ours] = p.detach().contiguous()
    save_file(tensors, HERE / f"tiny_score_{name}.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for family in FAMILIES:
        make(family)
    ids, _ = batch()
    step = dict(b=len(LENGTHS), t=T, lengths=LENGTHS, pad=PAD, inputs=ids.flatten().tolist(), targets=TARGETS)
    (HERE / "tiny_score_step.json").write_text(json.dumps(step) + "\n")
