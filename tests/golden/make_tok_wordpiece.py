#!/usr/bin/env python3
"""Makes tok_wordpiece.json beside this file: what the `tokenizers` package makes of random lines with MiniLM's WordPiece and with
variants of it, and what transformers makes of them with its vocab.txt alone, or by a class that tokenizer_config.json names; as 16 bits
of a hash a line. The lines are made here and in the test by the same rule, of the vocabulary and of characters of many scripts (line_of)."""
import json
import pathlib
import subprocess
import tempfile

from tokenizers import Tokenizer
from transformers import AutoTokenizer, BertTokenizer

HERE = pathlib.Path(__file__).resolve().parent
MODEL = pathlib.Path(subprocess.check_output([HERE / "fetch.sh", "minilm"], text=True).strip())
VOCAB = (MODEL / "vocab.txt").read_text().split("\n")[:-1]
LINES, FEWER = 2400, 600

RANGES = [(0xC0, 0x24F), (0x1E00, 0x1EFF), (0x300, 0x36F), (0x370, 0x3FF), (0x1F00, 0x1FFF), (0x400, 0x52F), (0x590, 0x5FF),
          (0x61E, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F), (0xAC00, 0xD7A3), (0x3040, 0x30FF), (0x4E00, 0x9FA5), (0x20000, 0x2A6D6),
          (0xF900, 0xFAD9), (0xFF00, 0xFFEF), (0x1F300, 0x1F64F), (0x2000, 0x206F), (0x2100, 0x214F), (0x24B0, 0x24EF),
          (0x1D400, 0x1D4FF)]
SINGLE = [" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u200b", "\u200d", "\ufeff", "\u0000", "\u0001", "\u007f", "\u0085", "\u00ad",
          "\u2028", "\u3000", "\ufffd", "\ufdd0", "\ue000", "\ue001", "\U0010ffff", "\u0130", "\u03a3", "\u1e9e", "\ufb01", "\u0131"]
WORDS = ["[SEP]", "[MASK]", "[UNK]", "[CLS]", "[sep]", "##ing", "don't", "U.S.A.", "x" * 101, "x" * 100, "_a_", "\u00e9t\u00e9"]


class Dice:
    def __init__(self, seed):
        self.x = seed * 0x9E3779B97F4A7C15 + 1 & (1 << 64) - 1

    def throw(self, n):
        self.x = self.x * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        return (self.x >> 33) % n


def word(d):
    s = VOCAB[d.throw(len(VOCAB))]
    s = s[2:] if s.startswith("##") else s
    if d.throw(4) == 0 and "a" <= s[0] <= "z":
        s = chr(ord(s[0]) - 32) + s[1:]
    if d.throw(8) == 0:
        s += "\u0301"
    return s + (" " if d.throw(3) else "")


def script(d):
    low, high = RANGES[d.throw(len(RANGES))]
    return "".join(chr(low + d.throw(high - low + 1)) for _ in range(1 + d.throw(6)))


def line_of(i):
    d, out = Dice(i), ""
    for _ in range(1 + d.throw(12)):
        kind = d.throw(8)
        if kind < 4:
            out += word(d)
        elif kind == 4:
            out += script(d)
        elif kind == 5:
            out += SINGLE[d.throw(len(SINGLE))]
        elif kind == 6:
            out += chr(0x21 + d.throw(94))
        else:
            out += WORDS[d.throw(len(WORDS))] + (" " if d.throw(2) else "")
    return out


def bits(data):
    h = 2166136261
    for b in data:
        h = (h ^ b) * 16777619 & 0xFFFFFFFF
    return f"{(h ^ h >> 16) & 0xFFFF:04x}"


def of_ids(ids):
    return bits(b"".join(i.to_bytes(4, "little") for i in ids))


def bert(**how):
    return dict(dict(type="BertNormalizer", clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True), **how)


def chain(*steps):
    return {"type": "Sequence", "normalizers": [s if isinstance(s, dict) else {"type": s} for s in steps]}


def stages(*types):
    return {"type": "Sequence", "pretokenizers": [t if isinstance(t, dict) else {"type": t} for t in types]}


