#!/usr/bin/env python3
"""Makes tiny-bert-masked/ and tiny_bert_masked_* beside this file; README.md has the formats.

The BERT of make_bert.py with the head of masked tokens (BertForMaskedLM), in FP32 with eager attention, no dropout: loss and
gradients of a batch of sequences of which some tokens are to be told, and what peft's LoRA makes of it. Deterministic.
"""
import json

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import BertForMaskedLM, BertTokenizer

import make_bert

HERE, MASK = make_bert.HERE, make_bert.VOCABULARY.index("[MASK]")
OUR_NAMES = [("bert.encoder.layer.", "model.layers."), ("attention.self.query", "self_attn.q_proj"),
             ("attention.self.value", "self_attn.v_proj")]


def make_model():
    torch.manual_seed(53)
    config = make_bert.config()
    config.num_labels = 2
    model = BertForMaskedLM(config)
    with torch.no_grad():
        for key, p in model.named_parameters():
            noise = torch.randn_like(p)
            if p.dim() > 1:
                p.copy_(0.2 * noise)
            else:
                p.copy_(0.1 * noise if key.endswith("bias") else 1 + 0.1 * noise)
    model.save_pretrained(HERE / "tiny-bert-masked")
    (HERE / "tiny-bert-masked" / "vocab.txt").write_text("\n".join(make_bert.VOCABULARY) + "\n")
    BertTokenizer(vocab={w: i for i, w in enumerate(make_bert.VOCABULARY)}, do_lower_case=True,
                  model_max_length=48).save_pretrained(HERE / "tiny-bert-masked")


def open_model():
    return BertForMaskedLM.from_pretrained(HERE / "tiny-bert-masked", attn_implementation="eager",
                                           dtype=torch.float32).train()


def batch():
    """About one token in four is to be told, most of them hidden."""
    ids, there, _ = make_bert.batch()
    g = torch.Generator().manual_seed(59)
    told = there & (torch.rand(ids.shape, generator=g) < 0.25)
    hidden = told & (torch.rand(ids.shape, generator=g) < 0.8)
    return ids.masked_fill(hidden, MASK), there, ids.masked_fill(~told, -100)


def make_step():
    ids, there, targets = batch()
    model = open_model()
    out = model(input_ids=ids, attention_mask=there.long(), labels=targets)
    out.loss.backward()
    save_file({n: p.grad.contiguous() for n, p in model.named_parameters()}, HERE / "tiny_bert_masked_step.safetensors")
    step = dict(b=ids.shape[0], t=ids.shape[1], lengths=make_bert.LENGTHS, inputs=ids.flatten().tolist(),
                targets=targets.masked_fill(targets == -100, -1).flatten().tolist(), counted=int((targets >= 0).sum()),
                loss_mean=out.loss.item())
    (HERE / "tiny_bert_masked_step.json").write_text(json.dumps(step) + "\n")


def make_lora():
    """Factors as given (B is not 0), and their gradients: the head is frozen, as peft has it."""
    ids, there, targets = batch()
    torch.manual_seed(61)
    model = get_peft_model(open_model(), LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0,
                                                    target_modules=["query", "value"]))
    with torch.no_grad():
        for key, p in model.named_parameters():
            if "lora_" in key:
                p.copy_(0.1 * torch.randn_like(p))
    out = model(input_ids=ids, attention_mask=there.long(), labels=targets)
    out.loss.backward()
    tensors = {"loss_mean": out.loss.detach().reshape(1)}
    for key, p in model.named_parameters():
        if not p.requires_grad:
            continue
        name = key.replace(".default", "").removeprefix("base_model.model.")
        for theirs, ours in OUR_NAMES:
            name = name.replace(theirs, ours)
        tensors["grad." + name] = p.grad.contiguous()
        tensors[name] = p.detach().contiguous()
    save_file(tensors, HERE / "tiny_bert_masked_lora.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    make_model()
    make_step()
    make_lora()
