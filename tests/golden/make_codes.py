#!/usr/bin/env python3
"""Makes codes.h beside this file: the dynamic codes of 8 bits of Dettmers et al., arXiv:2110.02861, and what they make
of some numbers, by numpy alone. Where bitsandbytes (0.50.2) is on the path, both are also compared with its
create_dynamic_map and quantize_blockwise."""
import pathlib

import numpy

HERE = pathlib.Path(__file__).resolve().parent
BLOCK = 256
ELEMENTS = 2 * BLOCK + 77


def dynamic_map(signed):
    """Section 2.1 of the paper: the leading zeros are a decade, what follows them is a linear fraction of it."""
    values = [0.0, 1.0]
    for decade in range(7):
        parts = 2 ** (decade if signed else decade + 1)
        edges = numpy.linspace(0.1, 1, parts + 1)
        means = (edges[:-1] + edges[1:]) / 2 * 10.0 ** (decade - 6)
        values += list(means) + (list(-means) if signed else [])
    return numpy.sort(numpy.array(values)).astype(numpy.float32)


def encode(code, x):
    """Nearest index of x over its block's greatest magnitude, of two as near the lower one."""
    scales, indices = [], []
    for at in range(0, len(x), BLOCK):
        block = x[at:at + BLOCK]
        scales.append(numpy.abs(block).max())
        share = block / scales[-1]
        indices += list(numpy.abs(code[None, :].astype(numpy.float64) - share[:, None]).argmin(1))
    return numpy.array(scales, dtype=numpy.float32), numpy.array(indices, dtype=numpy.uint8)


def numbers(signed):
    """Of all sizes that a moment may have in a block, some of them 0."""
    rng = numpy.random.default_rng(7 + signed)
    x = 10 ** rng.uniform(-9, 0, ELEMENTS) * (rng.choice([-1, 1], ELEMENTS) if signed else 1)
    x[BLOCK:] *= 1e-4
    x[rng.random(ELEMENTS) < 0.05] = 0
    return x.astype(numpy.float32)


def compare(code, signed, x, scales, indices):
    try:
        import torch
        from bitsandbytes import functional
    except ImportError:
        print("not compared with bitsandbytes, which is not there")
        return
    theirs = functional.create_dynamic_map(signed=signed)
    assert numpy.abs(theirs.numpy() - code).max() < 1e-7
    q, state = functional.quantize_blockwise(torch.tensor(x), code=theirs, blocksize=BLOCK)
    assert numpy.array_equal(state.absmax.numpy(), scales)
    # On CPUs it looks numbers up in coarse equal steps: what is small gets another code there.
    share = numpy.abs(x) / numpy.repeat(scales, BLOCK)[:ELEMENTS]
    off = q.numpy() != indices
    print(f"bitsandbytes, signed {signed}: of {(share > 0.02).sum()} above 0.02 differ {off[share > 0.02].sum()}, "
          f"of the others {off[share <= 0.02].sum()} of {(share <= 0.02).sum()}")


def words(name, type_, values, fmt):
    text = [fmt % v for v in values]
    lines = [", ".join(text[i:i + 8]) for i in range(0, len(text), 8)]
    return f"static const {type_} {name}[{len(text)}] = {{\n    " + ",\n    ".join(lines) + "};\n"


def main():
    out = ["/*\n * codes: the dynamic codes of 8 bits, the F32 bits of some numbers, their codes and scales.\n"
           f" * Made by make_codes.py with numpy {numpy.__version__}; do not edit.\n */\n"
           "#ifndef TESTS_GOLDEN_CODES_H\n#define TESTS_GOLDEN_CODES_H\n\n/* clang-format off */\n#include <stdint.h>\n"
           f"#define CODES_ELEMENTS {ELEMENTS}\n\n"]
    for signed in (True, False):
        code, x = dynamic_map(signed), numbers(signed)
        assert len(code) == 256
        scales, indices = encode(code, x)
        compare(code, signed, x, scales, indices)
        name = "codes_" + ("signed" if signed else "unsigned")
        out += [words(name + "_map", "uint32_t", code.view(numpy.uint32), "0x%08x"),
                words(name + "_x", "uint32_t", x.view(numpy.uint32), "0x%08x"),
                words(name + "_scale", "uint32_t", scales.view(numpy.uint32), "0x%08x"),
                words(name + "_index", "uint8_t", indices, "%d")]
    (HERE / "codes.h").write_text("".join(out) + "\n#endif\n")


main()
