#!/usr/bin/env python3
"""ddp.py [STEPS [SEQUENCES [LENGTH]]]: SmolLM2's shape trained by two processes of a thread each under torch's
DistributedDataParallel over Gloo, which adds gradients up beside backward. Prints tokens a second, by the median step, and the
greater process's peak memory. Weights are random; FP32, AdamW is torch's fused one; SEQUENCES of LENGTH are of both together."""
import os
import resource
import socket
import statistics
import sys
import time

import torch
import torch.distributed
import torch.multiprocessing
from transformers import LlamaConfig, LlamaForCausalLM

RANKS, WARM_UP = 2, 2
steps, sequences, length = ([int(x) for x in sys.argv[1:]] + [8, 4, 512][len(sys.argv) - 1:])


def work(rank, port, told):
    torch.set_num_threads(1)
    torch.manual_seed(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=RANKS)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=49152, hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
                                         intermediate_size=1536, max_position_embeddings=2048, tie_word_embeddings=True, use_cache=False))
    run = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids = torch.randint(0, 49152, (sequences // RANKS, length))
    taken = []
    for _ in range(WARM_UP + steps):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        run(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        taken.append(time.perf_counter() - start)
    told.put((statistics.median(taken[WARM_UP:]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    told = torch.multiprocessing.get_context("spawn").SimpleQueue()
    torch.multiprocessing.spawn(work, (port, told), nprocs=RANKS)
    both = [told.get() for _ in range(RANKS)]
    print(f"{sequences * length / max(s for s, _ in both):.1f} tokens/s {max(m for _, m in both)} MiB")
