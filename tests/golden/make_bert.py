#!/usr/bin/env python3
"""Makes tiny-bert/, tiny_bert_* and minilm_hidden.* beside this file; README.md has the formats.

A BERT of two layers with random weights and a classifier of tokens, in FP32 with eager attention: logits, loss and
gradients of a batch of sequences of unlike lengths, what lies behind them masked; and what the published MiniLM makes of
three sentences. Deterministic: one thread, fixed seeds, no dropout.
"""
import json
import pathlib
import subprocess

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import (AutoTokenizer, BertConfig, BertForTokenClassification, BertModel, BertTokenizer)

HERE = pathlib.Path(__file__).resolve().parent
LABELS = ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"]
WORDS = """the of and in to is at by for was Berlin Anna ##ing ##ed ##er ##s ##ly ##on ##en ##ia""".lower().split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)]
VOCABULARY = SPECIAL + list(".,-") + LETTERS + ["##" + c for c in LETTERS] + WORDS
VOCABULARY += [f"[unused{i}]" for i in range(96 - len(VOCABULARY))]
LENGTHS, T = [16, 11, 5], 16
OUR_NAMES = [("bert.encoder.layer.", "model.layers."), ("attention.self.query", "self_attn.q_proj"),
             ("attention.self.value", "self_attn.v_proj")]
SENTENCES = ["The capital of France is Paris.", "Anna Schmidt works for Siemens in M\u00fcnchen.", "unbelievably tokenised"]


def config():
    return BertConfig(
        vocab_size=96, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=48, type_vocab_size=2, layer_norm_eps=1e-12, hidden_act="gelu", pad_token_id=0,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, id2label=dict(enumerate(LABELS)),
        label2id={l: i for i, l in enumerate(LABELS)}, attn_implementation="eager")


def save_model(name, kind, config, seed):
    """Larger weights than a fresh model's, uneven norms and biases, so that every gradient is far from zero, and the exact
    GELU from its tanh form."""
    torch.manual_seed(seed)
    model = kind(config)
    with torch.no_grad():
        for key, p in model.named_parameters():
            noise = torch.randn_like(p)
            if p.dim() > 1:
                p.copy_(0.2 * noise)
            else:
                p.copy_(0.1 * noise if key.endswith(".bias") else 1 + 0.1 * noise)
    model.save_pretrained(HERE / name)
    (HERE / name / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    BertTokenizer(vocab={w: i for i, w in enumerate(VOCABULARY)}, do_lower_case=True,
                  model_max_length=48).save_pretrained(HERE / name)


def open_model(name, kind):
    return kind.from_pretrained(HERE / name, attn_implementation="eager", dtype=torch.float32).train()


def batch():
    """Ids (3, 16) from 1 on, 0 behind each length; labels for about two tokens in three, -100 for the rest."""
    g = torch.Generator().manual_seed(41)
    there = torch.arange(T) < torch.tensor(LENGTHS)[:, None]
    ids = torch.randint(1, 96, (len(LENGTHS), T), generator=g) * there
    labels = torch.randint(0, len(LABELS), ids.shape, generator=g)
    counts = there & (torch.rand(ids.shape, generator=g) < 0.67)
    return ids, there, labels.masked_fill(~counts, -100)


def save_step(name, model, out, ids, targets, counted, **more):
    """The gradients of a step, and what went in; targets: a list."""
    save_file({n: p.grad.contiguous() for n, p in model.named_parameters()}, HERE / f"{name}_step.safetensors")
    step = dict(b=len(LENGTHS), t=T, lengths=LENGTHS, inputs=ids.flatten().tolist(), targets=targets, counted=counted,
                loss_mean=out.loss.item(), **more)
    (HERE / f"{name}_step.json").write_text(json.dumps(step) + "\n")


def save_told(name, model, out, ids, targets):
    """The same of targets by token, -100: none."""
    save_step(name, model, out, ids, targets.masked_fill(targets == -100, -1).flatten().tolist(), int((targets >= 0).sum()))


def save_lora(name, opened, seed, step, **kind):
    """Factors as given (B is not 0), and the gradients of all that peft trains. opened: makes the model; step: its inputs."""
    torch.manual_seed(seed)
    model = get_peft_model(opened(), LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=["query", "value"], **kind))
    with torch.no_grad():
        for key, p in model.named_parameters():
            if "lora_" in key:
                p.copy_(0.1 * torch.randn_like(p))
    out = model(**step)
    out.loss.backward()
    tensors = {"loss_mean": out.loss.detach().reshape(1)}
    for key, p in model.named_parameters():
        if not p.requires_grad:
            continue
        ours = key.replace(".default", "").replace(".modules_to_save", "").removeprefix("base_model.model.")
        for theirs, name_here in OUR_NAMES:
            ours = ours.replace(theirs, name_here)
        tensors["grad." + ours] = p.grad.contiguous()
        if "lora_" in ours:
            tensors[ours] = p.detach().contiguous()
    save_file(tensors, HERE / f"{name}_lora.safetensors")


def make_step():
    ids, there, labels = batch()
    model = open_model("tiny-bert", BertForTokenClassification)
    out = model(input_ids=ids, attention_mask=there.long(), labels=labels)
    out.loss.backward()
    logits = out.logits.detach() * there[:, :, None]
    save_file({"logits": logits.reshape(-1, len(LABELS)).contiguous()}, HERE / "tiny_bert_logits.safetensors")
    save_told("tiny_bert", model, out, ids, labels)


def make_minilm():
    folder = subprocess.check_output([HERE / "fetch.sh", "minilm"], text=True).strip()
    model = BertModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32,
                                      add_pooling_layer=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tensors, sentences = {}, []
    for i, text in enumerate(SENTENCES):
        ids = tokenizer(text)["input_ids"]
        with torch.no_grad():
            hidden = model(torch.tensor([ids])).last_hidden_state[0]
        tensors[f"sentence{i}.every24"] = hidden[:, ::24].contiguous()
        sentences.append(dict(text=text, ids=ids))
    save_file(tensors, HERE / "minilm_hidden.safetensors")
    (HERE / "minilm_hidden.json").write_text(json.dumps(dict(sentences=sentences), indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    save_model("tiny-bert", BertForTokenClassification, config(), 37)
    make_step()
    make_minilm()
