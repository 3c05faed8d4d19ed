"""encoders.py ROUNDS MODEL FOLDER NAME=URL...: what MiniLM embeds in a second, in turns by our servers and others on this machine.

MODEL: the folder of all-MiniLM-L6-v2. Others: sentence-transformers, and ONNX Runtime with the same model in F32 and in int8
(exported by torch, weights and activations quantised as onnxruntime's quantize_dynamic does), in FOLDER, which is made once; each
with two threads and batches of 32 texts sorted by length. Each round asks each for the same 128 texts, and for one of 13 words alone.
Prints medians, and how far vectors are from sentence-transformers'. Exit status 1: ours in FP32 are further than 1e-4.
"""

import base64
import json
import os
import pathlib
import random
import statistics
import sys
import time
import urllib.request

import numpy
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from sentence_transformers import SentenceTransformer

WORDS = "bread water market the of Paris house people time year way day man thing woman life child world school state".split()
BATCH = 32


def some_texts():
    draw = random.Random(1)
    return [" ".join(draw.choices(WORDS, k=draw.randint(5, 59))) for _ in range(128)]


class Ours:
    def __init__(self, url):
        self.url = f"{url}/embeddings"

    def embed(self, texts):
        body = json.dumps({"model": "m", "input": texts, "encoding_format": "base64"}).encode()
        asked = urllib.request.Request(self.url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(asked, timeout=120) as answer:
            found = json.load(answer)["data"]
        return numpy.stack([numpy.frombuffer(base64.b64decode(d["embedding"]), numpy.float32) for d in found])


class Onnx:
    def __init__(self, path, tokenizer):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.tokenizer = tokenizer

    def embed(self, texts):
        out, order = [None] * len(texts), sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        for at in range(0, len(texts), BATCH):
            part = order[at:at + BATCH]
            told = self.tokenizer([texts[i] for i in part], padding=True, truncation=True, max_length=256, return_tensors="np")
            hidden = self.session.run(None, {"ids": told["input_ids"], "mask": told["attention_mask"]})[0]
            mask = told["attention_mask"][:, :, None].astype(numpy.float32)
            mean = (hidden * mask).sum(1) / mask.sum(1)
            for i, row in zip(part, mean / numpy.linalg.norm(mean, axis=1, keepdims=True)):
                out[i] = row
        return numpy.stack(out)


class Hidden(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids, mask):
        return self.model(input_ids=ids, attention_mask=mask).last_hidden_state


def export(model, folder):
    """Paths of the model in F32 and in int8; a folder that is there is whole."""
    if not folder.exists():
        new = folder.with_name(f"{folder.name}.{os.getpid()}")
        new.mkdir(parents=True)
        told = model.tokenizer(["a b c d", "a b"], padding=True, return_tensors="pt")
        batch, length = torch.export.Dim("batch", min=1, max=512), torch.export.Dim("length", min=2, max=512)
        torch.onnx.export(Hidden(model[0].auto_model).eval(), (told["input_ids"], told["attention_mask"]), str(new / "f32.onnx"),
                          dynamo=True, input_names=["ids", "mask"], dynamic_shapes=({0: batch, 1: length}, {0: batch, 1: length}))
        quantize_dynamic(str(new / "f32.onnx"), str(new / "int8.onnx"), weight_type=QuantType.QInt8)
        new.rename(folder)
    return str(folder / "f32.onnx"), str(folder / "int8.onnx")


def main(rounds, path, folder, *servers):
    torch.set_num_threads(2)
    theirs = SentenceTransformer(path, device="cpu")
    whole, small = export(theirs, pathlib.Path(folder))
    sides = {name: Ours(url) for name, url in (s.split("=", 1) for s in servers)}
    by_torch = type("", (), {"embed": lambda self, texts: theirs.encode(texts, batch_size=BATCH)})()
    sides |= {"sentence-transformers": by_torch, "onnxruntime F32": Onnx(whole, theirs.tokenizer), "onnxruntime int8": Onnx(small, theirs.tokenizer)}
    texts, one = some_texts(), [" ".join(WORDS[:13])]
    tokens = sum(len(x) for x in theirs.tokenizer(texts)["input_ids"])
    want = theirs.encode(texts, batch_size=BATCH)
    far = {name: float(abs(side.embed(texts) - want).max()) for name, side in sides.items()}
    took = {name: ([], []) for name in sides}
    for side in sides.values():
        side.embed(one)
    print("ready", flush=True)
    for _ in range(int(rounds)):
        for name, side in sides.items():
            for asked, times in zip((texts, one), took[name]):
                began = time.perf_counter()
                side.embed(asked)
                times.append(time.perf_counter() - began)
    beside = statistics.median(took["sentence-transformers"][0])
    print(f"{tokens} tokens of {len(texts)} texts, {rounds} rounds in turns: medians\n"
          "                          tokens/s   of torch's   one text, ms   furthest from torch's")
    for name, (many, alone) in took.items():
        print(f"{name:24} {tokens / statistics.median(many):9.0f} {beside / statistics.median(many):12.2f} "
              f"{statistics.median(alone) * 1e3:14.1f} {far[name]:23.1e}")
    return 1 if any(far[s.split("=", 1)[0]] > 1e-4 for s in servers if s.startswith("FP32")) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
