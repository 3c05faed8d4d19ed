#!/usr/bin/env python3
"""Makes tiny-bert-texts/ and tiny_bert_texts_* beside this file; README.md has the formats.

The BERT of make_bert.py with a pooler and a classifier of whole texts, in FP32 with eager attention, no dropout: logits, loss
and gradients of the same batch of sequences, a label each; and what peft's LoRA makes of it. Deterministic.
"""
import json

import torch
from peft import LoraConfig, TaskType, get_peft_model
from safetensors.torch import save_file
from transformers import BertForSequenceClassification, BertTokenizer

import make_bert

HERE, LABELS = make_bert.HERE, ["negative", "neutral", "positive"]
TARGETS = [2, 0, 1]
SETS = [[1, 0, 1], [0, 0, 0], [1, 1, 0]]
OUR_NAMES = [("bert.encoder.layer.", "model.layers."), ("attention.self.query", "self_attn.q_proj"),
             ("attention.self.value", "self_attn.v_proj")]


def make_model():
    torch.manual_seed(43)
    config = make_bert.config()
    config.id2label = dict(enumerate(LABELS))
    config.label2id = {l: i for i, l in enumerate(LABELS)}
    config.classifier_dropout = 0.0
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        for key, p in model.named_parameters():
            noise = torch.randn_like(p)
            if p.dim() > 1:
                p.copy_(0.2 * noise)
            else:
                p.copy_(0.1 * noise if key.endswith(".bias") else 1 + 0.1 * noise)
    model.save_pretrained(HERE / "tiny-bert-texts")
    (HERE / "tiny-bert-texts" / "vocab.txt").write_text("\n".join(make_bert.VOCABULARY) + "\n")
    BertTokenizer(vocab={w: i for i, w in enumerate(make_bert.VOCABULARY)}, do_lower_case=True,
                  model_max_length=48).save_pretrained(HERE / "tiny-bert-texts")


def open_model():
    return BertForSequenceClassification.from_pretrained(HERE / "tiny-bert-texts", attn_implementation="eager",
                                                         dtype=torch.float32).train()


def make_step():
    ids, there, _ = make_bert.batch()
    labels = torch.tensor(TARGETS)
    model = open_model()
    out = model(input_ids=ids, attention_mask=there.long(), labels=labels)
    out.loss.backward()
    save_file({"logits": out.logits.detach().contiguous()}, HERE / "tiny_bert_texts_logits.safetensors")
    save_file({n: p.grad.contiguous() for n, p in model.named_parameters()}, HERE / "tiny_bert_texts_step.safetensors")
    targets = torch.full(ids.shape, -1)
    targets[:, 0] = labels
    step = dict(b=len(TARGETS), t=ids.shape[1], lengths=make_bert.LENGTHS, inputs=ids.flatten().tolist(),
                targets=targets.flatten().tolist(), counted=len(TARGETS), loss_mean=out.loss.item())
    (HERE / "tiny_bert_texts_step.json").write_text(json.dumps(step) + "\n")


def make_several():
    """Any number of labels of each text: binary cross-entropy, the mean over texts and labels."""
    ids, there, _ = make_bert.batch()
    model = open_model()
    model.config.problem_type = "multi_label_classification"
    out = model(input_ids=ids, attention_mask=there.long(), labels=torch.tensor(SETS, dtype=torch.float32))
    out.loss.backward()
    save_file({n: p.grad.contiguous() for n, p in model.named_parameters()}, HERE / "tiny_bert_several_step.safetensors")
    step = dict(b=len(SETS), t=ids.shape[1], lengths=make_bert.LENGTHS, inputs=ids.flatten().tolist(),
                targets=sum(SETS, []), counted=9, loss_mean=out.loss.item())
    (HERE / "tiny_bert_several_step.json").write_text(json.dumps(step) + "\n")


def make_lora():
    """Factors as given (B is not 0), and the gradients of what peft trains: factors and classifier, not the pooler."""
    ids, there, _ = make_bert.batch()
    torch.manual_seed(47)
    model = get_peft_model(open_model(), LoraConfig(task_type=TaskType.SEQ_CLS, r=4, lora_alpha=8, lora_dropout=0.0,
                                                    target_modules=["query", "value"]))
    with torch.no_grad():
        for key, p in model.named_parameters():
            if "lora_" in key:
                p.copy_(0.1 * torch.randn_like(p))
    out = model(input_ids=ids, attention_mask=there.long(), labels=torch.tensor(TARGETS))
    out.loss.backward()
    tensors = {"loss_mean": out.loss.detach().reshape(1)}
    for key, p in model.named_parameters():
        if not p.requires_grad:
            continue
        name = key.replace(".default", "").replace(".modules_to_save", "").removeprefix("base_model.model.")
        for theirs, ours in OUR_NAMES:
            name = name.replace(theirs, ours)
        tensors["grad." + name] = p.grad.contiguous()
        if "lora_" in name:
            tensors[name] = p.detach().contiguous()
    save_file(tensors, HERE / "tiny_bert_texts_lora.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    make_model()
    make_step()
    make_several()
    make_lora()
