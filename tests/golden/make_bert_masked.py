#!/usr/bin/env python3
"""Makes tiny-bert-masked/ and tiny_bert_masked_* beside this file; README.md has the formats.

The BERT of make_bert.py with the head of masked tokens (BertForMaskedLM), in FP32 with eager attention, no dropout: loss and
gradients of a batch of sequences of which some tokens are to be told, and what peft's LoRA makes of it. Deterministic.
"""
import torch
from transformers import BertForMaskedLM

import make_bert

NAME, MASK = "tiny-bert-masked", make_bert.VOCABULARY.index("[MASK]")


def make_model():
    config = make_bert.config()
    config.num_labels = 2
    make_bert.save_model(NAME, BertForMaskedLM, config, 53)


def open_model():
    return make_bert.open_model(NAME, BertForMaskedLM)


def batch():
    """About one token in four is to be told, most of them hidden."""
    ids, there, _ = make_bert.batch()
    g = torch.Generator().manual_seed(59)
    told = there & (torch.rand(ids.shape, generator=g) < 0.25)
    hidden = told & (torch.rand(ids.shape, generator=g) < 0.8)
    return dict(input_ids=ids.masked_fill(hidden, MASK), attention_mask=there.long(), labels=ids.masked_fill(~told, -100))


def make_step():
    step, model = batch(), open_model()
    out = model(**step)
    out.loss.backward()
    make_bert.save_told("tiny_bert_masked", model, out, step["input_ids"], step["labels"])


if __name__ == "__main__":
    torch.set_num_threads(1)
    make_model()
    make_step()
    make_bert.save_lora("tiny_bert_masked", open_model, 61, batch()) # the head is frozen, as peft has it
