#!/usr/bin/env python3
"""Makes tok_unigram.json beside this file: what the `tokenizers` package makes of random lines with Unigrams: one that was published
(fetch.sh tokenizer-mon), one that is trained here on six scripts, in the shapes that XLM-R, T5, ALBERT and others have, with
SentencePiece's own table of characters (fetch.sh sentencepiece); and small ones by hand, some with a table made here. The lines are
made here and in the test by the same rule, of the vocabulary and of characters of many scripts (line_of)."""
import base64
import json
import pathlib
import subprocess

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).resolve().parent
LINES, FEWER, DECODED, BLOCK, PIECES = 10000, 1000, 400, 50, 1000
RANGES = [(0x20, 0x7E), (0xC0, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x590, 0x5FF), (0x61E, 0x6FF), (0x900, 0x97F),
          (0xE00, 0xE7F), (0x1000, 0x109F), (0x1100, 0x11FF), (0xAC00, 0xD7A3), (0x3040, 0x30FF), (0x4E00, 0x9FA5), (0xF900, 0xFAD9),
          (0xFF00, 0xFFEF), (0x1F300, 0x1F64F), (0x2000, 0x206F), (0x2100, 0x214F), (0x2460, 0x24FF), (0x1D400, 0x1D4FF)]
SCRIPTS = [(0x3B1, 0x3C9), (0x430, 0x44F), (0x5D0, 0x5EA), (0x905, 0x939), (0x3041, 0x3093)]  # and Latin, by the King James text
WORDS = ["<s>", "</s>", "<unk>", "<mask>", "\uff1cs\uff1e", "<0x41>", "``", "''", "e\u0301", "\ufb01\u0301", "\u338f\u0301 a", "\u2122",
         "\u2581", "\u2581\u2581", " \u2581 ", "  ", "   ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u200b", "\u00ad", "\u0001", "\u007f",
         "\ufeff", "\ufffd", "\u0e33", "\u1100\u1161", "\u0600a", "\U0001f468\u200d\U0001f469", "x" * 70, "ab" * 40]


class Dice:
    def __init__(self, seed):
        self.x = seed * 0x9E3779B97F4A7C15 + 1 & (1 << 64) - 1

    def throw(self, n):
        self.x = self.x * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        return (self.x >> 33) % n


def line_of(i, vocab):
    d, out = Dice(i), ""
    for _ in range(1 + d.throw(14)):
        kind = d.throw(8)
        if kind < 4:
            out += vocab[d.throw(len(vocab))].replace("\u2581", " ")
        elif kind < 6:
            low, high = RANGES[d.throw(len(RANGES))]
            out += "".join(chr(low + d.throw(high - low + 1)) for _ in range(1 + d.throw(6)))
        elif kind == 6:
            out += " " + vocab[d.throw(len(vocab))].replace("\u2581", "")
        else:
            out += WORDS[d.throw(len(WORDS))]
    return out


def fold(data, h):
    for b in data:
        h = (h ^ b) * 16777619 & 0xFFFFFFFF
    return h


def blocks(parts):
    """A hash for each BLOCK of them; each is bytes."""
    out = ""
    for at in range(0, len(parts), BLOCK):
        h = 2166136261
        for p in parts[at:at + BLOCK]:
            h = fold(p + b"\xff", h)
        out += f"{h:08x}"
    return out


def of_ids(ids):
    return b"".join(i.to_bytes(4, "little") for i in ids)


# -- a vocabulary of six scripts --

def texts():
    yield from subprocess.check_output(["bible", "-f", "gen1:1-lev27:34"], text=True).splitlines()
    d = Dice(23)
    for low, high in SCRIPTS:
        words = ["".join(chr(low + d.throw(high - low + 1)) for _ in range(1 + d.throw(7))) for _ in range(900)]
        for _ in range(1500):  # earlier words are more frequent
            yield " ".join(words[d.throw(1 + d.throw(1 + d.throw(900)))] for _ in range(12))


