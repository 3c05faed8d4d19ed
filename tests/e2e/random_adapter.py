"""Writes a LoRA adapter in peft's format, with random factors.

    random_adapter.py FOLDER SEED RANK WIDTH LAYERS MODULE:OUT:IN...

MODULE is a matrix of each layer, "self_attn.q_proj". A is uniform within 1 / sqrt(IN), as peft begins with,
and B within WIDTH, where peft begins with zeros. Nothing but Python is needed.
"""

import array
import json
import pathlib
import random
import struct
import sys

folder, seed, rank, width, layers = sys.argv[1:6]
rank, width, draw = int(rank), float(width), random.Random(int(seed))
header, data = {}, array.array("f")
for layer in range(int(layers)):
    for module in sys.argv[6:]:
        name, rows, columns = module.split(":")
        for which, shape, bound in (("A", (rank, int(columns)), int(columns) ** -0.5), ("B", (int(rows), rank), width)):
            begins = 4 * len(data)
            data.extend(draw.uniform(-bound, bound) for _ in range(shape[0] * shape[1]))
            header[f"base_model.model.model.layers.{layer}.{name}.lora_{which}.weight"] = {
                "dtype": "F32", "shape": shape, "data_offsets": [begins, 4 * len(data)]}
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
out = pathlib.Path(folder)
out.mkdir(parents=True, exist_ok=True)
(out / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data.tobytes())
(out / "adapter_config.json").write_text(json.dumps({
    "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "bias": "none",
    "target_modules": sorted({m.split(":")[0].split(".")[-1] for m in sys.argv[6:]})}))
