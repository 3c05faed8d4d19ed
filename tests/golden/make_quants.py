#!/usr/bin/env python3
"""Writes tests/golden/quants.h: random GGUF blocks of each format and what the gguf package decodes them to.

    python3 -m venv v && v/bin/pip install --require-hashes -r tests/golden/requirements.txt && v/bin/python tests/golden/make_quants.py

Blocks have random bits in every field; scales are f16 of normal size, and the first blocks have a zero, a subnormal and a
negative one. Values are stored as the bits of F32.
"""
import os
from importlib.metadata import version

import gguf
import numpy as np

ELEMENTS = 512
FORMATS = {  # name: (block elements, block bytes, offsets of f16 fields)
    "Q8_0": (32, 34, [0]),
    "Q4_0": (32, 18, [0]),
    "Q4_1": (32, 20, [0, 2]),
    "Q4_K": (256, 144, [0, 2]),
    "Q6_K": (256, 210, [208]),
    "Q5_0": (32, 22, [0]),
    "Q5_1": (32, 24, [0, 2]),
    "Q5_K": (256, 176, [0, 2]),
}
SPECIAL = [0.0, 3e-7, -0.75]


def blocks(rng, count, size, fields):
    out = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for field in fields:
        scale = rng.uniform(-0.1, 0.1, count).astype(np.float16)
        special = min(count - 1, len(SPECIAL))
        scale[:special] = np.array(SPECIAL[:special], np.float16)
        out[:, field : field + 2] = scale.view(np.uint8).reshape(count, 2)
    return out


def table(values, form, per_line):
    lines = []
    for i in range(0, len(values), per_line):
        lines.append("    " + " ".join(form % v + "," for v in values[i : i + per_line]))
    return "\n".join(lines)


def main():
    rng = np.random.default_rng(20260)
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "quants.h")
    with open(path, "w", encoding="ascii") as f:
        f.write("/*\n * quants: GGUF blocks of each format and the F32 bits of their values. Made by make_quants.py\n")
        f.write(" * with gguf %s and numpy %s; do not edit.\n */\n" % (version("gguf"), np.__version__))
        f.write("#ifndef TESTS_GOLDEN_QUANTS_H\n#define TESTS_GOLDEN_QUANTS_H\n\n")
        f.write("/* clang-format off */\n#include <stdint.h>\n")
        f.write("#define QUANTS_ELEMENTS %d\n" % ELEMENTS)
        for name, (elements, size, fields) in FORMATS.items():
            raw = blocks(rng, ELEMENTS // elements, size, fields).reshape(-1)
            value = gguf.quants.dequantize(raw.reshape(1, -1), gguf.GGMLQuantizationType[name])
            bits = value.astype(np.float32).reshape(-1).view(np.uint32)
            assert bits.size == ELEMENTS
            f.write("\nstatic const uint8_t quants_%s[] = {\n%s\n};\n" % (name.lower(), table(raw, "%d", 18)))
            f.write("static const uint32_t quants_%s_f32[] = {\n%s\n};\n" % (name.lower(), table(bits, "0x%08x", 8)))
        f.write("\n#endif\n")


main()
