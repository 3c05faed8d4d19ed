"""monitor.py LINES ANSWERS RECEIVED: what came of a stream with a burst (tests/e2e/mails stream): how right the labels were, when the
alert fired and resolved, how late after the burst's beginning and end, how often outside it; and, of the same labels, how often an
alarm on the bare share of the last N texts changes its mind. As JSON; times in seconds of the stream. Exit status 1 unless the alert
fired once, within a window of the burst's beginning, and resolved once, within a window of its end."""
import datetime
import json
import sys

STEP, WINDOW, SHARE = 10, 300, 0.5


def lines(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.startswith("{")]


def seconds(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def bare(spam, n):
    """Times at which the share of the last n reaches SHARE, and at which it is below."""
    on, off, is_on = [], [], False
    for i in range(n - 1, len(spam)):
        now = sum(spam[i - n + 1:i + 1]) / n >= SHARE
        if now != is_on:
            (on if now else off).append(i * STEP)
        is_on = now
    return on, off


said, answers, received = (lines(path) for path in sys.argv[1:4])
start, count = said[0]["time"], len(said)
assert len(answers) == count and [a["id"] for a in answers] == list(range(count))
spam = [a["label"] == "spam" for a in answers]
burst = (count * 4 // 10 * STEP, count * 6 // 10 * STEP)
times = {kind: [seconds(r["alerts"][0][key]) - start for r in received if r["status"] == kind]
         for kind, key in (("firing", "startsAt"), ("resolved", "endsAt"))}


def outside(on):
    return sum(not burst[0] <= t < burst[1] + WINDOW for t in on)


figures = {"texts": count, "accuracy": sum(a["label"] == s["label"] for a, s in zip(answers, said)) / count,
           "unwantedAsSaidInQuiet": sum(s for i, s in enumerate(spam) if not burst[0] <= i * STEP < burst[1]) / (count * 8 // 10),
           "burst": burst, **times}
for kind, since in (("firing", burst[0]), ("resolved", burst[1])):
    figures[kind + "After"] = times[kind][0] - since if times[kind] else None
figures["alerts"], figures["falseAlerts"] = len(times["firing"]), outside(times["firing"])
for n in (10, WINDOW // STEP):
    on, _ = bare(spam, n)
    figures["bareLast%d" % n] = {"alarms": len(on), "false": outside(on),
                                 "after": next((t - burst[0] for t in on if t >= burst[0]), None)}
print(json.dumps(figures))
ok = (len(times["firing"]) == len(times["resolved"]) == 1 and 0 <= figures["firingAfter"] <= WINDOW
      and 0 <= figures["resolvedAfter"] <= WINDOW)
sys.exit(not ok)
