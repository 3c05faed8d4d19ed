#!/usr/bin/env python3
"""Makes entities.json beside this file: reports of seqeval on random sentences of all schemes, ill-formed ones too."""
import collections
import json
import pathlib
import random
import warnings

from seqeval.metrics import accuracy_score, classification_report
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, IOBES

HERE = pathlib.Path(__file__).resolve().parent
TYPES = ["PER", "LOC", "ORG", "MISC"]


def labels_of(prefixes, types):
    return ["O"] + [p + "-" + t for t in types for p in prefixes]


def scheme_of(labels):
    """The one that the names allow, as runtime/train/entities.h chooses it."""
    first = {label[0] for label in labels}
    if first - set("OBIES"):
        return None
    return IOBES if first & set("ES") else IOB2 if "B" in first else None


def report(truth, guess, scheme):
    strict = {"mode": "strict", "scheme": scheme} if scheme else {}
    try:
        rows = classification_report(truth, guess, output_dict=True, **strict)
        return {"table": classification_report(truth, guess, digits=4, **strict),
                "rows": {name: list(row.values()) for name, row in rows.items()}}
    except ValueError:  # there is no entity
        return None


def counts(truth, guess):
    """True, guessed and right entities of each type."""
    t, g = set(get_entities(truth)), set(get_entities(guess))
    return collections.Counter((kind, e[0]) for kind, found in enumerate((t, g, t & g)) for e in found)


def carries_over(truth, guess):
    """Whether seqeval's counts are not those of its sentences, for it takes a beginning from one to the next."""
    return counts(truth, guess) != sum((counts([t], [g]) for t, g in zip(truth, guess)), collections.Counter())


def corpus(name, labels, truth, guess):
    assert not carries_over(truth, guess), name
    number = {label: i for i, label in enumerate(labels)}
    scheme = scheme_of(labels)
    return {"name": name, "labels": labels, "scheme": scheme.__name__ if scheme else None,
            "truth": [[number[x] for x in s] for s in truth], "guess": [[number[x] for x in s] for s in guess],
            "accuracy": accuracy_score(truth, guess), "lenient": report(truth, guess, None),
            "strict": report(truth, guess, scheme) if scheme else None}


def well_formed(rng, prefixes, types, n):
    """A sentence as a scheme has it: runs of entities with O between them or not."""
    out = []
    while len(out) < n:
        if rng.random() < 0.5:
            out.append("O")
            continue
        t, size = rng.choice(types), rng.choice([1, 1, 2, 3])
        first, last = "B" if "B" in prefixes else "I", "E" if "E" in prefixes else "I"
        alone = "S" if "S" in prefixes else first if "B" in prefixes else last
        out += [alone + "-" + t] if size == 1 else [first + "-" + t] + ["I-" + t] * (size - 2) + [last + "-" + t]
    return out[:n]


def drawn(name, rng, prefixes, types, sentences, longest, noise, others=()):
    """Truth is well-formed (or, with noise 1, anything), a guess is the truth with noise."""
    labels = labels_of(prefixes, types) + list(others)
    while True:
        truth, guess = [], []
        for _ in range(sentences):
            n = rng.randint(1, longest)
            t = [rng.choice(labels) for _ in range(n)] if noise == 1 else well_formed(rng, prefixes, types, n)
            truth.append(t)
            guess.append([rng.choice(labels) if rng.random() < noise / 2 else x for x in t])
        if not carries_over(truth, guess):
            return corpus(name, labels, truth, guess)


