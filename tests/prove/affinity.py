#!/usr/bin/env python3
"""affinity.py MODEL CONVERSATIONS TURNS URL...: conversations of so many turns, each turn asked of any of the URLs, which end in /v1,
over a connection of its own; three go on at once. Prints a JSON object: answers, those that were lost, tokens of prompts that stood in
the one before (again), those that were found in a cache, and which part that is, which may be above 1, since answers are found, too; exit
status 1: there were losses. The standard library alone.
"""
import http.client
import json
import random
import sys
import threading
import urllib.parse

model, conversations, turns, urls = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), [urllib.parse.urlsplit(u) for u in sys.argv[4:]]
lock = threading.Lock()
sums = {"answers": 0, "lost": 0, "again": 0, "cached": 0}
WORDS = "water light king stone river house word night earth morning fire people mountain garden bread voice".split()


def words(draw, count):
    return " ".join(draw.choice(WORDS) for _ in range(count))


def ask(where, messages):
    link = http.client.HTTPConnection(where.hostname, where.port, timeout=120)
    body = {"model": model, "messages": messages, "max_tokens": 8, "temperature": 0}
    link.request("POST", where.path + "/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = link.getresponse()
    said = answer.read()
    link.close()
    if answer.status != 200:
        raise RuntimeError("%d %s" % (answer.status, said[:200]))
    return json.loads(said)


def talk(number):
    draw = random.Random(number)
    messages = [{"role": "system", "content": "%d. %s" % (number, words(draw, 80))}]
    before = 0
    for turn in range(turns):
        messages.append({"role": "user", "content": words(draw, 30)})
        try:
            said = ask(draw.choice(urls), messages)
        except Exception as e:  # whatever it was, a person was not answered
            print("conversation %d, turn %d: %r" % (number, turn, e), file=sys.stderr)
            with lock:
                sums["lost"] += 1
            return
        messages.append({"role": "assistant", "content": said["choices"][0]["message"]["content"]})
        with lock:
            sums["answers"] += 1
            if turn:
                sums["again"] += before
                sums["cached"] += said["usage"].get("prompt_tokens_details", {}).get("cached_tokens", 0)
        before = said["usage"]["prompt_tokens"]


def client(i):
    for number in range(i, conversations, 3):
        talk(1000 + number)


threads = [threading.Thread(target=client, args=(i,)) for i in range(3)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print(json.dumps(dict(sums, found=round(sums["cached"] / max(sums["again"], 1), 3))))
sys.exit(1 if sums["lost"] or not sums["answers"] else 0)