def train():
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    t.train_from_iterator(texts(), trainers.UnigramTrainer(vocab_size=PIECES, unk_token="<unk>", show_progress=False,
                                                           special_tokens=["<s>", "<pad>", "</s>", "<unk>"]))
    vocab = json.loads(t.to_str())["model"]["vocab"]
    # Some in all their digits, for the reference reads those by a rule of its own.
    return [[s, round(x, 5) if i % 2 else x] for i, (s, x) in enumerate(vocab)] + [["<mask>", 0.0]]


# -- shapes --

def chain(*steps):
    return {"type": "Sequence", "normalizers": [s if isinstance(s, dict) else {"type": s} for s in steps]}


def stages(*types):
    return {"type": "Sequence", "pretokenizers": [t if isinstance(t, dict) else {"type": t} for t in types]}


def meta(scheme="always", split=True):
    return {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": split}


def replace(pattern, content):
    return {"type": "Replace", "pattern": pattern, "content": content}


def table(kind):
    """A Precompiled, whose table the test puts in as well."""
    return {"type": "Precompiled", "precompiled_charsmap": kind}


def put_tables(v, tables):
    if isinstance(v, dict):
        return {k: tables.get(x, x) if k == "precompiled_charsmap" else put_tables(x, tables) for k, x in v.items()}
    return [put_tables(x, tables) for x in v] if isinstance(v, list) else v


def template(before, after, ids):
    piece = lambda s: {"SpecialToken": {"id": s, "type_id": 0}}
    a = [{"Sequence": {"id": "A", "type_id": 0}}]
    return {"type": "TemplateProcessing", "single": [piece(s) for s in before] + a + [piece(s) for s in after], "pair": a + [
        {"Sequence": {"id": "B", "type_id": 0}}], "special_tokens": {s: {"id": s, "ids": [ids[s]], "tokens": [s]} for s in ids}}


SPACES = replace({"Regex": " {2,}"}, "\u2581")
LLAMA = {"type": "Sequence", "decoders": [replace({"String": "\u2581"}, " "), {"type": "ByteFallback"}, {"type": "Fuse"},
                                          {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
SHAPES = [
    ("XLM-R", LINES, table("nmt_nfkc"), stages("WhitespaceSplit", meta()), meta()),
    ("T5", FEWER, chain(table("nmt_nfkc"), {"type": "Strip", "strip_left": False, "strip_right": True}, SPACES), meta(), meta()),
    ("ALBERT", FEWER, chain(replace({"String": "``"}, '"'), replace({"String": "''"}, '"'), "NFKD", "StripAccents", "Lowercase",
                            table("nfkc")), stages("WhitespaceSplit", meta()), meta()),
    ("mBART", FEWER, table("nmt_nfkc"), meta(), meta()),
    ("Pegasus", FEWER, chain(table("nmt_nfkc"), replace({"Regex": " {2,}"}, " ")), meta(), meta()),
    ("DeBERTa", FEWER, chain({"type": "Strip", "strip_left": True, "strip_right": True}, table("nmt_nfkc_cf")),
     stages({"type": "Punctuation", "behavior": "Isolated"}, meta()), meta()),
    ("SentencePiece", FEWER, chain("Nmt", "NFKC", replace({"Regex": " {2,}"}, " ")), meta(), meta()),
    ("first", FEWER, table("nfkc"), meta("first"), meta("first")),
    ("first, whole", FEWER, None, meta("first", False), LLAMA),
    ("first of words", FEWER, None, stages("WhitespaceSplit", meta("first")), LLAMA),
    ("whole", FEWER, replace({"String": "x"}, "y"), meta("always", False), LLAMA),
    ("never", FEWER, chain("Nmt", "NFC"), meta("never"), meta("never")),
    ("never, whole", FEWER, None, meta("never", False), meta("never")),
    ("nothing", FEWER, None, None, LLAMA),
]


def added(id, content, special=True, **flags):
    return dict(dict(id=id, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=special), **flags)


def shape(name, lines, base, tables, vocab):
    t = Tokenizer.from_str(json.dumps(put_tables(base, tables)))
    every = [line_of(i, vocab) for i in range(lines)]
    ids = [t.encode(s).ids for s in every]
    some = range(DECODED)
    plain = [t.encode(every[i].split(" "), is_pretokenized=True, add_special_tokens=False).ids for i in some]
    return dict(name=name, lines=lines, ids=blocks([of_ids(x) for x in ids]), words=blocks([of_ids(x) for x in plain]),
                text=blocks([t.decode(ids[i], skip_special_tokens=i % 2 == 0).encode() for i in some]))


# -- small ones --

def darts(entries):
    """A table of bytes to text, as SentencePiece lays it out: a double array whose children of a node lie at base ^ label."""
    texts, keys = b"", {}
    for k, v in entries.items():
        keys[k.encode()] = len(texts)
        texts += v.encode() + b"\0"
    units, used = {0: 0}, {0}

    def place(prefix, at):
        labels = sorted({k[len(prefix)] for k in keys if k.startswith(prefix) and k != prefix})
        wanted = ([0] if prefix in keys else []) + labels
        base = next(b for b in range(1, 1 << 20) if not any(b ^ c in used for c in wanted) and b not in used)
        used.update(b ^ base for b in wanted)
        units[at] = units.get(at, 0) | (base ^ at) << 10 | (prefix in keys) << 8
        if prefix in keys:
            units[base] = 1 << 31 | keys[prefix]
        for c in labels:
            units[base ^ c] = c
        for c in labels:
            place(prefix + bytes([c]), base ^ c)

    place(b"", 0)
    blob = b"".join(units.get(i, 0).to_bytes(4, "little") for i in range(max(units) // 256 * 256 + 256))
    return base64.b64encode(len(blob).to_bytes(4, "little") + blob + texts).decode()


ENTRIES = {"A": "a", "\u00c9": "\u00e9", "e\u0301": "\u00e9", "\ufb01": "fi", "\u3000": " ", "\r": "", "x": "", "\U0001f600": ":)", "b\u0301": "B"}
TEXTS = ["", "ab", "abab a", " ab", "ab ", "a  b", "xyz", "axb", "\u00e9\u00e9a", "A\u00c9e\u0301b\u0301", "\ufb01\u0301\u0302x\u3000b", "x\u0301b", "\r\nab\r",
         "\U0001f600\U0001f600\u0301", "\u4f60a", "\u4f60", "a\n b", "ab<s>ab", "<s> ab", "<0x61>", "<unk>", "<unk>\u4f60", "aab bba  ab",
         "\u00e9\u4f60\u00e9", "aaa", "aaaaaaa", "ababababa", "\u2581a", "\u2581", " \u2581 a", "\uff1cs\uff1e", "day DAY a day", "a<s>  <s>b"]


def small(*more, **model):
    vocab = [["<unk>", 0.0], ["<s>", 0.0], ["\u2581", -2.0], ["a", -2.5], ["b", -2.75], ["ab", -3.1], ["\u2581ab", -3.3], ["aa", -4.9],
             ["ba", -5.2], ["\u00e9", -4.0], ["day", -6.0], ["<", -7.0], ["abab", -8.0], [":)", -5.0], ["fi", -5.5]]
    return dict(dict(type="Unigram", unk_id=0, vocab=vocab + list(more), byte_fallback=False), **model)


def of_bytes(*bytes):
    return [[f"<0x{b:02X}>", -9.0] for b in bytes]


def small_ones():
    day = added(15, "Day", special=False, normalized=True)
    yield "plain", small(), None, meta(), []
    yield "no marks", small(), None, None, []
    yield "bytes", small(*of_bytes(*range(256)), byte_fallback=True), None, meta(), []
    yield "some bytes", small(*of_bytes(0xC3, 0xA9, 0x78, 0x79, 0x7A), byte_fallback=True), None, meta("never"), []
    yield "bytes that are not fallen back to", small(*of_bytes(*range(256))), None, meta(), []
    yield "twice", small(["ab", -1.0], ["a", -9.0]), None, meta(), []
    yield "all good", small(["\u4f60", 30.0], ["xy", 25.0], vocab=[["<unk>", 40.0], ["<s>", 50.0], ["a", 31.0], ["xy", 22.5], ["\u2581", 60.0]]), None, \
        meta(), []
    yield "a table", small(), table(darts(ENTRIES)), meta(), []
    yield "a table, first", small(), table(darts(ENTRIES)), meta("first"), []
    yield "NFKC", small(), {"type": "NFKC"}, meta("always", False), []
    yield "added", small(), chain("Lowercase"), meta(), [day]
    yield "added, first", small(), chain("Lowercase"), meta("first"), [day, added(1, "<s>", rstrip=True)]
    yield "expressions", small(), chain(replace({"Regex": "[xyz]+"}, "a"), replace({"Regex": "\\s"}, "")), meta(), []


def main():
    mon = pathlib.Path(subprocess.check_output([HERE / "fetch.sh", "tokenizer-mon"], text=True).strip())
    spm = pathlib.Path(subprocess.check_output([HERE / "fetch.sh", "sentencepiece"], text=True).strip())
    tables = {k: base64.b64encode((spm / f"{k}.bin").read_bytes()).decode() for k in ("nfkc", "nmt_nfkc", "nmt_nfkc_cf")}
    published = json.loads((mon / "mon_tokenizer.json").read_text())
    out = dict(mon=shape("mon", LINES, published, {}, [s for s, _ in published["model"]["vocab"]]), shapes=[], small=[])
    vocab = train()
    out["vocab"] = vocab
    ids = {s: i for i, (s, _) in enumerate(vocab)}
    special = [added(ids[s], s) for s in ("<s>", "<pad>", "</s>", "<unk>")] + [added(ids["<mask>"], "<mask>", lstrip=True)]
    for name, lines, normalizer, pre, decoder in SHAPES:
        parts = dict(normalizer=normalizer, pre_tokenizer=pre, decoder=decoder)
        base = dict(parts, version="1.0", truncation=None, padding=None, added_tokens=special,
                    post_processor=template(["<s>"], ["</s>"], {s: ids[s] for s in ("<s>", "</s>")}),
                    model=dict(type="Unigram", unk_id=3, vocab=vocab, byte_fallback=False))
        if not out["shapes"]:
            out["base"] = {k: v for k, v in base.items() if k not in parts and k != "model"}
        out["shapes"].append(dict(shape(name, lines, base, tables, [s for s, _ in vocab]), **parts))
    for name, model, normalizer, pre, more in small_ones():
        tokens = {t["id"]: t for t in [added(0, "<unk>"), added(1, "<s>")] + more}
        j = dict(version="1.0", truncation=None, padding=None, added_tokens=list(tokens.values()), normalizer=normalizer, pre_tokenizer=pre,
                 post_processor=None, decoder=LLAMA, model=model)
        t = Tokenizer.from_str(json.dumps(j))
        ids = [t.encode(s).ids for s in TEXTS]
        # Of a normalised added token this version decodes the normal form, for the sake of others' byte alphabets.
        out["small"].append(dict(name=name, tokenizer=j, cases=[dict(text=s, ids=x, decoded=None if more else t.decode(x))
                                                                for s, x in zip(TEXTS, ids)]))
    text = json.dumps(out, separators=(",", ":"))
    (HERE / "tok_unigram.json").write_text(text.replace('{"name"', '\n{"name"') + "\n")


if __name__ == "__main__":
    main()
