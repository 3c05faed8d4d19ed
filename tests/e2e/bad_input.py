#!/usr/bin/env python3
"""The table of tests/e2e/test_bad_input.sh: what is wrong with an input, by what edit, and what is said of it.

usage: bad_input.py WORK GOLDEN [ROW...]; WORK has bin/ with the programs. A row is a job of its own in a folder of its own,
which begins with what good jobs made: models as folder and file, adapters, a checkpoint, an output. One edit, then `llmjob run`.
"""
import concurrent.futures
import gzip
import hashlib
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys

WORK, GOLDEN = (pathlib.Path(path).resolve() for path in sys.argv[1:3])
BASE = WORK / "base"
HUGE = (1 << 62) + 1
USER, DATA, CORRUPT = 64, 65, 66
REASONS = {USER: "UserError", DATA: "BadData", CORRUPT: "RestartsExhausted"}

# -- jobs ---------------------------------------------------------------------------------------------------------------


def job(model, **spec):
    return dict(model={"source": "/data/" + model}, precision="FP32", **spec)


def train(data="text.txt", model="llama", **fields):
    held = {k: "/data/" + fields.pop(k) for k in ("validation", "test") if k in fields}
    more = {k: fields.pop(k) for k in ("format",) if k in fields}
    checkpoint = {"path": "/data/" + fields.pop("checkpoint", "ckpt")}
    return job(model, checkpoint=checkpoint, train=dict(dict(
        data=dict(train="/data/" + data, **held, **more), sequenceLength=16, batchSequences=2, steps=2, output="/data/out"), **fields))


def once(spec):  # what may pass by itself is not tried again
    return dict(spec, restart={"maxRestarts": 0})


def names(data):
    return train(data, "bert", objective="TokenClassification")


def classes(data, **fields):
    return train(data, "bert", objective="SequenceClassification", **fields)


def matching(data):
    return train(data, "bert", objective="PairMatching")


def preferences(data):
    return train(data, objective="DPO")


LORA = dict(method="LoRA", lora=dict(rank=2, alpha=4, targets=["q_proj", "v_proj"]))


def evaluate(data="questions.jsonl", model="llama", objective="MultipleChoice", **fields):
    return job(model, evaluate=dict(dict(objective=objective, data="/data/" + data, sequenceLength=64, output="/data/out"), **fields))


def convert(model="llama", **fields):
    return job(model, convert=dict(dict(format="GGUF", output="/data/out"), **fields))


def serve(model="llama", **fields):
    return job(model, serve=dict({"modelName": "m"}, **fields))


def recommend(items):
    return serve("masked", recommend={"items": "/data/" + items, "textWeight": 1})


def manifest(spec):
    storage = [{"name": "data", "claimName": "data", "mountPath": "/data"}]
    return {"apiVersion": "llmjob.dev/v1alpha1", "kind": "LLMJob", "metadata": {"name": "bad"}, "spec": dict(storage=storage, **spec)}


# -- edits --------------------------------------------------------------------------------------------------------------


def put(name, content):
    def edit(at):
        (at / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return edit


def lines(name, *texts):
    return put(name, "".join((t if isinstance(t, str) else json.dumps(t)) + "\n" for t in texts))


def remove(name):
    return lambda at: (at / name).unlink()


def change(name, old, new):
    def edit(at):
        content = (at / name).read_bytes()
        assert old in content, (name, old)
        (at / name).write_bytes(content.replace(old, new, 1))
    return edit


def append(name, more):
    return lambda at: (at / name).write_bytes((at / name).read_bytes() + more)


def cut(name, size):  # negative: so many bytes less
    def edit(at):
        content = (at / name).read_bytes()
        (at / name).write_bytes(content[:size])
    return edit


def member(name, path, value):  # of a JSON file; no value: it goes
    def edit(at):
        whole = json.loads((at / name).read_text())
        *above, last = path.split("/")
        tree = whole
        for key in above:
            tree = tree[int(key) if isinstance(tree, list) else key]
        last = int(last) if isinstance(tree, list) else last
        if value is None:
            del tree[last]
        else:
            tree[last] = value
        (at / name).write_text(json.dumps(whole))
    return edit


def header(name, edit_header):  # of a safetensors file, whose data stays
    def edit(at):
        content = (at / name).read_bytes()
        size, = struct.unpack("<Q", content[:8])
        tree = json.loads(content[8:8 + size])
        edit_header(tree)
        text = json.dumps(tree).encode()
        text += b" " * (-len(text) % 8)
        (at / name).write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size:])
    return edit


def tensor(**members):  # the same of one tensor
    return header("llama/model.safetensors", lambda tree: tree[FIRST].update(members))


def u32(n):
    return struct.pack("<I", n)


def u64(n):
    return struct.pack("<Q", n)


def text(s):
    return u64(len(s)) + s.encode()


def gguf(tensors, keys, *parts):
    return put("model.gguf", b"GGUF" + u32(3) + u64(tensors) + u64(keys) + b"".join(parts))


def gguf_keys(pairs):  # further keys of the real file; one of them fills up to where its data begins
    def edit(at):
        content = (at / "model.gguf").read_bytes()
        keys, = struct.unpack("<Q", content[16:24])
        new = b"".join(text(k) + v for k, v in pairs)
        fill = text("x.fill") + u32(8)
        new += fill + text("x" * (-(len(new) + len(fill) + 8) % 32))
        (at / "model.gguf").write_bytes(content[:16] + u64(keys + len(pairs) + 1) + new + content[24:])
    return edit


def also(*edits):
    def edit(at):
        for each in edits:
            each(at)
    return edit


