#!/usr/bin/env python3
"""Makes classes.json beside this file: reports of scikit-learn on random labels, and the area under the ROC curve of two."""
import json
import pathlib
import random
import warnings

import numpy
from sklearn.metrics import accuracy_score, classification_report, roc_auc_score

HERE = pathlib.Path(__file__).resolve().parent
NAMES = ["ham", "spam", "Sci/Tech", "a rather long name of a label", "M\u00fcnchen", "\u5317\u4eac", "0", "1", "NN", "VB", "x", "y"]


def case(name, labels, truth, guess, scores=None):
    """labels: sorted as scikit-learn and we sort them, by code point. Where nothing at all is right scikit-learn prints
    supports as "1.0"; there is no table then."""
    t, g = [labels[i] for i in truth], [labels[i] for i in guess]
    rows = classification_report(t, g, output_dict=True)
    rows.pop("accuracy")
    found = {"name": name, "labels": labels, "truth": truth, "guess": guess, "accuracy": accuracy_score(t, g),
             "table": classification_report(t, g, digits=4) if set(zip(t, g)) & set(zip(t, t)) else None,
             "rows": {k: [r["precision"], r["recall"], r["f1-score"], r["support"]] for k, r in rows.items()}}
    if scores is not None:
        both = len(set(truth)) == 2
        found["scores"] = [float(s) for s in scores]
        found["auc"] = roc_auc_score(truth, scores) if both else None
    return found


def random_case(rng, k):
    count = 2 if k % 3 == 0 else rng.randint(2, len(NAMES))
    labels = sorted(rng.sample(NAMES, count))
    n = rng.choice([1, 2, 7, 40, 300])
    wrong, few = rng.choice([0.0, 0.1, 0.5, 1.0]), rng.random() < 0.3
    truth = [rng.randrange(1 if few else count) for _ in range(n)]
    guess = [rng.randrange(count) if rng.random() < wrong else t for t in truth]
    scores = None
    if count == 2:
        scores = numpy.array([rng.gauss(t, 1.0) for t in truth], dtype=numpy.float32)
        if k % 2:
            scores = numpy.round(scores * 2) / 2  # ties
    return case("random %d" % k, labels, truth, guess, scores)


def many(rng):
    """More labels than numpy adds up one by one."""
    labels = sorted("label %03d" % i for i in range(300))
    truth = [rng.randrange(300) for _ in range(2000)]
    return case("many", labels, truth, [t if rng.random() < 0.7 else rng.randrange(300) for t in truth])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    rng = random.Random(53)
    cases = [random_case(rng, k) for k in range(60)] + [many(rng)]
    (HERE / "classes.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")
