#!/usr/bin/env python3
"""steady.py URL MODEL CLIENTS TOKENS FOLDER: so many clients that ask all the time, until FOLDER/stop is there.

Half of them keep their connections while the server lets them, the others make one for each request; every second answer is
streamed. What is not an answer of TOKENS tokens, whole, is a loss: a refusal, a broken connection, an error event. FOLDER/asked
has the number of answers so far. The last line says how many answers there were, how many losses, and the longest wait; exit
status 1: there were losses. The standard library alone.
"""
import http.client
import json
import os
import sys
import threading
import time
import urllib.parse

url, model, clients, tokens, folder = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
where = urllib.parse.urlsplit(url)
lock = threading.Lock()
answers, losses, longest = 0, [], 0.0


def read_stream(answer):
    count, ended, usage = 0, False, None
    for line in answer:
        if line.startswith(b"data: [DONE]"):
            ended = True
        elif line.startswith(b"data: "):
            event = json.loads(line[6:])
            if "error" in event:
                raise RuntimeError(line.decode())
            usage = event.get("usage") or usage
    if not ended:
        raise RuntimeError("the stream has no end")
    return usage["completion_tokens"]


def ask(link, number):
    stream = number % 2 == 1
    body = {"model": model, "prompt": "%d: tell me about the sea." % number, "max_tokens": tokens, "min_tokens": tokens,
            "temperature": 0, "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    link.request("POST", where.path + "/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = link.getresponse()
    if answer.status != 200:
        raise RuntimeError("%d %s" % (answer.status, answer.read()[:200]))
    count = read_stream(answer) if stream else json.load(answer)["usage"]["completion_tokens"]
    answer.read()
    if count != tokens:
        raise RuntimeError("%d tokens of %d" % (count, tokens))


def client(i):
    global answers, longest
    link, number = None, 100000 * i
    while not os.path.exists(folder + "/stop"):
        number += 1
        begun = time.monotonic()
        try:
            link = link or http.client.HTTPConnection(where.hostname, where.port, timeout=120)
            ask(link, number)
            with lock:
                answers += 1
                with open(folder + "/asked", "w") as f:
                    f.write(str(answers))
        except Exception as e:  # whatever it was, a person was not answered
            with lock:
                losses.append("%.1f s, request %d: %r" % (time.monotonic() - start, number, e))
                print(losses[-1], flush=True)
            link = None
            time.sleep(0.2)
        with lock:
            longest = max(longest, time.monotonic() - begun)
        if link and (i % 2 or link.sock is None):  # None: the answer said that the connection ends
            link.close()
            link = None


start = time.monotonic()
threads = [threading.Thread(target=client, args=(i + 1,)) for i in range(clients)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("%d answers in %.1f s, %d lost, the longest wait %.1f s" % (answers, time.monotonic() - start, len(losses), longest))
sys.exit(1 if losses or not answers else 0)
