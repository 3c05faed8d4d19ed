"""Writes a GGUF file with a few layers of one: a model whose words mean less, in a third of the time.

    cut_model.py FROM TO LAYER...

The layers named are the new ones, in that order. Nothing but Python is needed. Layout: ggml's docs/gguf.md.
"""

import re
import struct
import sys

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of a value, by its type
STRING, ARRAY, ALIGNMENT = 8, 9, 32
source, target, *layers = sys.argv[1:]
data, at = open(source, "rb").read(), 0


def take(form):
    global at
    values = struct.unpack_from("<" + form, data, at)
    at += struct.calcsize("<" + form)
    return values if len(values) > 1 else values[0]


def text():
    return take(f"{take('Q')}s").decode()


def skip(kind, count=1):
    global at
    if kind == ARRAY:
        skip(*take("IQ"))
    elif kind == STRING:
        for _ in range(count):
            text()
    else:
        at += count * SIZES[kind]


def padded(part):
    return part + bytes(-len(part) % ALIGNMENT)


magic, version, tensors, pairs = take("4sIQQ")
settings = b""
for _ in range(pairs):
    begins, name, kind = at, text(), take("I")
    value = at
    skip(kind)
    counted = struct.pack("<I", len(layers)) if name.endswith(".block_count") else data[value:at]
    settings += data[begins:value] + counted
found = {}
for _ in range(tensors):
    name, dimensions = text(), take("I")
    shape = struct.pack("<I", dimensions) + data[at:at + 8 * dimensions + 4]  # and the type
    at += 8 * dimensions + 4
    found[name] = shape, take("Q")
first = at + -at % ALIGNMENT
ends = sorted(offset for _, offset in found.values()) + [len(data) - first]
kept = [(name, shape, offset) for name, (shape, offset) in found.items() if not name.startswith("blk.")]
for new, old in enumerate(layers):
    kept += [(re.sub(r"\d+", str(new), name, count=1), shape, offset) for name, (shape, offset) in found.items()
             if name.startswith(f"blk.{old}.")]
infos, stored = b"", bytearray()
for name, shape, offset in kept:
    infos += struct.pack("<Q", len(name)) + name.encode() + shape + struct.pack("<Q", len(stored))
    stored += padded(data[first + offset:first + ends[ends.index(offset) + 1]])
head = struct.pack("<4sIQQ", magic, version, len(kept), pairs) + settings + infos
open(target, "wb").write(padded(head) + stored)
