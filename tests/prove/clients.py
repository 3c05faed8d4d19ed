#!/usr/bin/env python3
"""clients.py URL MODEL [CLIENTS [REQUESTS [TOKENS [WORDS]]]]: so many clients that stream completions, one after another each.

Prints a line: output tokens per second over all, seconds to the first token (median and 95th percentile) and between two
tokens (95th percentile), tokens per second of an answer by itself behind its first one and tokens of a prompt (medians). MODEL may be several,
"smol,kjv": each client has the next one. Prompts differ from their first word on, so that none is found in a cache. The standard library alone:
any server of the API may stand at URL, which ends in /v1.
"""
import http.client
import json
import random
import sys
import threading
import time
import urllib.parse

url, models = sys.argv[1], sys.argv[2].split(",")
clients, requests, tokens, words = [int(x) for x in sys.argv[3:7]] + [8, 3, 64, 60][len(sys.argv) - 3:]
where = urllib.parse.urlsplit(url)
first, between, counts, rates, prompts, failures = [], [], [], [], [], []
WORDS = "water light king stone river house word night earth morning fire people mountain garden bread voice".split()


def ask(number, model):
    draw = random.Random(number)
    prompt = "%d " % number + " ".join(draw.choice(WORDS) for _ in range(words))
    body = {"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0.8, "seed": number, "stream": True,
            "stream_options": {"include_usage": True}}
    link = http.client.HTTPConnection(where.hostname, where.port, timeout=300)
    begun = opened = last = time.monotonic()
    link.request("POST", where.path + "/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = link.getresponse()
    count = 0
    if answer.status != 200:
        failures.append(answer.read())
        return
    for line in answer:
        event = json.loads(line[6:]) if line.startswith(b"data: {") else {}
        if event.get("usage"):
            prompts.append(event["usage"]["prompt_tokens"])
        if not event.get("choices") or not event["choices"][0].get("text"):
            continue
        now = time.monotonic()
        if count:
            between.append(now - last)
        else:
            first.append(now - begun)
            opened = now
        last = now
        count += 1
    counts.append(count)
    if count > 1:
        rates.append((count - 1) / (last - opened))
    link.close()


def client(i):
    for k in range(requests):
        ask(1000 * i + k + 1, models[i % len(models)])


def at(values, share):
    values = sorted(values) or [float("nan")]
    return values[min(len(values) - 1, int(share * len(values)))]


threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
begun = time.monotonic()
for t in threads:
    t.start()
for t in threads:
    t.join()
took = time.monotonic() - begun
print("%d clients: %.1f events/s, first token p50 %.3f s p95 %.2f s, between p95 %.3f s, each %.1f events/s, prompts of %d tokens, "
      "%d answers, %d failed" % (clients, sum(counts) / took, at(first, 0.5), at(first, 0.95), at(between, 0.95), at(rates, 0.5),
                                 at(prompts or [0], 0.5), len(counts), len(failures)))
sys.exit(1 if failures else 0)
