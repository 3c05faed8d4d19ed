#!/usr/bin/env python3
"""logits.py PROGRAM FOLDER [SHAPE...]: models of the shapes gpt2 (124M) and bert (base) with random weights, written to FOLDER as Hugging
Face does; the logits of PROGRAM (logits.c) are within 1e-3 of those of transformers, in FP32. Weights are of the initializer's scale times
SCALE, biases and norms uneven, so that what is left out or put elsewhere shows."""
import pathlib
import subprocess
import sys

import numpy
import torch
from transformers import BertConfig, BertForTokenClassification, GPT2Config, GPT2LMHeadModel

NEAR, SEQUENCES, TOKENS, SCALE = 1e-3, 2, 128, 2
SHAPES = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(attn_implementation="eager")),
    "bert": lambda: BertForTokenClassification(BertConfig(num_labels=9, attn_implementation="eager")),
}


def make(shape, folder):
    torch.manual_seed(41)
    model = SHAPES[shape]().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = 0.02 * SCALE * torch.randn_like(p)
            p.copy_(noise if p.dim() > 1 or name.endswith("bias") else 1 + noise)
    model.save_pretrained(folder)
    return model


program, work, shapes = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:] or list(SHAPES)
worst = 0
for shape in shapes:
    model = make(shape, work / shape)
    ids = torch.randint(0, model.config.vocab_size, (SEQUENCES, TOKENS), generator=torch.Generator().manual_seed(43))
    with torch.no_grad():
        theirs = model(input_ids=ids).logits.numpy()
    said = subprocess.run([program, work / shape, str(TOKENS)], input=ids.numpy().astype("int32").tobytes(), stdout=subprocess.PIPE, check=True)
    ours = numpy.frombuffer(said.stdout, "float32").reshape(theirs.shape)
    away = numpy.abs(ours - theirs).max()
    print(f"{shape}: {sum(p.numel() for p in model.parameters()) / 1e6:.0f}M parameters, {theirs.size} logits of size {numpy.abs(theirs).mean():.2f}, "
          f"at most {away:.2g} away from transformers' ({NEAR:g} allowed)")
    worst = max(worst, away)
sys.exit(not worst <= NEAR)
