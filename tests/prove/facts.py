#!/usr/bin/env python3
"""facts.py: what is read of a run, and the tokenizer that the tiny models lack.

    facts.py points FOLDER [FIRST]           TensorBoard's points from step FIRST on, a line each: step, tag and the
                                             float as its 32 bits in hexadecimal; speeds are left out
    facts.py last FOLDER TAG                 the newest point of a tag
    facts.py worlds FOLDER                   a line an incarnation that took steps: its number, then its first step and its
                                             last, each with the seconds since the epoch at which it was told
    facts.py rates FOLDER SKIP               median of the tokens per second that the steps after SKIP report
    facts.py tokenizer TEXT SIZE FILE        tokenizer.json of SIZE tokens, learnt from TEXT (ASCII)

The parser takes TFRecord framing and Event protobufs as they are written and trusts them: it is a reader of files that
the same machine has just written. Only the standard library is used.
"""
import collections
import json
import pathlib
import re
import statistics
import string
import struct
import sys

SPEED = "tokens_per_second"


def fields(data):
    """(number, value) of each field of a protobuf message; bytes for what has a length or a fixed size."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 2: None, 5: 4}[key & 7]
        size = varint() if size is None else size
        yield key >> 3, data[at:at + size]
        at += size


def events(path):
    """Each event of a file: its fields by their numbers, 0 for those it lacks."""
    data = path.read_bytes()
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from("<Q", data, at)
        yield collections.defaultdict(int, fields(data[at + 12:at + 12 + size]))
        at += 12 + size + 4


def values(event):
    """(tag, the float's bits) of each."""
    for _, value in fields(event[5] or b""):
        value = dict(fields(value))
        if 2 in value:
            yield value[1].decode(), value[2]


def points(folder):
    """(step, tag, the float's bits) of all files in the order of their names."""
    for path in sorted(pathlib.Path(folder).iterdir()):
        for event in events(path):
            for tag, bits in values(event):
                yield event[2], tag, bits


def print_worlds(folder):
    for path in sorted(pathlib.Path(folder).iterdir(), key=lambda p: int(p.suffix[1:])):
        steps = [(event[2], struct.unpack("<d", event[1])[0]) for event in events(path)
                 if any(tag == "loss/train" for tag, _ in values(event))]
        if steps:
            print(path.suffix[1:], *("%d %.3f" % steps[i] for i in (0, -1)))


def print_points(folder, first="0"):
    for step, tag, bits in points(folder):
        if tag != SPEED and step >= int(first):
            print(step, tag, bits[::-1].hex())


def print_last(folder, tag):
    print("%.6g" % [struct.unpack("<f", bits)[0] for _, name, bits in points(folder) if name == tag][-1])


def print_rate(folder, skip):
    print("%.2f" % statistics.median(
        struct.unpack("<f", bits)[0] for step, tag, bits in points(folder) if tag == SPEED and step > int(skip)))


def learn(text, size):
    """Byte-pair merges. The rarest characters come first: the tiny models' EOS is among the ids 0 to 2."""
    alphabet = list("~|`") + [c for c in string.printable[:95] + "\n" if c not in "~|`"]
    words = [[list(w), n] for w, n in collections.Counter(re.findall(r" ?[A-Za-z]+|\s|\S", text)).items()]
    vocabulary, merges = alphabet[:], []
    while len(vocabulary) < size:
        pairs = collections.Counter()
        for word, n in words:
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        vocabulary.append("".join(best))
        for entry in words:
            word, joined = entry[0], []
            while word:
                n = 2 if tuple(word[:2]) == best else 1
                joined.append("".join(word[:n]))
                word = word[n:]
            entry[0] = joined
    return vocabulary, merges


def write_tokenizer(text, size, out):
    visible = str.maketrans({" ": "\u0120", "\n": "\u010a"})
    vocabulary, merges = learn(pathlib.Path(text).read_text("ascii"), int(size))
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
             "vocab": {token.translate(visible): i for i, token in enumerate(vocabulary)},
             "merges": [" ".join(token.translate(visible) for token in pair) for pair in merges]}
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    pathlib.Path(out).write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": bytes_, "post_processor": None, "decoder": bytes_, "model": model}))


if __name__ == "__main__":
    {"points": print_points, "last": print_last, "worlds": print_worlds, "rates": print_rate, "tokenizer": write_tokenizer}[sys.argv[1]](*sys.argv[2:])
