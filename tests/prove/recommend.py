#!/usr/bin/env python3
"""recommend.py URL MODEL FOLDER: what a served model recommends, beside popularity, leaving each user's last film out.

FOLDER is of tests/e2e/movies last: users.jsonl has who is asked for, items.jsonl what is recommended from, as the server has it,
whose features have LogValue of "liked" among them. A user is asked for with his history, and found when what he liked next is
among the 10 or 20 first; NDCG@10 is 1 / log2(1 + its place). WEIGHTS of "liked" are tried on what dev wants, and the one of the
greatest NDCG is measured on what test wants, with dev's film at the end of the history. Prints a line a figure, and at last
both as JSON; exits with 1 where the combination finds no more than popularity by recall@10 and NDCG@10 of test. The standard
library alone."""
import http.client
import json
import math
import pathlib
import sys
import urllib.parse

WEIGHTS = [0.05, 0.1, 0.2, 0.3, 0.5, 1]


class Server:
    def __init__(self, url, model):
        self.where, self.model = urllib.parse.urlsplit(url), model
        self.link = http.client.HTTPConnection(self.where.hostname, self.where.port, timeout=300)

    def recommend(self, history, weights):
        body = {"model": self.model, "history": history, "top_n": 20, "weights": weights}
        self.link.request("POST", self.where.path + "/recommend", json.dumps(body), {"Content-Type": "application/json"})
        answer = self.link.getresponse()
        text = answer.read()
        if answer.status != 200:
            sys.exit("%d: %s" % (answer.status, text.decode()))
        return [one["id"] for one in json.loads(text)["results"]]


def measure(rankings, wanted):
    places = [ranking.index(item) + 1 if item in ranking else math.inf for ranking, item in zip(rankings, wanted)]
    n = len(places)
    return {"recall@10": sum(p <= 10 for p in places) / n, "recall@20": sum(p <= 20 for p in places) / n,
            "ndcg@10": sum(1 / math.log2(1 + p) for p in places if p <= 10) / n}


def popularity(items, histories):
    """By hand: the films that most liked and that the user had not, of equals the file's order."""
    order = [item["id"] for item in sorted(items, key=lambda item: -item["liked"])]
    return [[item for item in order if item not in had][:20] for had in map(set, histories)]


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def main(url, model, folder):
    folder, server = pathlib.Path(folder), Server(url, model)
    users, items = lines(folder / "users.jsonl"), lines(folder / "items.jsonl")
    before = [user["history"] for user in users]
    later = [user["history"] + [user["dev"]] for user in users]

    def ask(histories, text, liked, wanted):
        weights = {"text": text, "liked": liked, "genres": 0, "year": 0}
        rankings = [server.recommend(history, weights) for history in histories]
        figures = measure(rankings, [user[wanted] for user in users])
        print("%-4s text %g, liked %g: %s" % (wanted, text, liked, "  ".join("%s %.4f" % f for f in figures.items())), flush=True)
        return figures, rankings

    tried = {liked: ask(before, 1, liked, "dev")[0] for liked in WEIGHTS}
    best = max(WEIGHTS, key=lambda liked: tried[liked]["ndcg@10"])
    popular, rankings = ask(later, 0, 1, "test")
    if rankings != popularity(items, later):
        sys.exit("text 0, liked 1 is not the order of popularity")
    text = ask(later, 1, 0, "test")[0]
    both = ask(later, 1, best, "test")[0]
    print(json.dumps({"users": len(users), "items": len(items), "weight": best, "popularity": popular, "text": text, "both": both}))
    return not all(both[k] > popular[k] for k in ("recall@10", "ndcg@10"))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
