#!/usr/bin/env python3
"""Makes choice.json beside this file; README.md has the format.

Questions with choices, and what lm-evaluation-harness makes of them with tiny-llama in FP32 and a tokenizer of bytes: the
log-likelihood of each choice, acc, acc_norm and their standard errors. Its rules are written out here (encode_pair and the
truncation of its HFLM, mean_stderr), so that the package is not needed. Deterministic: one thread, fixed seeds.
"""
import json
import math
import pathlib
import random

import torch
from transformers import LlamaForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
LENGTH = 48
QUESTIONS = 24


def encode(text):
    return list(text.encode())


def encode_pair(context, continuation):
    blanks = len(context) - len(context.rstrip())
    if blanks:
        continuation = context[-blanks:] + continuation
        context = context[:-blanks]
    whole, own = encode(context + continuation), encode(context)
    return own, whole[len(own):]


def likelihood(model, context, continuation):
    ids = torch.tensor([(context + continuation)[-(LENGTH + 1):][:-1]])
    logits = model(input_ids=ids, use_cache=False).logits[0]
    n = len(continuation)
    logp = torch.log_softmax(logits[-n:].double(), -1)
    return logp[range(n), continuation].sum().item()


def stderr(values):
    mean = sum(values) / len(values)
    return math.sqrt(sum((x - mean) ** 2 for x in values) / (len(values) - 1) / len(values))


def make_question(r, i):
    word = lambda: "".join(r.choice("abcdeé ") for _ in range(r.randint(1, 7))).strip() or "x"
    doc = {}
    if i % 3:
        doc["context"] = " ".join(word() for _ in range(r.randint(1, 12))) + " " * (i % 2)
    else:
        doc["question"] = word()
    doc["choices"] = [word() for _ in range(r.randint(2, 5))]
    doc["answer"] = r.randrange(len(doc["choices"]))
    return doc


def look(model, doc):
    context = doc["context"] if "context" in doc else f"Question: {doc['question']}\nAnswer:"
    between = "" if context[-1:].isspace() else " "
    found = [likelihood(model, *encode_pair(context, between + x)) for x in doc["choices"]]
    norm = [x / len(c) for x, c in zip(found, doc["choices"])]
    right, right_norm = (max(range(len(v)), key=v.__getitem__) == doc["answer"] for v in (found, norm))
    return found, float(right), float(right_norm)


def main():
    torch.set_num_threads(1)
    r = random.Random(5)
    model = LlamaForCausalLM.from_pretrained(HERE / "tiny-llama", attn_implementation="eager", dtype=torch.float32).eval()
    docs = [make_question(r, i) for i in range(QUESTIONS)]
    with torch.no_grad():
        found = [look(model, d) for d in docs]
        # Of every second question the answer is what the model holds for likeliest: figures are neither 0 nor 1 then.
        for i in range(0, QUESTIONS, 2):
            likeliest = max(range(len(found[i][0])), key=found[i][0].__getitem__)
            docs[i]["answer"] = likeliest
        found = [look(model, d) for d in docs]
    acc, norm = [x[1] for x in found], [x[2] for x in found]
    for i in range(0, QUESTIONS, 5):
        docs[i]["answer"] = "ABCDE"[docs[i]["answer"]]
    out = dict(length=LENGTH, questions=docs, likelihoods=[x[0] for x in found], acc=sum(acc) / QUESTIONS,
               acc_stderr=stderr(acc), acc_norm=sum(norm) / QUESTIONS, acc_norm_stderr=stderr(norm))
    (HERE / "choice.json").write_text(json.dumps(out, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
