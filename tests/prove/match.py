#!/usr/bin/env python3
"""match.py FOLDER PAIRS: what sentence-transformers makes of an output of PairMatching, and whether its report of the same pairs
(JSONL) is that of sentence-transformers' own evaluators; with FOLDER/adapter also whether peft loads it on the model that it
names, with equal hidden states. Prints the differences; they must be below 1e-3."""
import json
import pathlib
import sys

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.evaluation import EmbeddingSimilarityEvaluator, InformationRetrievalEvaluator
from transformers import AutoTokenizer, BertModel

FIGURES = {"recall@1": "cosine_recall@1", "recall@5": "cosine_recall@5", "recall@10": "cosine_recall@10",
           "mrr@10": "cosine_mrr@10", "ndcg@10": "cosine_ndcg@10"}


def check(name, ours, theirs, tolerance=1e-3):
    print("%s: %.6f here, %.6f there" % (name, ours, theirs))
    if not abs(ours - theirs) < tolerance:
        sys.exit("%s differs" % name)


def compare_embeddings(model, folder, texts):
    """By transformers alone: means over the tokens, of length 1."""
    tokenizer, bert = AutoTokenizer.from_pretrained(folder), BertModel.from_pretrained(folder, dtype=torch.float32).eval()
    batch = tokenizer(texts, padding=True, truncation=True, max_length=model.max_seq_length, return_tensors="pt")
    with torch.no_grad():
        hidden = bert(**batch).last_hidden_state
    there = batch["attention_mask"][:, :, None]
    mean = torch.nn.functional.normalize((hidden * there).sum(1) / there.sum(1))
    far = (mean - torch.tensor(model.encode(texts))).abs().max().item()
    print("embeddings by hand: %.2g away" % far)
    if far > 1e-5:
        sys.exit("embeddings differ")
    return hidden, batch


def compare_adapter(folder, hidden, batch):
    from peft import PeftModel
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    base = BertModel.from_pretrained(config["base_model_name_or_path"], dtype=torch.float32)
    with torch.no_grad():
        far = (PeftModel.from_pretrained(base, folder / "adapter").eval()(**batch).last_hidden_state - hidden).abs().max().item()
    print("hidden states with the adapter: %.2g away" % far)
    if far > 1e-3:
        sys.exit("the adapter differs")


def main(folder, path):
    folder = pathlib.Path(folder)
    pairs = [json.loads(line) for line in pathlib.Path(path).read_text("utf-8").splitlines()]
    test = json.loads((folder / "report.json").read_text())["test"]
    model = SentenceTransformer(str(folder), device="cpu")
    print([type(module).__name__ for module in model], "of at most", model.max_seq_length, "tokens")
    hidden, batch = compare_embeddings(model, folder, [p["a"] for p in pairs[:8]])
    if "similarity" in test:
        found = EmbeddingSimilarityEvaluator([p["a"] for p in pairs], [p["b"] for p in pairs], [p["label"] for p in pairs])(model)
        check("spearman", test["similarity"]["spearman"], found["spearman_cosine"])
        check("pearson", test["similarity"]["pearson"], found["pearson_cosine"])
    else:
        a, b = ({t: str(i) for i, t in enumerate(sorted({p[k] for p in pairs}))} for k in "ab")
        relevant = {q: {b[p["b"]] for p in pairs if a[p["a"]] == q} for q in a.values()}
        found = InformationRetrievalEvaluator({i: t for t, i in a.items()}, {i: t for t, i in b.items()}, relevant,
                                              precision_recall_at_k=[1, 5, 10])(model)
        check("queries", test["ranking"]["queries"], len(a))
        check("candidates", test["ranking"]["candidates"], len(b))
        for ours, theirs in FIGURES.items():
            check(ours, test["ranking"][ours], found[theirs])
    if (folder / "adapter").exists():
        compare_adapter(folder, hidden, batch)


if __name__ == "__main__":
    main(*sys.argv[1:])
