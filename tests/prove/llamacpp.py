#!/usr/bin/env python3
"""llamacpp.py [-e] MODEL: what llama.cpp goes on with after each prompt of standard input, a line each as JSON, at temperature 0.

A prompt is a line: JSON, a string. Keys and values stay F32, as ours do in that precision. -e: what it embeds each text as, the
same way.
"""
import json
import sys

import xllamacpp


def main():
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[-1]
    params.embedding = embeds = sys.argv[1] == "-e"
    params.n_ctx = 256
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    server = xllamacpp.Server(params)
    for line in sys.stdin:
        if embeds:
            answer = server.handle_embeddings({"input": json.loads(line), "model": "m"})
            print(json.dumps(answer["data"][0]["embedding"]))
            continue
        answer = server.handle_completions({"prompt": json.loads(line), "max_tokens": 24, "temperature": 0, "top_k": 1})
        print(json.dumps(answer["choices"][0]["text"]))


main()