def by_hand():
    odd = ["O", "B-", "I-", "B", "I", "E", "S", "X", "B-PER", "I-PER", "MISC", "BPER", "B--A-", "IX-PER", "O-PER", ".",
           ".-PER", "É-PER", "B-Ünï", "B-a-b", "E-PER-", "x-"]
    yield "odd names", odd, [odd, ["B-PER", "X", "O", "X", "I-PER"]], [
        odd[:-9] + odd[-9:][::-1], ["B-PER", "X", "X", "I-PER", "I-PER"]]
    yield "odd names backwards", odd, [odd[::-1]], [odd]
    yield "strange from the beginning", odd, [["X", "X", "B-PER", "X", "I"]], [["X", "X", "I-PER", "X", "I"]]
    yield "points", ["O", "B-PER", ".-LOC", "X-LOC"], [["B-PER", ".-LOC", "X-LOC", "B-PER", ".-LOC", "X-LOC"]], [
        ["B-PER", "X-LOC", "X-LOC", "B-PER", ".-LOC", ".-LOC"]]
    yield "hyphens", ["O", "B-A-", "I-A", "B--A", "I-A--"], [
        ["B-A-", "I-A", "O", "B--A", "I-A--"]], [["B--A", "I-A", "O", "B-A-", "I-A"]]
    yield "nothing right", labels_of("BI", ["A", "B"]), [["B-A", "I-A", "O"]], [["B-B", "I-B", "O"]]
    yield "nothing true", labels_of("BI", ["A", "B"]), [["O", "O", "O"]], [["B-B", "I-B", "O"]]
    yield "nothing guessed", labels_of("BI", ["A", "B"]), [["B-A", "I-A", "O"]], [["O", "O", "O"]]
    yield "nothing at all", labels_of("BI", ["A", "B"]), [["O", "O"]], [["O", "O"]]
    yield "only inside", labels_of("I", ["A", "B"]), [["I-A", "I-A", "I-B", "O", "I-B"]], [["I-A", "O", "I-B"] + ["I-B"] * 2]
    yield "outside alone", ["O"], [["O"]], [["O"]]
    yield "a long name", labels_of("BI", ["Höhe über dem Meeresspiegel".replace(" ", "_"), "A"]), [
        ["B-A", "I-A", "B-Höhe_über_dem_Meeresspiegel"]], [["B-A", "O", "B-Höhe_über_dem_Meeresspiegel"]]
    yield "the end of a sentence", labels_of("BIES", ["A"]), [["B-A", "I-A"], ["I-A", "E-A"], ["B-A"], ["E-A"], ["S-A"]], [
        ["B-A", "E-A"], ["I-A", "E-A"], ["S-A"], ["E-A"], ["B-A"]]
    many = labels_of("BI", ["t%03d" % i for i in range(140)])  # numpy sums more than 128 in halves
    rng = random.Random(140)
    truth = [[rng.choice(many) for _ in range(20)] for _ in range(25)]
    yield "many types", many, truth, [[x if rng.random() < 0.6 else rng.choice(many) for x in s] for s in truth]


def main():
    warnings.simplefilter("ignore")
    rng = random.Random(20)
    corpora = [corpus(*c) for c in by_hand()]
    for noise in 0.1, 0.5, 1:
        for prefixes in "I", "BI", "BIES", "BIE", "IE", "BIS":
            for types in TYPES[:1], TYPES, ["t%02d" % i for i in range(19)]:
                name = "%s, %d types, noise %g" % (prefixes, len(types), noise)
                corpora.append(drawn(name, rng, prefixes, types, 7, 14, noise))
    for noise in 0.3, 1:
        for others in ["X"], ["NOUN", "VERB", "."], ["B-", "I-", "S", "E"], ["BX-PER", "O-PER", ".-PER"], ["U-PER", "L-PER"]:
            corpora.append(drawn("with " + " ".join(others), rng, "BI", TYPES[:2], 6, 10, noise, others))
    with open(HERE / "entities.json", "w", encoding="utf-8") as f:
        f.write("[" + ",\n".join(json.dumps(c, ensure_ascii=False, separators=(",", ":"), default=int) for c in corpora) + "]\n")
    print(len(corpora), "corpora,", sum(len(c["truth"]) for c in corpora), "sentences")


if __name__ == "__main__":
    main()
