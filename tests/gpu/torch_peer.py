#!/usr/bin/env python3
"""The peer of bench_gpu: training and decoding of the same shapes with PyTorch, on the same GPU in the same run.

  torch_peer.py train SHAPE BATCH TOKENS SECONDS     one line: tokens/s, peak memory
  torch_peer.py decode SHAPE CONTEXT SECONDS

Training is what a careful PyTorch user runs: BF16 autocast over FP32 weights, scaled_dot_product_attention with the flash backend,
fused AdamW, torch.compile over the whole model, gradient clipping, no data loading. Decoding is batch 1 with a static
KV cache, compiled with CUDA graphs ("reduce-overhead"), BF16 weights. Figures are medians of steps after warm-up.
"""
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

# name: family, layers, heads, kv heads, width, feed-forward, vocabulary
SHAPES = {
    "gpt2-124m": ("gpt2", 12, 12, 12, 768, 3072, 50304),
    "smollm2-135m": ("llama", 30, 9, 3, 576, 1536, 49152),
    "llama-1.1b": ("llama", 22, 32, 4, 2048, 5632, 32000),
}


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
    def __init__(self, family, heads, kv, c, f):
        super().__init__()
        self.llama, self.heads, self.kv, self.d = family == "llama", heads, kv, c // heads
        bias = not self.llama
        norm = RMSNorm if self.llama else nn.LayerNorm
        self.n1, self.n2 = norm(c), norm(c)
        self.qkv = nn.Linear(c, (heads + 2 * kv) * self.d, bias=bias)
        self.o = nn.Linear(c, c, bias=bias)
        self.up = nn.Linear(c, 2 * f if self.llama else f, bias=bias)
        self.down = nn.Linear(f, c, bias=bias)

    def forward(self, x, cos, sin, cache=None, at=None, mask=None):
        b, t, c = x.shape
        q, k, v = self.qkv(self.n1(x)).split([c, self.kv * self.d, self.kv * self.d], -1)
        q, k, v = (y.view(b, t, -1, self.d).transpose(1, 2) for y in (q, k, v))
        if self.llama:
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            cache[0].index_copy_(2, at, k)
            cache[1].index_copy_(2, at, v)
            k, v = cache
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None,
                                           enable_gqa=self.kv != self.heads)
        x = x + self.o(y.transpose(1, 2).reshape(b, t, c))
        h = self.up(self.n2(x))
        if self.llama:
            gate, up = h.chunk(2, -1)
            h = F.silu(gate) * up
        else:
            h = F.gelu(h, approximate="tanh")
        return x + self.down(h)


class Model(nn.Module):
    def __init__(self, family, layers, heads, kv, c, f, vocab, context):
        super().__init__()
        self.embed = nn.Embedding(vocab, c)
        self.position = nn.Embedding(context, c) if family == "gpt2" else None
        self.blocks = nn.ModuleList(Block(family, heads, kv, c, f) for _ in range(layers))
        self.norm = RMSNorm(c) if family == "llama" else nn.LayerNorm(c)
        self.head = nn.Linear(c, vocab, bias=False)
        self.head.weight = self.embed.weight
        d = c // heads
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


def build(name, context):
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")
    return Model(*SHAPES[name], context).cuda()


def train(name, batch, tokens, seconds):
    model = build(name, tokens)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=True)
    ids = torch.randint(0, SHAPES[name][6], (batch, tokens + 1), device="cuda")
    run = torch.compile(model)

    def step():
        with torch.autocast("cuda", torch.bfloat16), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            loss = run(ids[:, :-1], ids[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    for _ in range(10):
        step()
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end or len(times) < 10:
        torch.cuda.synchronize()
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    rate = batch * tokens / statistics.median(times)
    print(f"torch train {name} B={batch} T={tokens}: {rate:.0f} tokens/s, "
          f"memory {torch.cuda.max_memory_allocated() >> 20} MiB, torch {torch.__version__}")


@torch.no_grad()
def decode(name, context, seconds):
    model = build(name, context).to(torch.bfloat16)
    _, layers, heads, kv, c, _, vocab = SHAPES[name]
    caches = [[torch.zeros(1, kv, context, c // heads, dtype=torch.bfloat16, device="cuda") for _ in "kv"]
              for _ in range(layers)]
    run = torch.compile(model, mode="reduce-overhead", fullgraph=True)
    ids = torch.zeros(1, 1, dtype=torch.long, device="cuda")
    places = torch.arange(context, device="cuda")
    times, n, end = [], context // 2, None
    while end is None or time.monotonic() < end:
        at = places[n : n + 1]
        mask = (places <= at)[None, None, None]
        torch.cuda.synchronize()
        start = time.perf_counter()
        ids = run(ids, caches=caches, at=at, mask=mask)[:, -1:].argmax(-1).clone()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
        if len(times) == 20:  # compiled and recorded
            times, end = [], time.monotonic() + seconds if end is None else end
        n = n + 1 if n + 1 < context else context // 2
        if end is not None and len(times) > 2000:
            break
    print(f"torch decode {name} context {context}: {1 / statistics.median(times):.1f} tokens/s, torch {torch.__version__}")


if __name__ == "__main__":
    what, name, *numbers = sys.argv[1:]
    {"train": train, "decode": decode}[what](name, *(int(x) for x in numbers))