def as_file(name):  # a folder's weights in two files under an index
    def edit(at):
        content = (at / name / "model.safetensors").read_bytes()
        size, = struct.unpack("<Q", content[:8])
        tree = {k: v for k, v in json.loads(content[8:8 + size]).items() if k != "__metadata__"}
        data, where = content[8 + size:], {}
        (at / name / "model.safetensors").unlink()
        for i, part in enumerate((sorted(tree)[:5], sorted(tree)[5:])):
            file, new, body = f"model-0000{i + 1}-of-00002.safetensors", {}, b""
            for key in part:
                begin, end = tree[key]["data_offsets"]
                new[key] = dict(tree[key], data_offsets=[len(body), len(body) + end - begin])
                body += data[begin:end]
                where[key] = file
            head = json.dumps(new).encode()
            (at / name / file).write_bytes(u64(len(head)) + head + body)
        (at / name / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return edit


def flip(pattern, where, bits=1):  # of a file
    def edit(at):
        path = sorted(at.glob(pattern))[0]
        content = bytearray(path.read_bytes())
        content[where] ^= bits
        path.write_bytes(content)
    return edit


def packed(name, content, end=None):
    return put(name, gzip.compress(content, mtime=0)[:end])


def zstd(content):  # a frame with one raw block
    return b"\x28\xb5\x2f\xfd\x20" + bytes([len(content)]) + struct.pack("<I", len(content) << 3 | 1)[:3] + content


# -- the rows -----------------------------------------------------------------------------------------------------------
# what is wrong; the edit; the job; its class; what is said, {} being the row's folder, and ... what is cut off with it

PAIR = {"prompt": "who built it?", "chosen": "Noah", "rejected": "Abraham"}
QUESTION = {"question": "Who built the ark?", "choices": ["Noah", "Abraham"], "answer": "A"}
TALK = {"messages": [{"role": "user", "content": "who?"}, {"role": "assistant", "content": "Noah"}]}
LINES = "and there was evening, and there was morning\n" * 40
FIRST = "model.layers.0.self_attn.q_proj.weight"
INDEX = "model.safetensors.index.json"

ROWS = {
    "config.json": [
        ("is missing", remove("llama/config.json"), train(), DATA, "{}/llama/config.json: No such file or directory"),
        ("is empty", put("llama/config.json", ""), train(), DATA, "{}/llama/config.json: JSON byte 0: a value is missing"),
        ("is cut short", cut("llama/config.json", 100), train(), DATA, "{}/llama/config.json: JSON byte 100: a value is missing"),
        ("is a list", put("llama/config.json", "[]"), train(), DATA, "{}/llama/config.json: not an object"),
        ("is of an unknown family", member("llama/config.json", "model_type", "mamba"), train(),
            DATA, '{}/llama/config.json: model_type "mamba"; what is read: llama, qwen2, qwen3, mistral, gpt2, bert, qwen3_moe, mixtral'),
        ("lacks a size", member("llama/config.json", "hidden_size", None), train(),
            DATA, "{}/llama/config.json: hidden_size is no positive whole number"),
        ("has text for a number", member("llama/config.json", "num_hidden_layers", "2"), train(),
            DATA, "{}/llama/config.json: num_hidden_layers is no positive whole number"),
        ("has a huge number", member("llama/config.json", "vocab_size", HUGE), train(),
            DATA, "{}/llama/config.json: vocab_size is no positive whole number"),
        ("has a fraction", member("llama/config.json", "num_hidden_layers", 2.5), train(),
            DATA, "{}/llama/config.json: num_hidden_layers is no positive whole number"),
        ("has heads that do not divide", member("llama/config.json", "num_key_value_heads", 3), train(),
            DATA, "{}/llama/config.json: 4 attention heads are no multiple of 3 key/value heads"),
        ("is of what is not computed", member("llama/config.json", "attention_bias", True), train(),
            DATA, "{}/llama: tensor model.layers.0.self_attn.q_proj.bias is missing"),
        ("is of another model than the weights", member("llama/config.json", "intermediate_size", 96), train(),
            DATA, "{}/llama: tensor model.layers.0.mlp.down_proj.weight has shape (64, 128), expected (64, 96)"),
        ("has too few layers", member("llama/config.json", "num_hidden_layers", 1), train(),
            DATA, "{}/llama: tensor model.layers.1.input_layernorm.weight is not known in a llama model"),
        ("has too many layers", member("llama/config.json", "num_hidden_layers", 3), train(),
            DATA, "{}/llama: tensor model.layers.2.input_layernorm.weight is missing"),
        ("has an end token outside", member("llama/config.json", "eos_token_id", 256), train(),
            DATA, "{}/llama/config.json: special token 256 lies outside the vocabulary"),
        ("of a model from scratch is missing", remove("llama/config.json"), dict(train(), model={
            "source": "/data/llama", "init": "Random", "config": "/data/llama/config.json"}),
            DATA, "{}/llama/config.json: No such file or directory"),
        ("is missing in a plan", remove("llama/config.json"), ("plan", train()), DATA, "{}/llama/config.json: No such file or directory"),
        ("is missing, of what is evaluated", remove("llama/config.json"), evaluate(), DATA, "{}/llama/config.json: No such file or directory"),
        ("is missing, of what is converted", remove("llama/config.json"), convert(), DATA, "{}/llama/config.json: No such file or directory"),
        ("generation_config.json is cut short", cut("llama/generation_config.json", 20), train(),
            DATA, "{}/llama/generation_config.json: JSON byte 20: a string without an end"),
    ],
    "safetensors": [
        ("is missing", remove("llama/model.safetensors"), train(), DATA, "{}/llama/model.safetensors: No such file or directory"),
        ("is empty", put("llama/model.safetensors", ""), train(), DATA, "{}/llama/model.safetensors: 0 bytes are no safetensors file"),
        ("is cut in its header", cut("llama/model.safetensors", 500), train(), DATA, "{}/llama/model.safetensors: absurd header length 2056"),
        ("is cut in its data", cut("llama/model.safetensors", -100), train(),
            DATA, "{}/llama/model.safetensors: tensor model.norm.weight: its data lies beyond the end of the file"),
        ("has bytes behind its data", append("llama/model.safetensors", b"more"), train(),
            DATA, "{}/llama/model.safetensors: bytes after the last tensor"),
        ("has a huge header", also(cut("llama/model.safetensors", 4000), lambda at: (at / "llama/model.safetensors").write_bytes(
            u64(HUGE) + (at / "llama/model.safetensors").read_bytes()[8:])), train(),
            DATA, "{}/llama/model.safetensors: absurd header length 4611686018427387905"),
        ("has a header that is not JSON", change("llama/model.safetensors", b'{"', b'{{'), train(),
            DATA, "{}/llama/model.safetensors: header: JSON byte 1: a string is missing"),
        ("has tensors that overlap", tensor(data_offsets=[0, 64 * 64 * 4]), train(),
            DATA, "{}/llama/model.safetensors: tensor model.embed_tokens.weight: hole or overlap before its data"),
        ("has a huge shape", tensor(shape=[1 << 40, 1 << 40]), train(),
            DATA, "{}/llama/model.safetensors: tensor model.layers.0.self_attn.q_proj.weight: absurd dimension"),
        ("has a huge offset", tensor(data_offsets=[HUGE, HUGE + 64 * 64 * 4]), train(),
            DATA, "{}/llama/model.safetensors: tensor model.layers.0.self_attn.q_proj.weight: data_offsets is no ascending pair"),
        ("has a negative dimension", tensor(shape=[-64, 64]), train(),
            DATA, "{}/llama/model.safetensors: tensor model.layers.0.self_attn.q_proj.weight: absurd dimension"),
        ("has another shape", tensor(shape=[32, 128]), train(),
            DATA, "{}/llama: tensor model.layers.0.self_attn.q_proj.weight has shape (32, 128), expected (64, 64)"),
        ("has numbers that are not read", tensor(dtype="I32"), train(),
            DATA, "{}/llama: tensor model.layers.0.self_attn.q_proj.weight of type i32 is not supported"),
        ("lacks a tensor", header("llama/model.safetensors", lambda t: t.update({"model.layers.0.self_attn.x": t.pop(FIRST)})), train(),
            DATA, "{}/llama: tensor model.layers.0.self_attn.x is not known in a llama model"),
        ("has an index that is cut short", also(as_file("llama"), cut("llama/" + INDEX, 100)), train(),
            DATA, "{}/llama/model.safetensors.index.json: JSON byte 100: a string without an end"),
        ("has an index without a map", also(as_file("llama"), member("llama/" + INDEX, "weight_map", None)), train(),
            DATA, "{}/llama/model.safetensors.index.json: weight_map is missing"),
        ("has an index that lacks a file", also(as_file("llama"), remove("llama/model-00002-of-00002.safetensors")), train(),
            DATA, "{}/llama/model.safetensors.index.json: names model-00002-of-00002.safetensors, which is missing"),
        ("has an index that climbs out", also(as_file("llama"), member("llama/" + INDEX, "weight_map/model.norm.weight", "../../etc/passwd")), train(),
            DATA, '{}/llama/model.safetensors.index.json: "../../etc/passwd" is no file name'),
        ("has a part that is cut short", also(as_file("llama"), cut("llama/model-00002-of-00002.safetensors", -4)), train(),
            DATA, "{}/llama/model-00002-of-00002.safetensors: tensor model.norm.weight: its data lies beyond the end of the file"),
        ("is cut in its data, of what is evaluated", cut("llama/model.safetensors", -100), evaluate(),
            DATA, "{}/llama/model.safetensors: tensor model.norm.weight: its data lies beyond the end of the file"),
        ("is cut in its data, of what is converted", cut("llama/model.safetensors", -100), convert(),
            DATA, "{}/llama/model.safetensors: tensor model.norm.weight: its data lies beyond the end of the file"),
    ],
    "GGUF": [
        ("is missing", remove("model.gguf"), train(model="model.gguf"), DATA, "{}/model.gguf: No such file or directory"),
        ("is empty", put("model.gguf", ""), train(model="model.gguf"), DATA, "{}/model.gguf: 0 bytes are no GGUF file"),
        ("is another file", put("model.gguf", "not a model at all, but long enough to have a header"), train(model="model.gguf"),
            DATA, "{}/model.gguf: not a GGUF file"),
        ("is of another version", change("model.gguf", u32(3), u32(9)), train(model="model.gguf"),
            DATA, "{}/model.gguf: GGUF version 9 is not supported"),
        ("is cut in its vocabulary", cut("model.gguf", 3000), train(model="model.gguf"),
            DATA, "{}/model.gguf: key tokenizer.ggml.tokens: array leaves the file"),
        ("is cut in its weights", cut("model.gguf", -200), train(model="model.gguf"),
            DATA, "{}/model.gguf: tensor token_embd.weight needs bytes up to 367488, the file ends at 367288"),
        ("has huge numbers of tensors", gguf(HUGE, 1), train(model="model.gguf"),
            DATA, "{}/model.gguf: absurd counts: 4611686018427387905 tensors, 1 keys"),
        ("has huge numbers of keys", gguf(1, HUGE), train(model="model.gguf"),
            DATA, "{}/model.gguf: absurd counts: 1 tensors, 4611686018427387905 keys"),
        ("has a huge string", gguf(1, 1, u64(HUGE), b"name"), train(model="model.gguf"), DATA, "{}/model.gguf: truncated in key 0 of 1"),
        ("has a huge array", gguf(0, 1, text("a"), u32(9), u32(4), u64(HUGE)), train(model="model.gguf"),
            DATA, "{}/model.gguf: key a: absurd array length 4611686018427387905"),
        ("has a huge tensor", gguf(1, 1, text("general.architecture"), u32(8), text("llama"), text("token_embd.weight"), u32(2),
            u64(1 << 40), u64(1 << 40), u32(0), u64(0), b"\0" * 64), train(model="model.gguf"),
            DATA, "{}/model.gguf: tensor token_embd.weight has an absurd dimension 1099511627776"),
        ("has a key of another type", change("model.gguf", text("llama.block_count") + u32(4), text("llama.block_count") + u32(6)), train(model="model.gguf"),
            DATA, "{}/model.gguf: key llama.block_count is f32, not an integer"),
        ("has a key of no type", change("model.gguf", text("llama.block_count") + u32(4), text("llama.block_count") + u32(99)), train(model="model.gguf"),
            DATA, "{}/model.gguf: key llama.block_count has unknown type 99"),
        ("lacks a key", change("model.gguf", b"llama.block_count", b"other.block_count"), train(model="model.gguf"),
            DATA, "{}/model.gguf: key llama.block_count is missing"),
        ("has a key that is not known", gguf_keys([("llama.logit_scale", u32(6) + struct.pack("<f", 0.5))]), train(model="model.gguf"),
            DATA, "{}/model.gguf: key llama.logit_scale would change what the model computes and is not supported"),
        ("is of an unknown architecture", change("model.gguf", text("general.architecture") + u32(8) + text("llama"), text("general.architecture") + u32(8) + text("mamba")), train(model="model.gguf"),
            DATA, '{}/model.gguf: architecture "mamba"; what is read: llama, qwen2, qwen3, mistral, gpt2, bert, qwen3_moe, mixtral'),
        ("has a tensor of an unknown type", change("model.gguf", b"blk.0.attn_q.weight" + u32(2) + u64(64) * 2 + u32(0), b"blk.0.attn_q.weight" + u32(2) + u64(64) * 2 + u32(77)),
            train(model="model.gguf"),
            DATA, "{}/model.gguf: tensor blk.0.attn_q.weight has type 77; what is read: F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, BF16"),
        ("lacks a tensor", change("model.gguf", b"blk.0.attn_q.weight", b"blk.0.attn_x.weight"), train(model="model.gguf"),
            DATA, "{}/model.gguf: tensor blk.0.attn_x.weight is not known in a llama model"),
        ("has no vocabulary", change("model.gguf", b"tokenizer.ggml.tokens", b"tokenizer.xxxx.tokens"), train(model="model.gguf"),
            DATA, "{}/model.gguf: key tokenizer.ggml.tokens is missing"),
        ("is a part whose others are missing", also(gguf_keys([("split.no", u32(2) + b"\0\0"), ("split.count", u32(2) + b"\2\0"), ("split.tensors.count", u32(5) + u32(20))]),
            lambda at: (at / "model.gguf").rename(at / "m-00001-of-00002.gguf")), train(model="m-00001-of-00002.gguf"),
            DATA, "{}/m-00001-of-00002.gguf: part 2 of 2 is not beside it"),
        ("is a later part", also(gguf_keys([("split.no", u32(2) + b"\1\0"), ("split.count", u32(2) + b"\2\0"), ("split.tensors.count", u32(5) + u32(20))]),
            lambda at: (at / "model.gguf").rename(at / "m-00002-of-00002.gguf")), train(model="m-00002-of-00002.gguf"),
            DATA, "{}/m-00002-of-00002.gguf: is part 2 of 2 of a split model, which is named by its first"),
        ("has another digest", also(), dict(train(), model={"source": "/data/model.gguf", "sha256": "0" * 64}),
            DATA, "{}/model.gguf: sha256 is e57e73950d09fa516b428c3928a9505cc981a4c8ff9c7c829fa8e4630690a275, expected 0000000000000000000000000000000000000000000000000000000000000000"),
        ("is cut in its weights, of what is evaluated", cut("model.gguf", -200), evaluate(model="model.gguf"),
            DATA, "{}/model.gguf: tensor token_embd.weight needs bytes up to 367488, the file ends at 367288"),
        ("is cut in its weights, of what is converted", cut("model.gguf", -200), convert("model.gguf", format="HuggingFace"),
            DATA, "{}/model.gguf: tensor token_embd.weight needs bytes up to 367488, the file ends at 367288"),
        ("is cut in its weights, of what is served", cut("model.gguf", -200), job("model.gguf", serve={"modelName": "m"}),
            DATA, "{}/model.gguf: tensor token_embd.weight needs bytes up to 367488, the file ends at 367288"),
    ],
    "tokenizers": [
        ("tokenizer.json is missing", remove("llama/tokenizer.json"), train(), DATA, "{}/llama/tokenizer.json: No such file or directory"),
        ("tokenizer.json is cut short", cut("llama/tokenizer.json", 300), train(),
            DATA, "{}/llama/tokenizer.json: JSON byte 297: a malformed \\u escape"),
        ("tokenizer.json is of an unknown model", member("llama/tokenizer.json", "model/type", "WordLevel"), train(),
            DATA, '{}/llama/tokenizer.json: model "WordLevel"; what is read: BPE, WordPiece, Unigram'),
        ("tokenizer.json lacks a vocabulary", member("llama/tokenizer.json", "model/vocab", None), train(),
            DATA, "{}/llama/tokenizer.json: model.vocab is missing"),
        ("tokenizer.json has text for an id", member("llama/tokenizer.json", "model/vocab/a", "97"), train(),
            DATA, '{}/llama/tokenizer.json: token "a" has no valid id'),
        ("tokenizer.json has an id twice", member("llama/tokenizer.json", "model/vocab/a", 98), train(),
            DATA, "{}/llama/tokenizer.json: id 98 stands twice"),
        ("tokenizer.json has a huge id", member("llama/tokenizer.json", "model/vocab/a", HUGE), train(),
            DATA, '{}/llama/tokenizer.json: token "a" has no valid id'),
        ("tokenizer.json has more tokens than the model", member("llama/tokenizer.json", "model/vocab/zz", 256), train(),
            DATA, "{}/llama: tokenizer has 257 tokens, the model 256"),
        ("tokenizer.json has a merge of no tokens", member("llama/tokenizer.json", "model/merges", ["t h"]), train(),
            DATA, "{}/llama/tokenizer.json: merge 0 is not of tokens in the vocabulary"),
        ("tokenizer.json has a merge that is no pair", member("llama/tokenizer.json", "model/merges", ["th"]), train(),
            DATA, "{}/llama/tokenizer.json: merge 0 is no pair"),
        ("tokenizer.json has an unknown pre-tokenizer", member("llama/tokenizer.json", "pre_tokenizer/type", "Other"), train(),
            DATA, '{}/llama/tokenizer.json: pre-tokenizer "Other" is not supported'),
        ("tokenizer.json has an expression that is none", member("llama/tokenizer.json", "pre_tokenizer",
            {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}), train(),
            DATA, '{}/llama/tokenizer.json: pre-tokenizer expression "(": missing closing parenthesis at 1'),
        ("tokenizer.json is not UTF-8", change("llama/tokenizer.json", b'"!"', b'"\xe9"'), train(),
            DATA, "{}/llama/tokenizer.json: JSON byte 589: invalid UTF-8"),
        ("tokenizer.model is another file", also(remove("llama/tokenizer.json"), put("llama/tokenizer.model", "no pieces in it")), train(),
            DATA, "{}/llama/tokenizer.model: is no file of SentencePiece's"),
        ("tokenizer.model is cut short", also(remove("llama/tokenizer.json"), lambda at: (at / "llama/tokenizer.model").write_bytes((GOLDEN / "pieces-bpe.model").read_bytes()[:5001])), train(),
            DATA, "{}/llama/tokenizer.model: is no file of SentencePiece's"),
        ("tokenizer.model is of no class", also(remove("llama/tokenizer.json"), lambda at: shutil.copy(GOLDEN / "pieces-bpe.model", at / "llama/tokenizer.model")), train(),
            DATA, "{}/llama/tokenizer.model: says how to read it only with a tokenizer_class in tokenizer_config.json"),
        ("tokenizer.model is of another class", also(remove("llama/tokenizer.json"), put("llama/tokenizer_config.json", '{"tokenizer_class": "LlamaTokenizer"}'),
            lambda at: shutil.copy(GOLDEN / "pieces-unigram.model", at / "llama/tokenizer.model")), train(),
            DATA, '{}/llama/tokenizer.model: tokenizer_class "LlamaTokenizer" of a Unigram; what is read: T5Tokenizer'),
        ("tokenizer.model has more pieces than the model", also(remove("llama/tokenizer.json"), put("llama/tokenizer_config.json", '{"tokenizer_class": "LlamaTokenizer"}'),
            lambda at: shutil.copy(GOLDEN / "pieces-bpe.model", at / "llama/tokenizer.model")), train(),
            DATA, "{}/llama: tokenizer has 900 tokens, the model 256"),
        ("vocab.txt is empty", also(remove("bert/tokenizer.json"), put("bert/vocab.txt", "")), classes("texts.jsonl"),
            DATA, "{}/bert/vocab.txt: 0 lines; a vocabulary has 1 to 4194304"),
        ("vocab.txt lacks the unknown token", also(remove("bert/tokenizer.json"), change("bert/vocab.txt", b"[UNK]", b"UNK")), classes("texts.jsonl"),
            DATA, '{}/bert/vocab.txt: unk_token "[UNK]" is no line of it'),
        ("vocab.txt has an empty line", also(remove("bert/tokenizer.json"), change("bert/vocab.txt", b"[UNK]\n", b"[UNK]\n\n")), classes("texts.jsonl"),
            DATA, "{}/bert: tokenizer has 97 tokens, the model 96"),
        ("vocab.txt is not UTF-8", also(remove("bert/tokenizer.json"), change("bert/vocab.txt", b"[SEP]\n", b"[SEP]\ncaf\xe9\n")), classes("texts.jsonl"),
            DATA, "{}/bert/vocab.txt:5: no text"),
        ("vocab.txt is longer than the model", also(remove("bert/tokenizer.json"), change("bert/vocab.txt", b"[SEP]\n", b"[SEP]\nfurther\n")), classes("texts.jsonl"),
            DATA, "{}/bert: tokenizer has 97 tokens, the model 96"),
        ("tokenizer_config.json is cut short", put("llama/tokenizer_config.json", '{"tokenizer_class": '), train(),
            DATA, "{}/llama/tokenizer_config.json: JSON byte 20: a value is missing"),
    ],
    "chat templates": [
        ("there is none", lines("talk.jsonl", TALK), train("talk.jsonl"),
            USER, "{}/talk.jsonl: line 1: messages need a chat template: the model has no chat template"),
        ("ends within a statement", also(lines("talk.jsonl", TALK), put("llama/chat_template.jinja", "line one\n{% for m in messages %}")), train("talk.jsonl"),
            DATA, '{}/talk.jsonl: line 1: {}/llama/chat_template.jinja: chat template: line 2: a block does not end: expected "endfor"'),
        ("has what is not read", also(lines("talk.jsonl", TALK), put("llama/chat_template.jinja", "one\n{% include 'x' %}")), train("talk.jsonl"),
            DATA, '{}/talk.jsonl: line 1: {}/llama/chat_template.jinja: chat template: line 2: tag is not supported: "include"'),
        ("calls what there is not", also(lines("talk.jsonl", TALK), put("llama/chat_template.jinja", "one\n{{ shout(1) }}")), train("talk.jsonl"),
            DATA, '{}/talk.jsonl: line 1: chat template: line 2: function "shout" is not supported'),
        ("refuses the conversation", also(lines("talk.jsonl", TALK), put("llama/chat_template.jinja", "{{ raise_exception('no such talk') }}")), train("talk.jsonl"),
            DATA, "{}/talk.jsonl: line 1: no such talk"),
        ("is not UTF-8", also(lines("talk.jsonl", TALK), put("llama/chat_template.jinja", b"caf\xe9 {{ messages[0].content }}")), train("talk.jsonl"),
            DATA, "{}/talk.jsonl: line 1: {}/llama/chat_template.jinja: invalid UTF-8"),
        ("does not end", also(lines("talk.jsonl", TALK), put("llama/chat_template.jinja", "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")), train("talk.jsonl"),
            DATA, "{}/talk.jsonl: line 1: chat template: line 1: the template needs more than 64 MiB for one conversation"),
        ("in tokenizer_config.json is no text", also(lines("talk.jsonl", TALK), put("llama/tokenizer_config.json", '{"chat_template": 7}')), train("talk.jsonl"),
            DATA, "{}/talk.jsonl: line 1: {}/llama/tokenizer_config.json: chat_template is neither a text nor a list"),
        ("has a conversation that is no list", also(lines("talk.jsonl", TALK, {"messages": "hello"}),
            put("llama/chat_template.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}")), train("talk.jsonl"),
            DATA, "{}/talk.jsonl: line 2: messages: not a list with at least one message"),
    ],
    "texts": [
        ("is missing", remove("text.txt"), train(), DATA, "{}/text.txt: No such file or directory"),
        ("is empty", put("text.txt", ""), train(), DATA, "{}/text.txt: empty file"),
        ("is too short", put("text.txt", "In the"), train(), DATA, "{}/text.txt: 6 tokens, a sample needs 17"),
        ("is not UTF-8", put("text.txt", LINES.encode() + b"caf\xe9 is Latin-1\n" + LINES.encode()), train(),
            DATA, "{}/text.txt: line 41: invalid UTF-8"),
        ("to validate by is missing", also(), train(validation="none.txt"), DATA, "{}/none.txt: No such file or directory"),
        ("to validate by is not UTF-8", put("dev.txt", b"caf\xe9"), train(validation="dev.txt"), DATA, "{}/dev.txt: line 1: invalid UTF-8"),
        ("matches no file", also(), train("*.text"), DATA, "{}/*.text: matches no file"),
        ("is a folder without files", lambda at: (at / "texts").mkdir(), train("texts"), DATA, "{}/texts: no file in it"),
        ("is of an unknown format", put("text.doc", "x"), train("text.doc"),
            USER, "{}/text.doc: format Auto knows .txt, .text, .md, .jsonl and .ndjson, also with .gz or .zst: set the field format beside it to Text or JSONL"),
        ("is Parquet", put("text.parquet", "PAR1"), train("text.parquet"),
            USER, "{}/text.parquet: Parquet is not read: docs/parquet_to_jsonl.py makes JSONL of it"),
        ("of labels is Parquet", put("text.parquet", "PAR1"), classes("text.parquet"),
            USER, "{}.run/job.yaml: spec.train.data.format: must be JSONL, CSV or TSV with SequenceClassification and PairMatching, or Auto with files that end in .jsonl, .ndjson, .csv or .tsv"),
        ("of pairs is Parquet", put("text.parquet", "PAR1"), matching("text.parquet"),
            USER, "{}.run/job.yaml: spec.train.data.format: must be JSONL, CSV or TSV with SequenceClassification and PairMatching, or Auto with files that end in .jsonl, .ndjson, .csv or .tsv"),
        ("of preferences is Parquet", put("text.parquet", "PAR1"), preferences("text.parquet"),
            USER, "{}/text.parquet: Parquet is not read: docs/parquet_to_jsonl.py makes JSONL of it"),
        ("to evaluate by is not UTF-8", put("text.txt", LINES.encode() + b"caf\xe9"), evaluate("text.txt", objective="CausalLM"),
            DATA, "{}/text.txt: line 41: invalid UTF-8"),
        ("to evaluate by is too short", put("text.txt", "In"), evaluate("text.txt", objective="CausalLM"),
            DATA, "{}/text.txt: 2 tokens, a sample needs 65"),
        ("to evaluate by is missing", remove("text.txt"), evaluate("text.txt", objective="CausalLM"), DATA, "{}/text.txt: No such file or directory"),
        ("to calibrate by is missing", remove("text.txt"), convert(quantize="Q4_0", calibration="/data/text.txt"),
            DATA, "{}/text.txt: No such file or directory"),
        ("to calibrate by is not UTF-8", put("text.txt", LINES.encode() + b"caf\xe9"), convert(quantize="Q4_0", calibration="/data/text.txt"),
            DATA, "{}/text.txt: line 41: invalid UTF-8"),
        ("to calibrate by is empty", put("text.txt", ""), convert(quantize="Q4_0", calibration="/data/text.txt"), DATA, "{}/text.txt: empty file"),
        ("to measure a conversion by is too short", put("text.txt", "In"), convert(evaluate={"data": "/data/text.txt", "sequenceLength": 16}),
            DATA, "{}/text.txt: 2 tokens, a sample needs 17"),
        ("with masks is too short", put("text.txt", "In"), train("text.txt", "masked", objective="MaskedLM"),
            DATA, "{}/text.txt: 3 tokens, a sample needs 14"),
    ],
    "JSONL": [
        ("has a line that is not JSON", lines("t.jsonl", {"text": "a line"}, '{"text": "and one that does not end}'), train("t.jsonl"),
            DATA, "{}/t.jsonl: line 2: JSON byte 36: a string without an end"),
        ("lacks the member", lines("t.jsonl", {"text": "a line"}, {"words": "without the member"}), train("t.jsonl"),
            DATA, '{}/t.jsonl: line 2: no object with a string "text", with "messages", or with strings "prompt" and "completion"'),
        ("has a number for a text", lines("t.jsonl", {"text": "a line"}, {"text": 7}), train("t.jsonl"),
            DATA, '{}/t.jsonl: line 2: no object with a string "text", with "messages", or with strings "prompt" and "completion"'),
        ("has a list for a line", lines("t.jsonl", {"text": "a line"}, "[1]"), train("t.jsonl"),
            DATA, '{}/t.jsonl: line 2: no object with a string "text", with "messages", or with strings "prompt" and "completion"'),
        ("is one array", put("t.jsonl", json.dumps([{"text": "a"}])), train("t.jsonl"),
            DATA, '{}/t.jsonl: a JSON array, not JSONL: put each document on a line of its own, {"text": "..."}'),
        ("is not UTF-8", put("t.jsonl", b'{"text": "a line"}\n{"text": "caf\xe9"}\n'), train("t.jsonl"), DATA, "{}/t.jsonl: line 2: invalid UTF-8"),
        ("is empty", put("t.jsonl", ""), train("t.jsonl"), DATA, "{}/t.jsonl: empty file"),
        ("has a prompt alone", lines("t.jsonl", {"prompt": "a", "completion": "b"}, {"prompt": "a"}), train("t.jsonl"),
            DATA, '{}/t.jsonl: line 2: no object with a string "text", with "messages", or with strings "prompt" and "completion"'),
        ("has two kinds of lines", lines("t.jsonl", {"text": "a"}, {"prompt": "a", "completion": "b"}), train("t.jsonl"),
            DATA, '{}/t.jsonl: line 2: has "prompt" and "completion", but lines before it "text": a corpus has one of them'),
        ("is deep without end", put("t.jsonl", '{"text": "a"}\n{"text": ' + "[" * 100000), train("t.jsonl"),
            DATA, "{}/t.jsonl: line 2: JSON byte 72: more than 64 levels"),
        ("of labels has a line that is not JSON", lines("t.jsonl", {"text": "a", "label": "x"}, "{"), classes("t.jsonl"),
            DATA, "{}/t.jsonl: line 2: JSON byte 1: a string is missing"),
        ("of labels lacks a text", lines("t.jsonl", {"text": "a", "label": "x"}, {"label": "x"}), classes("t.jsonl"),
            DATA, '{}/t.jsonl: line 2: no object with a string "text"'),
        ("of labels lacks a label", lines("t.jsonl", {"text": "a", "label": "x"}, {"text": "b"}), classes("t.jsonl"),
            DATA, '{}/t.jsonl: line 2: no "label" that is a string or a whole number, and no "labels"'),
        ("of labels has another type of label", lines("t.jsonl", {"text": "a", "label": "x"}, {"text": "b", "label": [1]}), classes("t.jsonl"),
            DATA, '{}/t.jsonl: line 2: no "label" that is a string or a whole number, and no "labels"'),
        ("of labels has one label alone", lines("t.jsonl", {"text": "a", "label": "x"}, {"text": "b", "label": "x"}), classes("t.jsonl"),
            DATA, '{}/t.jsonl: each text has the label "x": there is nothing to learn'),
        ("of labels has both forms", lines("t.jsonl", {"text": "a", "label": "x"}, {"text": "b", "labels": ["y"]}), classes("t.jsonl"),
            DATA, '{}/t.jsonl: line 2: has "labels", but texts before it "label"'),
        ("of labels to evaluate by has another label", lines("t.jsonl", {"text": "a", "label": "neutral"}, {"text": "b", "label": "x"}),
            evaluate("t.jsonl", "bert", "SequenceClassification", sequenceLength=16),
            DATA, '{}/t.jsonl: line 2: label "x" was not learnt'),
        ("of pairs has a line that is not JSON", lines("t.jsonl", {"a": "x", "b": "y"}, '{"a"'), matching("t.jsonl"),
            DATA, "{}/t.jsonl: line 2: JSON byte 4: a colon is missing"),
        ("of pairs lacks one", lines("t.jsonl", {"a": "x", "b": "y"}, {"a": "x"}), matching("t.jsonl"),
            DATA, '{}/t.jsonl: line 2: no object with strings "a" and "b"'),
        ("of pairs has a number for a text", lines("t.jsonl", {"a": "x", "b": "y"}, {"a": "x", "b": 7}), matching("t.jsonl"),
            DATA, '{}/t.jsonl: line 2: no object with strings "a" and "b"'),
        ("of pairs has a label beyond 1", lines("t.jsonl", {"a": "x", "b": "y", "label": 1}, {"a": "x", "b": "y", "label": 2}), matching("t.jsonl"),
            DATA, "{}/t.jsonl: line 2: a label of a pair is a number from 0 to 1"),
        ("of pairs has labels here and there", lines("t.jsonl", {"a": "x", "b": "y", "label": 1}, {"a": "x", "b": "y"}), matching("t.jsonl"),
            DATA, "{}/t.jsonl: line 2: no label, unlike the pairs before it"),
        ("of preferences has a line that is not JSON", lines("t.jsonl", PAIR, "{"), preferences("t.jsonl"),
            DATA, "{}/t.jsonl: line 2: JSON byte 1: a string is missing"),
        ("of preferences lacks an answer", lines("t.jsonl", PAIR, {"prompt": "a", "chosen": "b"}), preferences("t.jsonl"),
            DATA, '{}/t.jsonl: line 2: no object with "chosen" and "rejected", which objective DPO learns from'),
        ("of preferences has the same twice", lines("t.jsonl", PAIR, dict(PAIR, rejected="Noah")), preferences("t.jsonl"),
            DATA, '{}/t.jsonl: line 2: "chosen" and "rejected" are the same'),
        ("of preferences has two types", lines("t.jsonl", PAIR, dict(PAIR, chosen=[{"role": "assistant", "content": "x"}])), preferences("t.jsonl"),
            DATA, '{}/t.jsonl: line 2: "chosen", "rejected" and "prompt", where there is one, must all be strings or all lists of messages'),
        ("of preferences is text", lines("t.jsonl", {"text": "a"}), preferences("t.jsonl"),
            DATA, '{}/t.jsonl: line 1: no object with "chosen" and "rejected", which objective DPO learns from'),
        ("of questions has a line that is not JSON", lines("questions.jsonl", QUESTION, "{"), evaluate(),
            DATA, "{}/questions.jsonl: line 2: JSON byte 1: a string is missing"),
        ("of questions lacks choices", lines("questions.jsonl", QUESTION, {"question": "who?", "answer": 0}), evaluate(),
            DATA, '{}/questions.jsonl: line 2: "choices": no list of 2 to 64 texts'),
        ("of questions has one choice", lines("questions.jsonl", QUESTION, dict(QUESTION, choices=["Noah"])), evaluate(),
            DATA, '{}/questions.jsonl: line 2: "choices": no list of 2 to 64 texts'),
        ("of questions has a number for a choice", lines("questions.jsonl", QUESTION, dict(QUESTION, choices=["Noah", 7])), evaluate(),
            DATA, '{}/questions.jsonl: line 2: "choices"[1] is no string'),
        ("of questions has an answer outside", lines("questions.jsonl", QUESTION, dict(QUESTION, answer=2)), evaluate(),
            DATA, '{}/questions.jsonl: line 2: "answer": neither an index of a choice, 0 to 1, nor its letter'),
        ("of questions asks nothing", lines("questions.jsonl", QUESTION, {"choices": ["a", "b"], "answer": 0}), evaluate(),
            DATA, '{}/questions.jsonl: line 2: no object with one of the strings "context" and "question"'),
        ("of questions is longer than the model's context", lines("questions.jsonl", QUESTION, dict(QUESTION, choices=["Noah", "x" * 100])), evaluate(),
            DATA, '{}/questions.jsonl: line 2: "choices"[1] has 101 tokens, and spec.evaluate.sequenceLength is 64'),
        ("of questions is empty", put("questions.jsonl", ""), evaluate(), DATA, "{}/questions.jsonl: no question in it"),
        ("of questions is not UTF-8", put("questions.jsonl", json.dumps(QUESTION).encode().replace(b"Noah", b"No\xe9")), evaluate(),
            DATA, "{}/questions.jsonl: line 1: invalid UTF-8"),
    ],
    "packed files": [
        (".gz is cut short", packed("t.txt.gz", LINES.encode(), -12), train("t.txt.gz"),
            DATA, "{}/t.txt.gz: ends within packed data: it was cut short"),
        (".gz is damaged", also(packed("t.txt.gz", LINES.encode()), flip("t.txt.gz", 20)), train("t.txt.gz"),
            DATA, "{}/t.txt.gz: not gzip, or damaged: incorrect data check"),
        (".gz has another sum", also(packed("t.txt.gz", LINES.encode()), flip("t.txt.gz", -6)), train("t.txt.gz"),
            DATA, "{}/t.txt.gz: not gzip, or damaged: incorrect data check"),
        (".gz is not packed", put("t.txt.gz", LINES), train("t.txt.gz"), DATA, "{}/t.txt.gz: not gzip, or damaged: incorrect header check"),
        (".gz is empty", put("t.txt.gz", ""), train("t.txt.gz"), DATA, "{}/t.txt.gz: empty file"),
        (".gz of lines has one that is not JSON", packed("t.jsonl.gz", b'{"text": "a"}\n{\n'), train("t.jsonl.gz"),
            DATA, "{}/t.jsonl.gz: line 2: JSON byte 1: a string is missing"),
        (".gz is of labels", packed("t.jsonl.gz", b'{"text": "a", "label": "x"}\n' * 40, -12), classes("t.jsonl.gz", format="JSONL"),
            DATA, "{}/t.jsonl.gz: ends within packed data: it was cut short"),
        (".zst is cut short", put("t.txt.zst", zstd(b"and there was evening" * 5)[:-3]), train("t.txt.zst"),
            DATA, "{}/t.txt.zst: ends within packed data: it was cut short"),
        (".zst is damaged", also(put("t.txt.zst", zstd(b"x" * 100)), flip("t.txt.zst", 4, 6)), train("t.txt.zst"),
            DATA, "{}/t.txt.zst: not zstd, or damaged: Dictionary mismatch"),
        (".zst is not packed", put("t.txt.zst", LINES), train("t.txt.zst"), DATA, "{}/t.txt.zst: not zstd, or damaged: Unknown frame descriptor"),
        (".zst holds no UTF-8", put("t.txt.zst", zstd(b"and there\n" * 5 + b"caf\xe9")), train("t.txt.zst"),
            DATA, "{}/t.txt.zst: line 6: invalid UTF-8"),
    ],
    "CoNLL": [
        ("has one column", put("t.conll", "Noah B-PER\nbuilt\n"), names("t.conll"),
            DATA, "{}/t.conll: line 2: one column, not 2 to 4 columns from word to label"),
        ("has five columns", put("t.conll", "Noah B-PER\n\na b c d e\n"), names("t.conll"),
            DATA, "{}/t.conll: line 3: more than four columns, not 2 to 4 columns from word to label"),
        ("has columns that change", put("t.conll", "Noah B-PER\n\nNoah x B-PER\n"), names("t.conll"),
            DATA, "{}/t.conll: line 3: 3 columns, but 2 on the lines before"),
        ("has a label of no scheme", put("t.conll", "Noah B-PER\nbuilt X\n"), names("t.conll"),
            DATA, '{}/t.conll: line 2: label "X" is none of O, B-, I-, E- and S- with a type, as those before it are'),
        ("has one label alone", put("t.conll", "Noah O\nbuilt O\n"), names("t.conll"),
            DATA, '{}/t.conll: each word has the label "O": there is nothing to learn'),
        ("is not UTF-8", put("t.conll", b"Noah B-PER\ncaf\xe9 O\n"), names("t.conll"), DATA, "{}/t.conll: line 2: invalid UTF-8"),
        ("is empty", put("t.conll", ""), names("t.conll"), DATA, "{}/t.conll: empty file"),
        ("is text", put("t.txt", "Noah built\n"), names("t.txt"),
            USER, "{}.run/job.yaml: spec.train.data.format: must be CoNLL with TokenClassification, or Auto with files that end in .conll"),
    ],
    "CSV and TSV": [
        ("lacks a column", put("t.csv", "text,kind\na,x\nb,y\n"), classes("t.csv"), DATA, '{}/t.csv: line 1: names no column "label"'),
        ("lacks a column, tabs between", put("t.tsv", "body\tlabel\na\tx\nb\ty\n"), classes("t.tsv"),
            DATA, '{}/t.tsv: line 1: names no column "text"'),
        ("has a ragged row", put("t.csv", "text,label\na,x\nb,y,z\n"), classes("t.csv"),
            DATA, "{}/t.csv: line 3: 3 columns, but the first line names 2"),
        ("has a short row", put("t.tsv", "text\tlabel\na\tx\nb\n"), classes("t.tsv"), DATA, "{}/t.tsv: line 3: 1 column, but the first line names 2"),
        ("has a quote that nothing closes", put("t.csv", 'text,label\na,x\n"b,y\n'), classes("t.csv"),
            DATA, "{}/t.csv: line 3: a quote that nothing closes"),
        ("has text behind a quote", put("t.csv", 'text,label\na,x\n"b"c,y\n'), classes("t.csv"),
            DATA, "{}/t.csv: line 3: text behind a closing quote"),
        ("has a column twice", put("t.csv", "text,label,text\na,x,b\n"), classes("t.csv"), DATA, '{}/t.csv: two columns "text"'),
        ("has an empty label", put("t.csv", "text,label\na,x\nb,\n"), classes("t.csv"),
            DATA, "{}/t.csv: line 3: a label of 0 bytes, and 1 to 128 are allowed"),
        ("has a head alone", put("t.csv", "text,label\n"), classes("t.csv"), DATA, "{}/t.csv: no text in it"),
        ("is not UTF-8", put("t.csv", b"text,label\na,x\ncaf\xe9,y\n"), classes("t.csv"), DATA, "{}/t.csv: line 3: invalid UTF-8"),
    ],
    "adapters": [
        ("folder is missing", also(), evaluate(adapter="/data/none"), DATA, "{}/none/adapter_config.json: No such file or directory"),
        ("adapter_config.json is missing", remove("adapter/adapter_config.json"), evaluate(adapter="/data/adapter"),
            DATA, "{}/adapter/adapter_config.json: No such file or directory"),
        ("adapter_config.json is cut short", cut("adapter/adapter_config.json", 50), evaluate(adapter="/data/adapter"),
            DATA, "{}/adapter/adapter_config.json: JSON byte 50: a string without an end"),
        ("weights are missing", remove("adapter/adapter_model.safetensors"), evaluate(adapter="/data/adapter"),
            DATA, "{}/adapter/adapter_model.safetensors: No such file or directory"),
        ("weights are cut short", cut("adapter/adapter_model.safetensors", -20), evaluate(adapter="/data/adapter"),
            DATA, "{}/adapter/adapter_model.safetensors: tensor base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight: its data lies beyond the end of the file"),
        ("is of an unknown kind", member("adapter/adapter_config.json", "peft_type", "PREFIX_TUNING"), evaluate(adapter="/data/adapter"),
            DATA, '{}/adapter: peft_type "PREFIX_TUNING"; what is merged: LORA, ADALORA'),
        ("is of another rank", member("adapter/adapter_config.json", "r", 3), evaluate(adapter="/data/adapter"),
            DATA, "{}/adapter: model.layers.0.self_attn.q_proj has rank 2, and adapter_config.json says 3"),
        ("has no number for alpha", member("adapter/adapter_config.json", "lora_alpha", "4"), evaluate(adapter="/data/adapter"),
            DATA, "{}/adapter: lora_alpha is no number"),
        ("has a rank that is none", member("adapter/adapter_config.json", "r", 0), evaluate(adapter="/data/adapter"),
            DATA, "{}/adapter: model.layers.0.self_attn.q_proj has rank 2, and adapter_config.json says 0"),
        ("belongs to another model", also(), evaluate(model="wide", adapter="/data/adapter"),
            DATA, "{}/adapter: tensor base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight does not fit the model"),
        ("belongs to another model, converted", also(), convert("wide", format="HuggingFace", mergeAdapter="/data/adapter"),
            DATA, "{}/adapter: tensor base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight does not fit the model"),
        ("is of another rank, converted", member("adapter/adapter_config.json", "r", 3), convert(mergeAdapter="/data/adapter"),
            DATA, "{}/adapter: model.layers.0.self_attn.q_proj has rank 2, and adapter_config.json says 3"),
        ("is served alone", also(), job("adapter", serve={"modelName": "m"}),
            DATA, "{}/adapter: holds an adapter alone, without the model that it belongs to, and is not served; spec.evaluate.adapter takes it beside that model"),
        ("belongs to another model, served", also(), job("wide", serve={"modelName": "m", "adapters": [{"name": "a", "path": "/data/adapter"}]}),
            DATA, "spec.serve.adapters: a: {}/adapter: tensor base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight does not fit the model"),
        ("is of another rank, served", member("adapter/adapter_config.json", "r", 3), job("llama", serve={"modelName": "m", "adapters": [{"name": "a", "path": "/data/adapter"}]}),
            DATA, "spec.serve.adapters: a: {}/adapter: model.layers.0.self_attn.q_proj has rank 2, and adapter_config.json says 3"),
    ],
    "other models": [
        ("of a teacher is missing", also(), train(distill={"teacher": "/data/none.gguf"}), DATA, "{}/none.gguf: No such file or directory"),
        ("of a teacher has other tokens", also(), train(distill={"teacher": "/data/wide"}),
            USER, "spec.train.distill.teacher: a vocabulary of 131 tokens, and spec.model has 256"),
        ("of a draft is missing", also(), serve(speculation={"method": "Draft", "model": {"source": "/data/none.gguf"}}),
            DATA, "spec.serve.speculation.model: {}/none.gguf: No such file or directory"),
        ("of a draft has other tokens", also(), serve(speculation={"method": "Draft", "model": {"source": "/data/wide"}}),
            USER, "spec.serve.speculation.model: it has 131 tokens of vocabulary, spec.model has 256: a draft has the same"),
        ("of a member is cut short", cut("model.gguf", -200), serve(ensemble={"members": [{"name": "a"}, {"name": "b", "source": "/data/model.gguf"}]}),
            DATA, "spec.serve.ensemble.members: b: {}/model.gguf: tensor token_embd.weight needs bytes up to 367488, the file ends at 367288"),
        ("of an encoder is missing", lambda at: (at / "texts").mkdir(), serve(retrieval={"documents": "/data/texts", "encoder": {"source": "/data/none"}}),
            DATA, "spec.serve.retrieval.encoder: {}/none: No such file or directory"),
    ],
    "items": [
        ("are missing", also(), recommend("none.jsonl"), DATA, "{}/none.jsonl: No such file or directory"),
        ("have a line that is not JSON", lines("items.jsonl", {"id": "1", "text": "a"}, "{"), recommend("items.jsonl"),
            DATA, "{}/items.jsonl: line 2: JSON byte 1: a string is missing"),
        ("lack a text", lines("items.jsonl", {"id": "1", "text": "a"}, {"id": "2"}), recommend("items.jsonl"),
            DATA, '{}/items.jsonl: line 2: no "text" that is a string'),
        ("have an id twice", lines("items.jsonl", {"id": "1", "text": "a"}, {"id": "1", "text": "b"}), recommend("items.jsonl"),
            DATA, '{}/items.jsonl: line 2: item "1" is there already'),
        ("are not UTF-8", put("items.jsonl", b'{"id": "1", "text": "caf\xe9"}\n'), recommend("items.jsonl"),
            DATA, "{}/items.jsonl: line 1: is no UTF-8"),
    ],
    "checkpoints": [
        ("is of another training", also(), train(checkpoint="made", seed=7),
            USER, "spec.checkpoint.path: {}/made is of another training: spec.train.seed: 0 in the checkpoint, 7 now"),
        ("is of another model", member("llama/config.json", "rms_norm_eps", 1e-4), train(checkpoint="made"),
            USER, "spec.checkpoint.path: {}/made is of another training: spec.model.source: config.json: content c16dc181e9149065 in the checkpoint, content 696ab2e6f4cde101 now"),
        ("is of other texts", change("text.txt", b"evening", b"midnight"), train(checkpoint="made"),
            USER, "spec.checkpoint.path: {}/made is of another training: spec.train.data.train: content 7e9529a3fd81a1c9 in the checkpoint, content eb1292265933a263 now"),
        ("has a flipped bit", flip("made/step-*/*.safetensors", -9), once(train(checkpoint="made")),
            CORRUPT, "0 restarts within 3600 s; the last: {}/made/step-00000002/rank-00000-a35c5ab24d44b23f.safetensors: its hash does not match; none of the 1 checkpoints in ..."),
        ("has a manifest that is cut short", lambda at: [cut(str(p.relative_to(at)), 200)(at) for p in at.glob("made/step-*/manifest.json")], once(train(checkpoint="made")),
            CORRUPT, "0 restarts within 3600 s; the last: {}/made/step-00000002/manifest.json: its hash does not match; none of the 1 checkpoints in ..."),
        ("path is a file", put("ckpt", "mine"), train(), USER, "{}/ckpt: exists and is no folder"),
    ],
    "outputs": [
        ("holds somebody's file", put("out/notes.txt", "mine"), train(),
            USER, "spec.train.output: {}/out holds notes.txt, which llmjob did not write or somebody changed; move it away or name another folder"),
        ("holds a changed file", put("out/config.json", "{}"), train(),
            USER, "spec.train.output: {}/out holds config.json, which llmjob did not write or somebody changed; move it away or name another folder"),
        ("is a folder without a mark", remove("out/.llmjob-output"), train(),
            USER, "spec.train.output: {}/out holds tokenizer.json, which llmjob did not write or somebody changed; move it away or name another folder"),
        ("is another job's", change("out/.llmjob-output", b"bad", b"god"), train(),
            USER, "spec.train.output: {}/out holds the model of the job default/god; move it away or name another folder"),
        ("is a file", lambda at: (shutil.rmtree(at / "out"), (at / "out").write_text("mine")), train(),
            USER, "spec.train.output: {}/out is no folder"),
        ("holds somebody's file, of a conversion", put("out/notes.txt", "mine"), convert(),
            USER, "spec.convert.output: {}/out holds notes.txt, which llmjob did not write or somebody changed; move it away or name another folder"),
        ("holds somebody's file, of an evaluation", put("out/notes.txt", "mine"), evaluate(),
            USER, "spec.evaluate.output: {}/out holds notes.txt, which llmjob did not write or somebody changed; move it away or name another folder"),
        ("is below a file", also(), convert(output="/data/text.txt/out"), USER, "spec.convert.output: {}/text.txt: exists and is no folder"),
    ],
    "manifests": [
        ("has an unknown field", also(), dict(train(), colour="red"), USER, "{}.run/job.yaml: spec.colour: unknown field"),
        ("has an unknown field within", also(), train(colour="red"), USER, "{}.run/job.yaml: spec.train.colour: unknown field"),
        ("has text for a number", also(), train(steps="many"), USER, "{}.run/job.yaml: spec.train.steps: must be an integer"),
        ("has a list for a text", also(), train(output=["/data/out"]), USER, "{}.run/job.yaml: spec.train.output: must be a string"),
        ("has a number out of range", also(), train(steps=0), USER, "{}.run/job.yaml: spec.train.steps: 0 is outside 1..1000000000"),
        ("has a huge number", also(), train(steps=HUGE), USER, "{}.run/job.yaml: spec.train.steps: must be an integer"),
        ("has a fraction for a whole number", also(), train(steps=1.5), USER, "{}.run/job.yaml: spec.train.steps: must be an integer"),
        ("has a name of nothing", also(), train(objective="Poetry"),
            USER, '{}.run/job.yaml: spec.train.objective: "Poetry" is not one of CausalLM, MaskedLM, TokenClassification, SequenceClassification, DPO, PairMatching'),
        ("breaks a rule", also(), train(lora=dict(rank=2)),
            USER, "{}.run/job.yaml: spec.train.lora: required with method LoRA, and only allowed there"),
        ("lacks a task", also(), job("llama"), USER, "{}.run/job.yaml: spec: set exactly one of train, evaluate, convert, serve and run"),
        ("is not YAML", also(), "a: [", USER, "{}.run/job.yaml: YAML line 2: did not find expected node content"),
        ("is no LLMJob", also(), "kind: Pod\n", USER, "{}.run/job.yaml: no LLMJob in it"),
        ("is missing", also(), None, USER, "{}.run/job.yaml: No such file or directory"),
    ],
}

# -- running ------------------------------------------------------------------------------------------------------------


def run(at, spec, command="run"):
    folder = at.parent / (at.name + ".run")
    folder.mkdir()
    file = folder / "job.yaml"
    if spec is not None:
        file.write_text(spec if isinstance(spec, str) else json.dumps(manifest(spec)))
    flags = ["--plain"] if command == "run" else ["--memory", "1Gi"]
    done = subprocess.run(["timeout", "300", WORK / "bin/llmjob", command, file, "--storage", f"data={at}"] + flags,
        env=dict(os.environ, TMPDIR=str(folder)), stdin=subprocess.DEVNULL, capture_output=True)
    return done.returncode, done.stdout.decode(), done.stderr.decode(), file


# A training that meets its checkpoint says in its folder that it is there; and what was tokenised is kept.
CLAIMED = ("made/incarnation", "made/.llmjob-owner")
KEPT = re.compile("(ckpt|made)/tokens/")


def files(at):
    return {str(p.relative_to(at)): hashlib.sha256(p.read_bytes()).hexdigest() for p in at.rglob("*") if p.is_file()}


def prepare():
    for name, of in (("llama", "llama"), ("wide", "mistral"), ("bert", "bert-texts"), ("masked", "bert-masked")):
        shutil.copytree(GOLDEN / ("tiny-" + of), BASE / name)
    tokenizer = json.loads((WORK / "tokenizer.json").read_text())
    (BASE / "llama/tokenizer.json").write_text(json.dumps(tokenizer))
    tokenizer["model"]["vocab"] = {token: i for token, i in tokenizer["model"]["vocab"].items() if i < 131}
    (BASE / "wide/tokenizer.json").write_text(json.dumps(tokenizer))
    (BASE / "text.txt").write_text(LINES)
    lines("texts.jsonl", {"text": "a", "label": "x"}, {"text": "b", "label": "y"})(BASE)
    lines("questions.jsonl", QUESTION)(BASE)
    for spec, made, kept in ((convert(), "out/model.gguf", "model.gguf"), (train(**LORA), "out/adapter", "adapter"),
                             (train(checkpoint="made", steps=2), None, None)):
        status, said, told, _ = run(BASE, spec)
        assert status == 0, said + told
        if made:
            (BASE / made).rename(BASE / kept)
            shutil.rmtree(BASE / "out")
        shutil.rmtree(BASE / "ckpt", ignore_errors=True)
        shutil.rmtree(BASE.parent / "base.run")


def verdict(number, edit, spec, status, sentence):
    at = WORK / "rows" / str(number)  # a short path: a message has room for so much
    shutil.copytree(BASE, at)
    edit(at)
    before = files(at)
    command, spec = spec if isinstance(spec, tuple) else ("run", spec)
    got, said, told, file = run(at, spec, command)
    told = told.replace(str(at), "{}").replace(str(file), "FILE")
    first, *others = told.splitlines() or [""]
    wrong = []
    if first.startswith("llmjob run: bad failed: "):  # by an agent: a reason stands before the sentence
        reason, _, first = first.removeprefix("llmjob run: bad failed: ").partition(": ")
        if got in REASONS and reason != REASONS[got]:
            wrong.append(f"reason {reason}")
    else:
        first = first.removeprefix(f"llmjob {command}: ").removeprefix("llmjob-rank: ")
    if got != status:
        wrong.append(f"class {got}, not {status}")
    if not re.fullmatch(".*".join(map(re.escape, sentence.split("..."))), first):
        wrong.append(f"said: {first}")
    if any(not other.startswith("llmjob run: logs are in ") for other in others):
        wrong.append("and more: " + " | ".join(others))
    if said.count(" ended at step ") > 1 or said.count("AgentsStarted") > 1:
        wrong.append("tried twice")
    after = files(at)
    wrong += [f"{p} is gone" for p in before if p not in after]
    wrong += [f"{p} is changed" for p in before if after.get(p, before[p]) != before[p] and p not in CLAIMED]
    wrong += [f"{p} is left" for p in after if p not in before and not KEPT.match(p)]
    shutil.rmtree(at)
    shutil.rmtree(file.parent)
    return wrong


def main():
    wanted = sys.argv[3:]
    prepare()
    rows = [(kind,) + row for kind in ROWS for row in ROWS[kind] if not wanted or any(w in f"{kind} {row[0]}" for w in wanted)]
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for row, wrong in zip(rows, pool.map(lambda i: verdict(i, *rows[i][2:]), range(len(rows)))):
            failed += bool(wrong)
            print(f"FAILED: {row[0]} {row[1]}: " + "; ".join(wrong) if wrong else f"ok: {row[0]} {row[1]}", flush=True)
    print(f"{len(rows) - failed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
