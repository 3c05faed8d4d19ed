#!/usr/bin/env python3
"""Makes tok_gemma3.json and tok_chars.json beside this file: token ids of the lines of tok_lines.json by the `tokenizers` package, of
Gemma 3's tokenizer, a BPE of characters that falls back to bytes, and of small ones of that kind in many variants."""
import json
import pathlib
import subprocess

from tokenizers import Tokenizer

HERE = pathlib.Path(__file__).resolve().parent
LINES = json.loads((HERE / "tok_lines.json").read_text())
NAMES = ["<start_of_turn>", "<end_of_turn>", "<bos>"]


def special(names):
    a, b, c = names
    return [a, a + b, f"x{a}y", f"{a}system\nYou are.{b}\n{a}user\nHi  there{b}\n", f" {c} ", a[:-1], a + a[:-1] + b]


def gemma3():
    folder = pathlib.Path(subprocess.check_output([HERE / "fetch.sh", "tokenizer-gemma3"], text=True).strip())
    t = Tokenizer.from_file(str(folder / "tokenizer.json"))
    t.encode_special_tokens = True  # names of special tokens are plain text here
    plain = [t.encode(s, add_special_tokens=False).ids for s in LINES]
    t.encode_special_tokens = False
    out = dict(ids=plain, special=[dict(text=s, ids=t.encode(s, add_special_tokens=False).ids) for s in special(NAMES)],
               document=[dict(text=s, ids=t.encode(s).ids) for s in special(NAMES)],
               text=[t.decode(ids) for ids in plain])
    (HERE / "tok_gemma3.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")


LLAMA = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"},
                                             {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]}
TEXTS = ["", "ab", "abab a", " ab", "ab ", "xyz", "axb", "\u00e9\u00e9a", "a\u00e9", "\u4f60a", "\u4f60", "a\n b", "ab<s>ab", "<0x61>", "aab bba  ab",
         "\u00e9\u4f60\u00e9"]


def small(some_bytes, **model):
    words = ["<unk>", "<s>", "\u2581", "a", "b", "ab", "\u2581ab", "abab", "\u2581a", "\n"]
    words += [f"<0x{b:02X}>" for b in range(256) if some_bytes == 256 or b in (0xC3, 0xA9, 0x78)[:some_bytes]]
    pairs = [["a", "b"], ["\u2581", "ab"], ["ab", "ab"], ["\u2581", "a"]]
    return dict(dict(type="BPE", dropout=None, unk_token="<unk>", continuing_subword_prefix=None, end_of_word_suffix=None, fuse_unk=True,
                     byte_fallback=True, ignore_merges=False, vocab={s: i for i, s in enumerate(words)}, merges=pairs), **model)


def variants():
    split = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    yield "llama", LLAMA, None, small(256)
    yield "gemma", LLAMA["normalizers"][1], split, small(256)
    yield "split", None, split, small(256)
    yield "no bytes", LLAMA, None, small(0, byte_fallback=False)
    yield "no fuse", LLAMA, None, small(0, fuse_unk=False)
    yield "some bytes", LLAMA, None, small(2)
    yield "some bytes, no fuse", LLAMA, None, small(3, fuse_unk=False)
    yield "no unknown", LLAMA, None, small(2, unk_token=None)
    yield "whole", LLAMA, split, small(256, ignore_merges=True)


def main():
    gemma3()
    out = []
    for name, normalizer, pre, model in variants():
        added = [dict(id=i, content=s, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
                 for i, s in enumerate(["<unk>", "<s>"])]
        j = dict(version="1.0", truncation=None, padding=None, added_tokens=added, normalizer=normalizer, pre_tokenizer=pre,
                 post_processor=None, decoder=None, model=model)
        t = Tokenizer.from_str(json.dumps(j))
        out.append(dict(name=name, tokenizer=j, cases=[dict(text=s, ids=t.encode(s).ids) for s in TEXTS]))
    text = json.dumps(out, separators=(",", ":"))
    (HERE / "tok_chars.json").write_text(text.replace('{"name"', '\n{"name"') + "\n")


if __name__ == "__main__":
    main()
