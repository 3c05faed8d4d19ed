#!/usr/bin/env python3
"""Makes tok_pairs.json beside this file: ids and token types of pairs of texts that are cut by truncation "longest_first": what
transformers makes of them with MiniLM's tokenizer, what the `tokenizers` package makes with others that were published, as 16 bits of a
hash a pair, and with small ones whose post-processors differ. Pairs are of the lines of tok_lines.json, as the test makes them, too."""
import json
import pathlib

from tokenizers import Tokenizer
from transformers import AutoTokenizer, BertTokenizer

import make_tok_rules as rules
from make_tok import fetch
from make_tok_wordpiece import bits

HERE = pathlib.Path(__file__).resolve().parent
LINES = json.loads((HERE / "tok_lines.json").read_text())
PAIRS = 400
PUBLISHED = {"tokenizer-llama3": "tokenizer.json", "tokenizer-mon": "mon_tokenizer.json"}
TEXTS = ["", "ab", "abab a", "a b a b a b a", "word word word", "a<tool>b", "<s>ab</s>"]


def pair(i):
    """Texts, and how many tokens there may be."""
    return LINES[i % 200], LINES[(7 * i + i // 200) % 200], 4 + i * 5 % 61


def published(name):
    t = Tokenizer.from_file(str(fetch(name) / PUBLISHED[name]))
    t.no_padding()

    def encode(a, b, most):
        t.enable_truncation(most, strategy="longest_first")
        e = t.encode(a, b)
        return e.ids, e.type_ids
    return encode


def by_transformers(t):
    def encode(a, b, most):
        e = t([a], [b], truncation="longest_first", max_length=most)  # as lists: a lone empty second text would count as none
        return e["input_ids"][0], e["token_type_ids"][0]
    return encode


def hashes(encode):
    out = ""
    for i in range(PAIRS):
        ids, types = encode(*pair(i))
        assert len(ids) == len(types) <= pair(i)[2]
        out += bits(b"".join(n.to_bytes(4, "little") for n in ids + types))
    return out


def piece(s, type_id):
    return {"Sequence": {"id": s, "type_id": type_id}} if s in "AB" else {"SpecialToken": {"id": s, "type_id": type_id}}


def template(pieces, **ids):
    """pieces: "<s>:0 A:0 ..."; what a name stands for may be several tokens."""
    names = dict({"<s>": [rules.BOS], "</s>": [rules.EOS]}, **ids)
    listed = [(s[:-2], int(s[-1])) for s in pieces.split()]
    return {"type": "TemplateProcessing", "single": [piece("A", 0)], "pair": [piece(s, n) for s, n in listed],
            "special_tokens": {s: {"id": s, "ids": names[s], "tokens": ["x"] * len(names[s])} for s, _ in listed if s not in "AB"}}


def posts():
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    bert = {k: v for k, v in rules.pair("BertProcessing").items() if k in ("type", "sep", "cls")}
    yield "none", None
    yield "bytes", level
    yield "bert", bert
    yield "roberta", rules.pair("RobertaProcessing")
    yield "each", template("<s>:0 A:0 </s>:0 <s>:1 B:1 </s>:1")
    yield "types", template("<s>:2 A:1 </s>:3 B:0 </s>:2")
    yield "second first", template("<s>:0 B:0 </s>:1 A:1")
    yield "several", template("<s>:0 A:0 two:0 B:1 </s>:1", two=[rules.EOS, rules.PAD])
    yield "nothing around", template("A:0 B:0")
    yield "sequence", {"type": "Sequence", "processors": [level, template("<s>:0 A:0 <s>:1 B:1")]}


def small(post):
    j = dict(rules.base(), added_tokens=rules.PLAIN, post_processor=post)
    t = Tokenizer.from_str(json.dumps(j))
    cases = []
    for k, a in enumerate(TEXTS):
        for b in TEXTS[k % 2::2]:
            for most in (6, 7, 9, 100):
                t.enable_truncation(most, strategy="longest_first")
                e = t.encode(a, b)
                cases.append(dict(a=a, b=b, most=most, ids=e.ids, types=e.type_ids))
    return cases


def main():
    minilm = fetch("minilm")
    named = [("minilm", by_transformers(AutoTokenizer.from_pretrained(minilm)))] + [(n, published(n)) for n in PUBLISHED]
    out = dict(pairs=PAIRS, published=[dict(name=name, file=PUBLISHED.get(name, "tokenizer.json"), hashes=hashes(encode)) for name, encode in named])
    vocab = {w: i for i, w in enumerate((minilm / "vocab.txt").read_text().split("\n")[:-1])}
    assert hashes(by_transformers(BertTokenizer(vocab=vocab))) == out["published"][0]["hashes"]
    out.update(tokenizer=rules.base(), added_tokens=rules.PLAIN,
               small=[dict(name=name, post_processor=post, cases=small(post)) for name, post in posts()])
    text = json.dumps(out, separators=(",", ":"))
    (HERE / "tok_pairs.json").write_text(text.replace('{"name"', '\n{"name"') + "\n")


if __name__ == "__main__":
    main()