def split(pattern, behavior, invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


PRE = {"type": "BertPreTokenizer"}
VARIANTS = [
    ("uncased", LINES, bert(), PRE),
    ("cased", LINES, bert(lowercase=False), PRE),
    ("cased without accents", LINES, bert(lowercase=False, strip_accents=True), PRE),
    ("lower with accents", LINES, bert(strip_accents=False), PRE),
    ("as it comes", FEWER, bert(clean_text=False, handle_chinese_chars=False), PRE),
    ("nothing", FEWER, None, PRE),
    ("no cut", FEWER, bert(), None),
    ("NFKC", FEWER, chain("NFKC", "Lowercase"), {"type": "Whitespace"}),
    ("NFD", FEWER, chain("NFD", "Lowercase", "StripAccents"), {"type": "Whitespace"}),
    ("NFKD", FEWER, chain("NFKD", chain("StripAccents")), {"type": "WhitespaceSplit"}),
    ("NFC", FEWER, chain("NFC", {"type": "Strip", "strip_left": True, "strip_right": True}), stages("WhitespaceSplit", "Punctuation")),
    ("replace", FEWER, chain({"type": "Prepend", "prepend": "un"}, {"type": "Replace", "pattern": {"String": "in"}, "content": "on"},
                             {"type": "Strip", "strip_left": False, "strip_right": True}), PRE),
    ("punctuation", FEWER, bert(), stages("WhitespaceSplit", {"type": "Punctuation", "behavior": "Contiguous"})),
    ("no punctuation", FEWER, bert(), stages({"type": "Punctuation", "behavior": "Removed"}, "WhitespaceSplit")),
    ("digits", FEWER, bert(), stages("WhitespaceSplit", {"type": "Digits", "individual_digits": True}, "Punctuation")),
    ("split", FEWER, bert(), stages(split({"String": "."}, "Removed"), split({"Regex": "[a-z]+|\\d"}, "Removed", True))),
    ("split and keep", FEWER, bert(), stages(split({"String": " "}, "Removed"), split({"Regex": "[aeiou]"}, "Isolated", True))),
]


def vocab_txt(config):
    """BertTokenizer as it is made of vocab.txt and tokenizer_config.json, when there is no other file."""
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "vocab.txt").write_text("\n".join(VOCAB) + "\n")
        (pathlib.Path(folder) / "tokenizer_config.json").write_text(json.dumps(dict(config, tokenizer_class="BertTokenizer")))
        t = BertTokenizer.from_pretrained(folder)
        return "".join(of_ids(t(line_of(i))["input_ids"]) for i in range(FEWER))


def by_class(config, normalizer, pre):
    """What AutoTokenizer makes of a tokenizer.json beside a tokenizer_config.json with a class."""
    with tempfile.TemporaryDirectory() as folder:
        j = json.loads((MODEL / "tokenizer.json").read_text())
        j.update(normalizer=normalizer, pre_tokenizer=pre, truncation=None, padding=None)
        (pathlib.Path(folder) / "tokenizer.json").write_text(json.dumps(j))
        (pathlib.Path(folder) / "tokenizer_config.json").write_text(json.dumps(config))
        t = AutoTokenizer.from_pretrained(folder)
        return "".join(of_ids(t(line_of(i))["input_ids"]) for i in range(FEWER))


CLASSES = [
    (dict(tokenizer_class="BertTokenizer"), bert(lowercase=False), PRE),
    (dict(tokenizer_class="BertTokenizerFast", do_lower_case=False), bert(), PRE),
    (dict(tokenizer_class="DistilBertTokenizer", strip_accents=False), {"type": "Lowercase"}, {"type": "WhitespaceSplit"}),
    (dict(tokenizer_class="PreTrainedTokenizerFast", do_lower_case=False), bert(), PRE),
]


def main():
    base = json.loads((MODEL / "tokenizer.json").read_text())
    base.update(padding=None, truncation=None)
    out = dict(variants=[], vocab=[])
    for name, lines, normalizer, pre in VARIANTS:
        t = Tokenizer.from_str(json.dumps(dict(base, normalizer=normalizer, pre_tokenizer=pre)))
        document = [t.encode(line_of(i)).ids for i in range(lines)]
        v = dict(name=name, lines=lines, normalizer=normalizer, pre_tokenizer=pre, ids="".join(map(of_ids, document)))
        if lines == LINES:
            v["words"] = "".join(of_ids(t.encode(line_of(i).split(" "), is_pretokenized=True, add_special_tokens=False).ids)
                                 for i in range(FEWER))
            v["text"] = "".join(bits(t.decode(ids, skip_special_tokens=i % 2 == 0).encode())
                                for i, ids in enumerate(document[:FEWER]))
        out["variants"].append(v)
    for config, normalizer, pre in CLASSES:
        out["variants"].append(dict(name=f"class {config['tokenizer_class']}", lines=FEWER, normalizer=normalizer, pre_tokenizer=pre,
                                    config=config, ids=by_class(config, normalizer, pre)))
    for config in [{}, dict(do_lower_case=False), dict(strip_accents=False, tokenize_chinese_chars=False),
                   dict(do_lower_case=False, strip_accents=True, sep_token="[MASK]", pad_token="[unused0]")]:
        out["vocab"].append(dict(config=config, lines=FEWER, ids=vocab_txt(config)))
    text = json.dumps(out, separators=(",", ":"))
    (HERE / "tok_wordpiece.json").write_text(text.replace('{"name"', '\n{"name"').replace('{"config"', '\n{"config"') + "\n")


if __name__ == "__main__":
    main()
