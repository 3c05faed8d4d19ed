"""Leaves of a BERT folder its first layers: it knows less, in a part of the time.

    cut_bert.py FOLDER LAYERS

Nothing but Python is needed. Layout: safetensors' README.md.
"""

import json
import re
import struct
import sys

folder, layers = sys.argv[1], int(sys.argv[2])
with open(f"{folder}/model.safetensors", "rb") as file:
    found = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    data = file.read()
kept, stored = {}, bytearray()
for name, tensor in found.items():
    layer = re.search(r"\.layer\.(\d+)\.", name)
    if name != "__metadata__" and (not layer or int(layer[1]) < layers):
        begin, end = tensor["data_offsets"]
        kept[name] = tensor | {"data_offsets": [len(stored), len(stored) + end - begin]}
        stored += data[begin:end]
head = json.dumps(kept).encode()
head += b" " * (-len(head) % 8)
with open(f"{folder}/model.safetensors", "wb") as file:
    file.write(struct.pack("<Q", len(head)) + head + stored)
with open(f"{folder}/config.json") as file:
    config = json.load(file)
with open(f"{folder}/config.json", "w") as file:
    json.dump(config | {"num_hidden_layers": layers}, file)
