#!/usr/bin/env python3
"""Makes minilm_embeddings.* beside this file: sentence-transformers' embeddings of texts by the published MiniLM, whose folder
tests/golden/fetch.sh prints. Needs a python as tests/prove/match.sh sets one up.
"""
import json
import pathlib
import subprocess

import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer

HERE = pathlib.Path(__file__).resolve().parent
VERSE = "In the beginning God created the heaven and the earth. "
TEXTS = ["The capital of France is Paris.", "Paris", "", "   ", "unbelievably tokenised, isn't it?", "MÜNCHEN ist eine Stadt; naïve café — 東京",
         "a [SEP] of special tokens [MASK]", "1234567890 + 3.14 = $5", VERSE, 12 * VERSE, 60 * VERSE, "\N{PARTY POPPER} done\n\ttabs"]


def main():
    model = SentenceTransformer(subprocess.check_output([HERE / "fetch.sh", "minilm"], text=True).strip(), device="cpu")
    with torch.no_grad():
        vectors = torch.stack([model.encode(t, convert_to_tensor=True) for t in TEXTS])
    tokens = [len(model.tokenizer(t, truncation=True, max_length=model.max_seq_length)["input_ids"]) for t in TEXTS]
    (HERE / "minilm_embeddings.json").write_text(json.dumps(dict(texts=TEXTS, tokens=tokens), ensure_ascii=False, indent=0) + "\n")
    save_file({"embeddings": vectors.contiguous()}, HERE / "minilm_embeddings.safetensors")


if __name__ == "__main__":
    main()
