#!/usr/bin/env python3
"""The peer of bench_gpu: training and decoding of the same shapes with PyTorch, on the same GPU in the same run.

  torch_peer.py train SHAPE BATCH TOKENS
  torch_peer.py decode SHAPE CONTEXT

SHAPE is what `bench_gpu shape` prints. For each line of standard input, a number of seconds, it measures that long and prints one
line of JSON; in between it holds parameters only, so that bench_gpu has the GPU's memory. The first line costs the compilation.

Training is what a careful PyTorch user runs: BF16 autocast over FP32 weights, scaled_dot_product_attention with the flash backend,
fused AdamW, torch.compile over the whole model, gradient clipping, no data loading. Decoding is batch 1 with a static
KV cache, compiled with CUDA graphs ("reduce-overhead"), BF16 weights. Figures are medians of steps after warm-up.
"""
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel


class RMSNorm(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(c))

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight, 1e-5)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).type_as(x)


class Block(nn.Module):
    def __init__(self, family, heads, kv, d, c, f):
        super().__init__()
        self.llama, self.heads, self.kv, self.d = family == "llama", heads, kv, d
        bias = not self.llama
        norm = RMSNorm if self.llama else nn.LayerNorm
        self.n1, self.n2 = norm(c), norm(c)
        self.qkv = nn.Linear(c, (heads + 2 * kv) * d, bias=bias)
        self.o = nn.Linear(heads * d, c, bias=bias)
        self.up = nn.Linear(c, 2 * f if self.llama else f, bias=bias)
        self.down = nn.Linear(f, c, bias=bias)

    def forward(self, x, cos, sin, cache=None, at=None, mask=None):
        b, t, _ = x.shape
        q, k, v = self.qkv(self.n1(x)).split([self.heads * self.d, self.kv * self.d, self.kv * self.d], -1)
        q, k, v = (y.view(b, t, -1, self.d).transpose(1, 2) for y in (q, k, v))
        if self.llama:
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            cache[0].index_copy_(2, at, k)
            cache[1].index_copy_(2, at, v)
            k, v = cache
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None,
                                           enable_gqa=self.kv != self.heads)
        x = x + self.o(y.transpose(1, 2).flatten(2))
        h = self.up(self.n2(x))
        if self.llama:
            gate, up = h.chunk(2, -1)
            h = F.silu(gate) * up
        else:
            h = F.gelu(h, approximate="tanh")
        return x + self.down(h)


class Model(nn.Module):
    def __init__(self, shape, context):
        super().__init__()
        family, layers, heads, kv = (shape[k] for k in ("family", "layers", "heads", "kv_heads"))
        c, f, vocab, d = (shape[k] for k in ("dim", "ffn_dim", "vocab", "head_dim"))
        self.embed = nn.Embedding(vocab, c)
        self.position = nn.Embedding(context, c) if family == "gpt2" else None
        self.blocks = nn.ModuleList(Block(family, heads, kv, d, c, f) for _ in range(layers))
        self.norm = RMSNorm(c) if family == "llama" else nn.LayerNorm(c)
        self.head = nn.Linear(c, vocab, bias=False)
        self.head.weight = self.embed.weight
        angle = torch.arange(context)[:, None] * 1e4 ** (-torch.arange(0, d, 2) / d)[None]
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        self.apply(lambda m: isinstance(m, (nn.Linear, nn.Embedding)) and nn.init.normal_(m.weight, 0, 0.02))

    def forward(self, ids, targets=None, caches=None, at=None, mask=None):
        x = self.embed(ids)
        places = torch.arange(ids.shape[1], device=ids.device) if at is None else at
        if self.position is not None:
            x = x + self.position(places)
        cos, sin = self.cos[places], self.sin[places]
        for i, block in enumerate(self.blocks):
            x = block(x, cos, sin, caches[i] if caches else None, at, mask)
        logits = self.head(self.norm(x))
        return logits if targets is None else F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def build(shape, context):
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")
    return Model(shape, context).cuda()


def seconds_of(step, warm_up, least, seconds):
    """Times of single steps; the device is waited for before and after each."""
    for _ in range(warm_up):
        step()
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end or len(times) < least:
        torch.cuda.synchronize()
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return times


def train(shape, batch, tokens):
    model = build(shape, tokens)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=True)
    ids = torch.randint(0, shape["vocab"], (batch, tokens + 1), device="cuda")
    run = torch.compile(model)

    def step():
        with torch.autocast("cuda", torch.bfloat16), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            loss = run(ids[:, :-1], ids[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return lambda seconds: batch * tokens / statistics.median(seconds_of(step, 5, 10, seconds))


@torch.no_grad()
def decode(shape, context):
    model = build(shape, context).to(torch.bfloat16)
    caches = [[torch.zeros(1, shape["kv_heads"], context, shape["head_dim"], dtype=torch.bfloat16, device="cuda")
               for _ in "kv"] for _ in range(shape["layers"])]
    for cache in (c for pair in caches for c in pair):  # else no CUDA graph is made: they are written to
        torch._dynamo.mark_static_address(cache)
    run = torch.compile(model, mode="reduce-overhead", fullgraph=True)
    places = torch.arange(context, device="cuda")
    ids, n = torch.zeros(1, 1, dtype=torch.long, device="cuda"), context // 2

    @torch.no_grad()
    def step():
        nonlocal ids, n
        at = places[n : n + 1]
        mask = (places <= at)[None, None, None]
        ids = run(ids, caches=caches, at=at, mask=mask)[:, -1:].argmax(-1).clone()
        n = n + 1 if n + 1 < context else context // 2

    return lambda seconds: 1 / statistics.median(seconds_of(step, 20, 50, seconds))


if __name__ == "__main__":
    what, shape, *numbers = sys.argv[1:]
    measure = {"train": train, "decode": decode}[what](json.loads(shape), *map(int, numbers))
    for line in sys.stdin:
        torch.cuda.reset_peak_memory_stats()
        rate = measure(float(line))
        print(json.dumps({"rate": rate, "memory_mib": torch.cuda.max_memory_allocated() >> 20,
                          "version": torch.__version__}), flush=True)
        torch.cuda.empty_cache()
