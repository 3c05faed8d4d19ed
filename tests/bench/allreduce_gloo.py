#!/usr/bin/env python3
"""allreduce_gloo.py BYTES...: what `bench_coll allreduce` prints, of torch.distributed with Gloo on two processes."""
import os
import statistics
import sys
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

ROUNDS, LARGE = 41, 4 << 20  # of more than LARGE bytes a quarter of the rounds


def one(x):  # the us that the slower rank takes for what both have just written
    x.fill_(1)
    dist.barrier()
    begin = time.perf_counter()
    dist.all_reduce(x)
    us = torch.tensor((time.perf_counter() - begin) * 1e6)
    dist.all_reduce(us, dist.ReduceOp.MAX)
    return us.item()


def run(rank, port, sizes):
    os.sched_setaffinity(0, {rank})
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    dist.init_process_group("gloo", rank=rank, world_size=2)
    for size in sizes:
        x = torch.zeros(size // 4)
        taken = [one(x) for _ in range(2 + (ROUNDS // 4 if size > LARGE else ROUNDS))]
        if rank == 1:
            print(size, f"{statistics.median(taken[2:]):.2f}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        free = s.getsockname()[1]
    mp.spawn(run, (free, [int(x) for x in sys.argv[1:]]), nprocs=2)
