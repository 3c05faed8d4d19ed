#!/usr/bin/env python3
"""adapterhub.py LLMJOB LOGITS WORK: does AdapterHub's `adapters` load the adapter that a job of method Adapter saves, and give
the logits that our program gives?

Llama, GPT-2 and BERT of two layers with random weights; `LLMJOB run` trains an adapter of each kind for some steps; the output's
adapter/ is loaded by load_adapter(..., use_safetensors=True), and its logits stand beside those of LOGITS (logits.c). And the
other way round: what save_adapter writes of that model is read by LOGITS. By hand; needs a python with adapters, transformers
of the version that it asks for, and torch.
"""
import json
import pathlib
import shutil
import subprocess
import sys

import adapters
import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (BertConfig, BertForTokenClassification, BertTokenizer, GPT2Config, GPT2LMHeadModel,
                          LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast)

WORDS = "the light was good and day night waters".split()
LABELS = ["B-X", "B-Y", "O"]
TOKENS, DIM = 24, 64


def make_model(family, folder):
    torch.manual_seed(7)
    if family == "bert":
        model = BertForTokenClassification(BertConfig(
            vocab_size=32, hidden_size=DIM, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
            max_position_embeddings=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            id2label=dict(enumerate(LABELS)), label2id={l: i for i, l in enumerate(LABELS)}))
    elif family == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=DIM, n_layer=2, n_head=4, n_positions=64, bos_token_id=0,
                                           eos_token_id=0, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0))
    else:
        model = LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=DIM, intermediate_size=128, num_hidden_layers=2,
                                             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
                                             bos_token_id=0, eos_token_id=0))
    model.eval().save_pretrained(folder)
    if family == "bert":
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + WORDS
        (folder / "vocab.txt").write_text("\n".join(vocabulary + [f"w{i}" for i in range(32 - len(vocabulary))]) + "\n")
        BertTokenizer(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    else:
        letters = {c: i + 1 for i, c in enumerate("Ġabcdefghijklmnopqrstuvwxyz")} | {"</s>": 0}
        tokenizer = Tokenizer(models.BPE(letters, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(folder)


def make_data(family, work):
    g = np.random.default_rng(5)
    if family == "bert":
        lines = ["\n".join(f"{WORDS[k]} {LABELS[k % 3]}" for k in g.integers(0, 8, 6)) for _ in range(80)]
        (work / "t.conll").write_text("\n\n".join(lines) + "\n")
    else:
        (work / "t.txt").write_text(" ".join(WORDS[k] for k in g.integers(0, 8, 2000)) + " ")


def run_job(llmjob, family, kind, activation, work):
    objective = "TokenClassification" if family == "bert" else "CausalLM"
    data = "t.conll" if family == "bert" else "t.txt"
    (work / "job.yaml").write_text(f"""
apiVersion: llmjob.dev/v1alpha1
kind: LLMJob
metadata: {{name: prove}}
spec:
  storage: [{{name: data, scratch: 1Gi, mountPath: {work}}}]
  model: {{source: {work}/model}}
  precision: FP32
  checkpoint: {{path: {work}/ckpt}}
  train:
    objective: {objective}
    method: Adapter
    adapter: {{kind: {kind}, reductionFactor: 8, activation: {activation}}}
    data: {{train: {work}/{data}}}
    sequenceLength: {TOKENS}
    batchSequences: 4
    steps: 30
    optimizer: {{learningRate: 0.01}}
    output: {work}/out
""")
    subprocess.run([llmjob, "run", work / "job.yaml"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def ours(logits, work, ids, adapter, width):
    out = subprocess.run([logits, work / "model", str(TOKENS), adapter], input=ids.numpy().astype(np.int32).tobytes(),
                         capture_output=True, check=True).stdout
    return torch.from_numpy(np.frombuffer(out, dtype=np.float32).copy()).reshape(*ids.shape, width)


def prove(llmjob, logits, work, family, kind, activation):
    shutil.rmtree(work, ignore_errors=True)
    (work / "model").mkdir(parents=True)
    make_model(family, work / "model")
    make_data(family, work)
    run_job(llmjob, family, kind, activation, work)
    cls = dict(bert=BertForTokenClassification, gpt2=GPT2LMHeadModel, llama=LlamaForCausalLM)[family]
    model = cls.from_pretrained(work / "model").eval()
    ids = torch.randint(5, 28, (4, TOKENS), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        before = model(ids).logits
        adapters.init(model)
        info = {}
        name = model.load_adapter(str(work / "out/adapter"), use_safetensors=True, set_active=True, loading_info=info)
        assert not info.get("missing_keys") and not info.get("unexpected_keys"), info
        theirs = model.eval()(ids).logits
        got = ours(logits, work, ids, work / "out/adapter", theirs.shape[-1])
        model.save_adapter(str(work / "theirs"), name, use_safetensors=True)
        back = ours(logits, work, ids, work / "theirs", theirs.shape[-1])
    assert json.loads((work / "out/adapter/adapter_config.json").read_text())["name"] == name == "prove"
    far, moved = (got - theirs).abs().max().item(), (theirs - before).abs().max().item()
    again = (back - theirs).abs().max().item()
    print(f"{family} {kind} {activation}: logits off by {far:.1e}, {again:.1e} when saved anew, of {moved:.2g} that the adapter "
          "changes")
    return far < 1e-4 and again < 1e-4 and moved > 0.1


if __name__ == "__main__":
    llmjob, logits, work = (pathlib.Path(p).resolve() for p in sys.argv[1:])
    print(f"adapters {adapters.__version__}, transformers {transformers.__version__}, torch {torch.__version__}")
    torch.set_num_threads(1)
    runs = [(f, k, a) for f in ("llama", "gpt2", "bert") for k, a in (("Houlsby", "SiLU"), ("Pfeiffer", "ReLU"))]
    runs.append(("bert", "Pfeiffer", "GELU"))
    sys.exit(not all([prove(llmjob, logits, work / "run", *run) for run in runs]))
