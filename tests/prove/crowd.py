#!/usr/bin/env python3
"""crowd.py overload URL AGENT RANK QUEUE SECONDS | disconnects URL AGENT RANK COUNT SEED: crowds of clients at a served model.

overload: so many clients as the queue takes, one answer after another each: what the model can do, all of it accepted. Then requests that
come by themselves, ten times as many in a second, of which most are refused. Then the same beside one client of another API key.
disconnects: clients that go away while they connect, within the head, within the body, at once, while a prompt is computed, while an answer
is, and within a stream. AGENT and RANK are process ids, whose memory and descriptors are looked at. Prints figures; what does not hold ends
as a failure. The standard library alone.
"""
import asyncio
import json
import os
import random
import sys
import time
import urllib.parse

what, url, agent, rank = sys.argv[1:5]
where = urllib.parse.urlsplit(url)
WORDS = "water light king stone river house word night earth morning fire people mountain garden bread voice".split()
FILLS = 180  # words of a prompt that is nearly as long as an answer's context (crowd.sh)
failed = []


def holds(text, true):
    print("%s: %s" % ("ok" if true else "FAILED", text), flush=True)
    if not true:
        failed.append(text)


def resident(pid):  # MiB
    with open("/proc/%s/status" % pid) as f:
        return next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmRSS"))


async def descriptors(pid):  # the fewest in a second: whoever asks how the job is has one now and then
    fewest = 10 ** 9
    for _ in range(20):
        fewest = min(fewest, len(os.listdir("/proc/%s/fd" % pid)))
        await asyncio.sleep(0.05)
    return fewest


def at(values, share):
    values = sorted(values) or [float("nan")]
    return values[min(len(values) - 1, int(share * len(values)))]


def request(number, key="crowd", words=24, tokens=8, stream=True, **more):
    draw = random.Random(number)
    body = json.dumps({"model": "m", "prompt": "%d " % number + " ".join(draw.choice(WORDS) for _ in range(words)), "max_tokens": tokens,
                       "ignore_eos": True, "temperature": 0, "stream": stream, **more}).encode()
    head = "POST %s/completions HTTP/1.1\r\nHost: m\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" \
        "Connection: close\r\n\r\n" % (where.path, key, len(body))
    return head.encode(), body


async def ask(number, key="crowd", **more):
    """(status, seconds to the first token or None, seconds in all, the seconds of Retry-After or None, what came)"""
    begun = time.monotonic()
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(b"".join(request(number, key, **more)))
    head = await reader.readuntil(b"\r\n\r\n")
    status, first, came = int(head.split()[1]), None, b""
    retry = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"retry-after:")]
    while line := await reader.readline():
        came += line
        if first is None and status == 200 and line.startswith(b"data: {"):
            first = time.monotonic() - begun
    writer.close()
    return status, first, time.monotonic() - begun, retry[0] if retry else None, came


# ---- overload ------------------------------------------------------------------------------------
async def one_after_another(until, numbers, out, key):
    while time.monotonic() < until:
        out.append(await ask(next(numbers), key))


async def by_themselves(until, numbers, out, rate):
    draw, tasks, due = random.Random(1), [], time.monotonic()

    async def one():
        out.append(await ask(next(numbers)))
    while due < until:
        due += draw.expovariate(rate)
        await asyncio.sleep(max(0, due - time.monotonic()))
        tasks.append(asyncio.create_task(one()))
    await asyncio.gather(*tasks)


def tell(name, answers, seconds):
    """the accepted ones' 99th percentile of the first token"""
    accepted = [a for a in answers if a[0] == 200]
    refused = [a for a in answers if a[0] == 429]
    first = [a[1] for a in accepted]
    holds("%s: every request is answered or refused" % name, len(accepted) + len(refused) == len(answers) and None not in first)
    print("%s: %.1f answers/s of %.1f asked/s, first token p50 %.3f s p99 %.3f s, %d refused, in p50 %.1f ms p99 %.1f ms at most %.1f ms, to come"
          " again after %s s; agent %.1f MiB, rank %.1f MiB" % (
              name, len(accepted) / seconds, len(answers) / seconds, at(first, 0.5), at(first, 0.99), len(refused),
              1000 * at([a[2] for a in refused], 0.5), 1000 * at([a[2] for a in refused], 0.99), 1000 * at([a[2] for a in refused], 1),
              "%d to %d" % (min(a[3] for a in refused), max(a[3] for a in refused)) if refused else "-", resident(agent), resident(rank)))
    return accepted, refused, at(first, 0.99)


