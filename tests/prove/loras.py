#!/usr/bin/env python3
"""loras.py URL ADAPTER ...: what adapters that are loaded when they are wanted cost who wants them, and who does not.

One client streams from the model alone. In its first half nobody else asks; in its second another asks, one behind the other, for one token
of each adapter, twice: when it must be loaded, and when it is there. Prints medians and the greatest of times between two tokens of the stream
in both halves, and of times to the first token; ends with 1 where a request fails. The standard library alone.
"""
import http.client
import json
import sys
import threading
import time
import urllib.parse

url, adapters = sys.argv[1], sys.argv[2:]
where = urllib.parse.urlsplit(url)
TOKENS = 900
failures, arrived, first = [], [], {"loaded": [], "there": []}
half, over = threading.Event(), threading.Event()


def ask(model, prompt, tokens, heard):
    link = http.client.HTTPConnection(where.hostname, where.port, timeout=120)
    link.request("POST", where.path + "/completions", json.dumps({"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0,
        "ignore_eos": True, "stream": True}), {"Content-Type": "application/json"})
    answer = link.getresponse()
    if answer.status != 200:
        failures.append(answer.read())
    for line in answer:
        if line.startswith(b"data: {") and json.loads(line[6:]).get("choices"):
            heard()
    link.close()


def take():
    arrived.append(time.monotonic())
    if len(arrived) == TOKENS // 3:
        half.set()


def stream():
    ask("m", "The sea", TOKENS, take)
    half.set()
    over.set()


def one(model, kind):
    begun, came = time.monotonic(), []
    ask(model, "A word", 1, lambda: came.append(time.monotonic()))
    first[kind].append((came or [time.monotonic()])[0] - begun)


def median(x):
    return sorted(x)[len(x) // 2]


thread = threading.Thread(target=stream)
thread.start()
half.wait()
begun = time.monotonic()
for adapter in adapters:
    one(adapter, "loaded")
    one(adapter, "there")
ended = time.monotonic()
streamed = not over.is_set()
over.wait()
gaps = [(a, b - a) for a, b in zip(arrived, arrived[1:])]
alone = [g for at, g in gaps if at < begun]
beside = [g for at, g in gaps if begun <= at < ended]
for name, x in [("between tokens, nobody else asks", alone), ("between tokens, adapters are loaded", beside),
                ("first token, its adapter is loaded for it", first["loaded"]), ("first token, it is there", first["there"])]:
    print(f"{name}: median {1e3 * median(x):.1f} ms, at most {1e3 * max(x):.1f} ms of {len(x)}")
for why in failures:
    print("a request failed:", why)
print("" if streamed else "the stream ended before all had asked")
sys.exit(bool(failures))
