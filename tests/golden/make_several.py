#!/usr/bin/env python3
"""Makes several.json beside this file: reports of scikit-learn on texts with any number of labels each; README.md has the
format."""
import json
import pathlib
import random
import warnings

import numpy
from sklearn.metrics import accuracy_score, classification_report, roc_auc_score

HERE = pathlib.Path(__file__).resolve().parent
NAMES = ["art", "law", "Sci/Tech", "a rather long name of a label", "M\u00fcnchen", "\u5317\u4eac", "0", "x", "y"]


def case(rng, k):
    labels = sorted(rng.sample(NAMES, rng.choice([1, 2, 3, 5, 9])) if k else NAMES)
    n, share, far = rng.choice([1, 2, 9, 40, 150]), rng.choice([0.1, 0.3, 0.6]), rng.choice([0.1, 0.5, 3.0])
    truth = [[int(rng.random() < share) for _ in labels] for _ in range(n)]
    scores = [[round(rng.gauss(2 * t - 1, far + 0.2) * 8) / 8 for t in row] for row in truth]  # exact in F32; ties
    t, s = numpy.array(truth), numpy.array(scores)
    g = (s > 0).astype(int)
    rows = classification_report(t, g, target_names=labels, output_dict=True) if len(labels) > 1 else None
    if rows is None:  # scikit-learn takes one column for two classes: a second label like it makes it a matrix
        t, s = numpy.c_[t, t], numpy.c_[s, s]
        g = (s > 0).astype(int)
        labels = labels + [labels[0] + "'"]
        truth, scores = t.tolist(), s.tolist()
        rows = classification_report(t, g, target_names=labels, output_dict=True)
    aucs = [roc_auc_score(t[:, i], s[:, i]) if 0 < t[:, i].sum() < len(t) else None for i in range(len(labels))]
    return {"labels": labels, "truth": sum(truth, []), "scores": sum(scores, []), "accuracy": accuracy_score(t, g),
            "table": classification_report(t, g, target_names=labels, digits=4), "aucs": aucs,
            "rows": {k: [r["precision"], r["recall"], r["f1-score"], r["support"]] for k, r in rows.items()}}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    rng = random.Random(71)
    (HERE / "several.json").write_text(json.dumps([case(rng, k) for k in range(24)], separators=(",", ":")) + "\n")