async def overload(queue, seconds):
    numbers = iter(range(10 ** 9))

    async def full(out, key="crowd", clients=queue):
        until = time.monotonic() + seconds
        await asyncio.gather(*(one_after_another(until, numbers, out, key) for _ in range(clients)))
    # Each page of the cache is used once: a rank takes its memory when it is first written.
    await asyncio.gather(*(ask(next(numbers), words=FILLS) for _ in range(queue)))
    capacity, ten, beside, other = [], [], [], []
    await full(capacity)
    accepted, refused, p99 = tell("at capacity", capacity, seconds)
    holds("at capacity: none is refused", not refused)
    rate, before = 10 * len(accepted) / seconds, (resident(agent), resident(rank))
    spent = time.process_time()
    await by_themselves(time.monotonic() + seconds, numbers, ten, rate)
    spent = (time.process_time() - spent) / seconds
    accepted, refused, ten_p99 = tell("ten times", ten, seconds)
    holds("ten times: first token p99 within 1.5 times of that at capacity: %.2f" % (ten_p99 / p99), ten_p99 <= 1.5 * p99)
    # Who shares a processor with the clients holds the rank's other threads up.
    holds("ten times: as many answers as at capacity, within a fifth of what clients leave, who take %.2f of a processor" % spent,
          10 * len(accepted) / seconds > 0.8 * (1 - spent) * rate)
    holds("ten times: refused within 50 ms, 99 of 100", at([a[2] for a in refused], 0.99) <= 0.05)
    holds("ten times: each is told when to come again", all(a[3] and 1 <= a[3] <= 60 for a in refused))
    more = resident(agent) - before[0], resident(rank) - before[1]
    holds("ten times: memory stays: agent %+.1f MiB, rank %+.1f MiB" % more, max(more) < 8)
    crowd = asyncio.create_task(by_themselves(time.monotonic() + seconds, numbers, beside, rate))
    await asyncio.sleep(1)
    await one_after_another(time.monotonic() + seconds - 2, numbers, other, "other")
    await crowd
    tell("a crowd", beside, seconds)
    accepted, refused, other_p99 = tell("and one of another key", other, seconds - 2)
    holds("another key: it is never refused", not refused)
    holds("another key: its first token p99 within half of the crowd's at ten times", other_p99 <= ten_p99 / 2)


# ---- disconnects ---------------------------------------------------------------------------------
PHASES = ["connect", "head", "body", "at once", "prompt", "answer", "stream"]


async def go_away(number, draw, counts):
    phase = draw.choice(PHASES)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    head, body = request(number, words=draw.choice([1, 40]) if phase == "prompt" else 4, tokens=60, stream=phase == "stream")
    if phase == "head":
        writer.write(head[:draw.randrange(1, len(head))])
    elif phase == "body":
        writer.write(head + body[:draw.randrange(len(body))])
    elif phase != "connect":
        writer.write(head + body)
    if phase == "stream":
        came = await reader.readuntil(b"\r\n\r\n")
        phase = phase if b" 200 " in came else "refused"
        if phase == "stream":
            await reader.readuntil(b"data: {")
    elif phase in ("prompt", "answer"):
        await asyncio.sleep(draw.random() * (0.003 if phase == "prompt" else 0.05))
    counts[phase] = counts.get(phase, 0) + 1
    if draw.random() < 0.5:
        writer.transport.abort()  # with a reset where something came that was not read
    else:
        writer.close()


async def disconnects(count, seed):
    draw, counts = random.Random(seed), {}
    same = [(await ask(7, tokens=16))[4].split(b'"text":')[i].split(b",")[0] for i in (1, 2, 3)]
    print("seed %d" % seed)

    async def many(numbers):
        for number in numbers:
            await go_away(number, draw, counts)

    async def all_of(first, n):
        await asyncio.gather(*(many(range(first + i, first + n, 24)) for i in range(24)))
    before = await descriptors(agent), await descriptors(rank)
    await all_of(0, count // 10)  # what grows once has grown
    memory = resident(agent), resident(rank)
    begun = time.monotonic()
    await all_of(count // 10, count - count // 10)
    print("%d went away, %.0f a second: %s" % (
        count, 0.9 * count / (time.monotonic() - begun), ", ".join("%s %d" % x for x in sorted(counts.items()))))

    for _ in range(10):  # the last of them are seen to be gone
        now = await descriptors(agent), await descriptors(rank)
        if now[0] <= before[0] and now[1] <= before[1]:
            break
    holds("no descriptor is left: agent %d, rank %d, of %d and %d" % (now + before), now[0] <= before[0] and now[1] <= before[1])
    more = resident(agent) - memory[0], resident(rank) - memory[1]
    holds("memory stays: agent %+.1f MiB, rank %+.1f MiB" % more, max(more) < 4)
    all_at_once = await asyncio.gather(*(ask(10 ** 6 + i, tokens=60) for i in range(16)))
    holds("all places of the queue are free", all(a[0] == 200 for a in all_at_once))
    now = [(await ask(7, tokens=16))[4].split(b'"text":')[i].split(b",")[0] for i in (1, 2, 3)]
    holds("an answer is what it was", now == same)


numbers = [int(x) for x in sys.argv[5:7]]
asyncio.run(overload(*numbers) if what == "overload" else disconnects(*numbers))
sys.exit(1 if failed else 0)
