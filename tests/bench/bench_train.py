#!/usr/bin/env python3
"""bench_train.py CASE TYPE MODE [SECONDS [THREADS [LAYERS]]]: what bench_train.c measures, of torch: MODE is eager or compiled. Weights are
random, there is no dropout, BF16 is autocast over FP32 weights, AdamW is torch's fused one."""
import resource
import statistics
import sys
import time

import torch
from transformers import (BertConfig, BertForTokenClassification, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM)

WARM_UP = 2
name, kind, mode = sys.argv[1:4]
seconds = float(sys.argv[4]) if len(sys.argv) > 4 else 30
torch.set_num_threads(int(sys.argv[5]) if len(sys.argv) > 5 else 2)
layers = int(sys.argv[6]) if len(sys.argv) > 6 else 0  # 0: all
torch.manual_seed(1)


def smollm2():
    return LlamaForCausalLM(LlamaConfig(vocab_size=49152, hidden_size=576, num_hidden_layers=layers or 30, num_attention_heads=9, num_key_value_heads=3,
                                        intermediate_size=1536, max_position_embeddings=2048, tie_word_embeddings=True, use_cache=False))


def lora():
    from peft import LoraConfig, get_peft_model
    return get_peft_model(smollm2(), LoraConfig(r=8, lora_alpha=16, lora_dropout=0, target_modules="all-linear", task_type="CAUSAL_LM"))


def gpt2():
    return GPT2LMHeadModel(GPT2Config(vocab_size=50304, n_layer=layers or 12, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, use_cache=False))


def bert():
    return BertForTokenClassification(BertConfig(num_labels=9, num_hidden_layers=layers or 12, hidden_dropout_prob=0, attention_probs_dropout_prob=0))


make, sequences, tokens = {"gpt2": (gpt2, 4, 512), "smollm2": (smollm2, 4, 512), "smollm2-lora": (lora, 4, 512), "bert": (bert, 16, 128)}[name]
model = make()
model.train()
weights = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(weights, lr=1e-4, fused=True)
run = torch.compile(model) if mode == "compiled" else model
ids = torch.randint(0, model.config.vocab_size, (sequences, tokens))
labels = ids % 9 if name == "bert" else ids


def step():
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=kind == "BF16"):
        loss = run(input_ids=ids, labels=labels).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    optimizer.step()
    return loss.item()


taken, begin = [], time.perf_counter()
while len(taken) < WARM_UP + 3 or time.perf_counter() - begin < seconds:
    start = time.perf_counter()
    step()
    taken.append(time.perf_counter() - start)
    if len(taken) == WARM_UP:
        begin = time.perf_counter()  # compiling is not training
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
print(f"{sequences * tokens / statistics.median(taken[WARM_UP:]):.1f} tokens/s {peak} MiB")
