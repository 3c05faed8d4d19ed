#!/usr/bin/env python3
"""Makes tiny-bert-texts/ and tiny_bert_texts_* beside this file; README.md has the formats.

The BERT of make_bert.py with a pooler and a classifier of whole texts, in FP32 with eager attention, no dropout: logits, loss
and gradients of the same batch of sequences, a label each, without and with types of tokens; and what peft's LoRA makes of it. Deterministic.
"""
import json
import random

import torch
from peft import TaskType
from safetensors.torch import save_file
from transformers import AutoTokenizer, BertForSequenceClassification

import make_bert

NAME, LABELS = "tiny-bert-texts", ["negative", "neutral", "positive"]
TARGETS = [2, 0, 1]
TYPED = [9, 1, 4]  # of each sequence the first token of type 1
PAIRS = 150
SETS = [[1, 0, 1], [0, 0, 0], [1, 1, 0]]


def make_model():
    config = make_bert.config()
    config.id2label = dict(enumerate(LABELS))
    config.label2id = {l: i for i, l in enumerate(LABELS)}
    config.classifier_dropout = 0.0
    make_bert.save_model(NAME, BertForSequenceClassification, config, 43)


def open_model():
    return make_bert.open_model(NAME, BertForSequenceClassification)


def batch(labels):
    ids, there, _ = make_bert.batch()
    return dict(input_ids=ids, attention_mask=there.long(), labels=labels)


def make_step():
    step, model = batch(torch.tensor(TARGETS)), open_model()
    out = model(**step)
    out.loss.backward()
    save_file({"logits": out.logits.detach().contiguous()}, make_bert.HERE / "tiny_bert_texts_logits.safetensors")
    targets = torch.full(step["input_ids"].shape, -1)
    targets[:, 0] = step["labels"]
    make_bert.save_step("tiny_bert_texts", model, out, step["input_ids"], targets.flatten().tolist(), len(TARGETS))


def make_typed():
    """Pairs of texts: what stands behind the first one is of type 1, padding of type 0."""
    step, model = batch(torch.tensor(TARGETS)), open_model()
    place = torch.arange(make_bert.T)
    types = (place >= torch.tensor(TYPED)[:, None]) & (step["attention_mask"] > 0)
    out = model(token_type_ids=types.long(), **step)
    out.loss.backward()
    targets = torch.full(step["input_ids"].shape, -1)
    targets[:, 0] = step["labels"]
    make_bert.save_step("tiny_bert_typed", model, out, step["input_ids"], targets.flatten().tolist(), len(TARGETS),
                        types=types.long().flatten().tolist(), logits=out.logits.flatten().tolist())


def make_pairs():
    """Pairs of texts as a file has them, and what is made of each: its tokens, cut where they are too many, types, logits, loss."""
    draw, model, tokenizer = random.Random(83), open_model(), AutoTokenizer.from_pretrained(make_bert.HERE / NAME)
    texts = lambda: " ".join(draw.choice(make_bert.WORDS + [".", "Zoo", "-"]).lstrip("#") for _ in range(draw.randint(0, 14)))
    pairs = [dict(text=texts(), text_pair=texts(), label=draw.choice(LABELS)) for _ in range(PAIRS)]
    made = tokenizer([p["text"] for p in pairs], [p["text_pair"] for p in pairs], truncation="longest_first",
                     max_length=make_bert.T, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = model(labels=torch.tensor([LABELS.index(p["label"]) for p in pairs]), **made)
    found = out.logits.argmax(1).tolist()
    right = sum(LABELS[k] == p["label"] for k, p in zip(found, pairs))
    text = json.dumps(dict(length=make_bert.T, loss=out.loss.item(), accuracy=right / PAIRS, pairs=pairs), separators=(",", ":"))
    (make_bert.HERE / "tiny_bert_pairs.json").write_text(text.replace('{"text"', '\n{"text"') + "\n")


def make_several():
    """Any number of labels of each text: binary cross-entropy, the mean over texts and labels."""
    step, model = batch(torch.tensor(SETS, dtype=torch.float32)), open_model()
    model.config.problem_type = "multi_label_classification"
    out = model(**step)
    out.loss.backward()
    make_bert.save_step("tiny_bert_several", model, out, step["input_ids"], sum(SETS, []), 9)


if __name__ == "__main__":
    torch.set_num_threads(1)
    make_model()
    make_step()
    make_typed()
    make_pairs()
    make_several()
    # Of what peft trains: factors and classifier, not the pooler.
    make_bert.save_lora("tiny_bert_texts", open_model, 47, batch(torch.tensor(TARGETS)), task_type=TaskType.SEQ_CLS)
