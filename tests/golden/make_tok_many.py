#!/usr/bin/env python3
"""Makes tok_many.json beside this file: what the `tokenizers` package makes of ten thousand random lines with each published BPE, as a
hash of each block of lines. The lines are those of make_tok_unigram.py, with the lines of tok_lines.json for pieces; names of special
tokens are plain text."""
import json
import pathlib

from tokenizers import Tokenizer

from make_tok import fetch, gpt2, smollm2
from make_tok_unigram import LINES, blocks, line_of, of_ids

HERE = pathlib.Path(__file__).resolve().parent


def opened(name):
    if name == "smollm2":
        return smollm2(fetch(name))
    folder = fetch(name)
    return gpt2(folder) if name == "tokenizer-gpt2" else Tokenizer.from_file(str(folder / "tokenizer.json"))


def main():
    pieces, out = json.loads((HERE / "tok_lines.json").read_text()), dict(lines=LINES)
    lines = [line_of(i, pieces) for i in range(LINES)]
    for name in ("smollm2", "tokenizer-qwen3", "tokenizer-llama3", "tokenizer-gpt2", "tokenizer-gemma3"):
        t = opened(name)
        t.encode_special_tokens = True
        out[name] = blocks([of_ids(e.ids) for e in t.encode_batch(lines, add_special_tokens=False)])
    (HERE / "tok_many.json").write_text(json.dumps(out, indent=0) + "\n")


if __name__ == "__main__":
    main()
