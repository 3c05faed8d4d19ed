#!/usr/bin/env python3
"""Writes tests/golden/written.gguf: a small file of every kind of key and of tensor that llmjob writes, by the gguf package.

    python3 -m venv v && v/bin/pip install --require-hashes -r tests/golden/requirements.txt && v/bin/python tests/golden/make_gguf.py

Number i of a tensor is that of a multiplicative sequence, exact in F32 on either side; blocks are quantised by the package. The
last row of each is special: zeros, one number alone, equal numbers.
"""
import os

import gguf
import numpy as np

ROWS, COLUMNS = 6, 64
TYPES = ["F32", "BF16", "F16", "Q8_0", "Q4_0", "Q5_0"]


def numbers(rows, columns):
    i = np.arange(rows * columns, dtype=np.uint64)
    bits = ((i + 1) * np.uint64(2654435761) % np.uint64(2**32)).astype(np.uint32).view(np.int32)
    out = (bits.astype(np.float64) / 2.0**31).astype(np.float32).reshape(rows, columns)
    out[-1, :] = 0
    out[-1, 37] = -0.375
    out[-2, :] = 0.25
    return out


def main():
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "written.gguf")
    w = gguf.GGUFWriter(path, "llama")
    w.add_uint32("a.number", 4000000000)
    w.add_float32("a.fraction", 1e-5)
    w.add_bool("a.truth", True)
    w.add_string("a.text", "Ġwörld")
    w.add_array("some.texts", ["one", "", "Ġthree"])
    w.add_array("some.numbers", [1, -2, 3])
    w.add_tensor("norm.weight", numbers(ROWS, COLUMNS)[0][:7])
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        w.add_tensor("%s.weight" % name.lower(), gguf.quants.quantize(numbers(ROWS, COLUMNS), kind), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


main()
