#!/usr/bin/env python3
"""Makes tiny_pairs_step.* and ranking.json beside this file; README.md has the formats.

Pairs of texts on the BERT of make_bert.py: embeddings are means over the tokens, of length 1; losses and gradients of in-batch
negatives (sentence-transformers' MultipleNegativesRankingLoss) and of cosines against labels (CosineSimilarityLoss), written
out in torch; and what is said of rankings and correlations by scikit-learn, scipy and the definitions of
sentence-transformers' InformationRetrievalEvaluator. Deterministic.
"""
import json
import math
import random

import torch
from safetensors.torch import save_file
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import ndcg_score, roc_auc_score
from transformers import BertModel

import make_bert

HERE, PAIRS, T, TEMPERATURE = make_bert.HERE, 4, 16, 0.05
LENGTHS = [16, 9, 5, 12, 3, 7, 16, 11]  # of texts: a and b of each pair in turn
LABELS = [1.0, 0.25, 0.0, 0.7]


def open_model():
    return BertModel.from_pretrained(HERE / "tiny-bert", attn_implementation="eager", dtype=torch.float32,
                                     add_pooling_layer=False).train()


def texts(g, lengths):
    there = torch.arange(T) < torch.tensor(lengths)[:, None]
    return torch.randint(1, 96, (len(lengths), T), generator=g) * there, there


def embed(model, ids, there):
    hidden = model(input_ids=ids, attention_mask=there.long()).last_hidden_state
    mean = (hidden * there[:, :, None]).sum(1) / there.sum(1, keepdim=True)
    return torch.nn.functional.normalize(mean)


def loss_of(kind, e, labels):
    a, b = e[0::2], e[1::2]
    if kind == "Cosine":
        return torch.nn.functional.mse_loss((a * b).sum(1), labels)
    return torch.nn.functional.cross_entropy(a @ b.T / TEMPERATURE, torch.arange(len(a)))


def make_step():
    ids, there = texts(torch.Generator().manual_seed(59), LENGTHS)
    step = dict(b=2 * PAIRS, t=T, lengths=LENGTHS, inputs=ids.flatten().tolist(), labels=LABELS, temperature=TEMPERATURE)
    tensors = {}
    for kind in ("InBatchNegatives", "Cosine"):
        model = open_model()
        e = embed(model, ids, there)
        loss = loss_of(kind, e, torch.tensor(LABELS))
        loss.backward()
        step[kind] = loss.item()
        tensors["embeddings"] = e.detach().contiguous()
        for name, p in model.named_parameters():
            if kind == "InBatchNegatives":
                tensors[name] = p.grad.contiguous()
            else:
                tensors["cosine." + name] = p.grad.flatten()[::4].contiguous()
    save_file(tensors, HERE / "tiny_pairs_step.safetensors")
    (HERE / "tiny_pairs_step.json").write_text(json.dumps(step) + "\n")


def figures(scores, relevant):
    """Of one query, as InformationRetrievalEvaluator has them."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    hits = [i in relevant for i in order]
    recall = [sum(hits[:k]) / len(relevant) for k in (1, 5, 10)]
    mrr = next((1 / (i + 1) for i, h in enumerate(hits[:10]) if h), 0.0)
    gain = sum(1 / math.log2(i + 2) for i, h in enumerate(hits[:10]) if h)
    ideal = sum(1 / math.log2(i + 2) for i in range(min(len(relevant), 10)))
    truth = [[float(i in relevant) for i in range(len(scores))]]
    if len(scores) > 1:
        assert abs(gain / ideal - ndcg_score(truth, [scores], k=10)) < 1e-12
    return recall + [mrr, gain / ideal]


def make_ranking():
    rng = random.Random(61)
    rankings, correlations = [], []
    for k in range(40):
        m = rng.choice([1, 2, 9, 30, 80])
        relevant = sorted(rng.sample(range(m), rng.randint(1, min(m, 15))))
        scores = [round(rng.gauss(1.0 * (i in relevant), 0.7), 4) for i in range(m)]
        if len(set(scores)) < m:
            continue  # of ties each has its own view
        rankings.append(dict(scores=scores, relevant=relevant, figures=figures(scores, relevant)))
    for k in range(24):
        n, binary, step = rng.choice([2, 3, 20, 60]), k % 2 == 0, 64 if k % 3 else 1  # 1: ties
        y = [float(rng.random() < 0.4) if binary else round(rng.random(), 1) for _ in range(n)]
        x = [round(rng.gauss(v, 0.4) * step) / step for v in y]
        if len(set(x)) < 2 or len(set(y)) < 2:
            continue
        correlations.append(dict(x=x, y=y, pearson=pearsonr(x, y)[0], spearman=spearmanr(x, y)[0],
                                 auc=roc_auc_score(y, x) if binary else None))
    (HERE / "ranking.json").write_text(json.dumps(dict(rankings=rankings, correlations=correlations),
                                                  separators=(",", ":")) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    make_step()
    make_ranking()
