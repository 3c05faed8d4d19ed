#!/usr/bin/env python3
"""board.py FOLDER MODEL: TensorBoard's own reader over the event files of a training with histograms every 10 of 40 steps and texts
every 20, beside the model that it wrote (tests/prove/board.sh)."""
import sys

import numpy
import torch
import transformers
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

folder, output = sys.argv[1:]
prompts = ["In the beginning", "And God said"]
events = EventAccumulator(folder, size_guidance={"histograms": 0, "tensors": 0, "scalars": 0})
events.Reload()
tags = events.Tags()
weights = {}
for name, x in load_file(f"{output}/model.safetensors").items():
    if ".c_attn." in name:  # q, k and v of GPT-2, side by side
        weights.update({f"{name}.{i}": part for i, part in enumerate(numpy.split(x, 3, axis=-1))})
    else:
        weights[name] = x


def counts(x, bounds):
    """What numpy finds below each bound that was told, above the one before."""
    edges = numpy.concatenate([[-numpy.inf], numpy.asarray(bounds)])
    return numpy.histogram(x.astype(numpy.float64).ravel(), bins=edges)[0]


# Names on disk are those of the family; the table's are found by what they hold.
told = {tag.removeprefix("weights/"): events.Histograms(tag)[-1] for tag in tags["histograms"] if tag.startswith("weights/")}
assert len(told) == len(weights), (sorted(told), sorted(weights))
matched, buckets = 0, 0
for name, event in told.items():
    h = event.histogram_value
    assert event.step == 40 and sum(h.bucket) == h.num
    alike = [x for x in weights.values() if x.size == h.num and x.min() == h.min and x.max() == h.max]
    assert any((counts(x, h.bucket_limit) == h.bucket).all() for x in alike), name
    x = alike[0].astype(numpy.float64)
    assert abs(x.sum() - h.sum) <= 1e-9 * numpy.abs(x).sum() and abs((x * x).sum() / h.sum_squares - 1) < 1e-9, name
    matched, buckets = matched + 1, buckets + len(h.bucket)

squares = {}
for tag in tags["histograms"]:
    if tag.startswith("gradients/"):
        for event in events.Histograms(tag):
            squares[event.step] = squares.get(event.step, 0) + event.histogram_value.sum_squares
assert sorted(squares) == [10, 20, 30, 40]
norms = {event.step: event.value for event in events.Scalars("gradient_norm")}
furthest = max(abs(squares[step] ** 0.5 / norms[step] - 1) for step in squares)
assert furthest < 1e-5, furthest

model = transformers.AutoModelForCausalLM.from_pretrained(output).float().eval()
tokenizer = transformers.AutoTokenizer.from_pretrained(output)
for i, prompt in enumerate(prompts):
    texts = events.Tensors(f"generated/{i}")
    assert [x.step for x in texts] == [20, 40] and events.SummaryMetadata(f"generated/{i}").plugin_data.plugin_name == "text"
    said = texts[-1].tensor_proto.string_val[0].decode()
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    with torch.no_grad():
        for _ in range(12):
            token = model(ids).logits[0, -1].argmax()
            ids = torch.cat([ids, token.view(1, 1)], 1)
    want = prompt + tokenizer.decode(ids[0, len(tokenizer(prompt).input_ids):])
    assert said == want, (said, want)
    print(repr(said))
print(f"{matched} tensors, {buckets} buckets counted as numpy does; squares of the gradient within {furthest:.1e} of its norm's")
