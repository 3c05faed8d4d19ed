#!/usr/bin/env python3
"""llama_server.py MODEL PORT THREADS SEQUENCES CONTEXT: llama.cpp's own server, out of a package, until a signal ends it.

What `llama-server -m MODEL --port PORT -t THREADS -np SEQUENCES -c TOKENS` is, where no such program is installed; CONTEXT
tokens of each sequence.
"""
import signal
import sys

import xllamacpp


def main():
    model, (port, threads, sequences, context) = sys.argv[1], map(int, sys.argv[2:6])
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.port = port
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_parallel = sequences
    params.n_ctx = sequences * context
    params.cache_ram_mib = 0  # no copies of ended prompts beside the cache
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    signal.pause()


main()
