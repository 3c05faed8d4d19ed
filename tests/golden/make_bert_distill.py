#!/usr/bin/env python3
"""Makes tiny_bert_distill.json and tiny_bert_distill.safetensors beside this file; README.md has the formats.

The classifiers of make_bert.py and make_bert_texts.py learn the batch of these from its labels and from themselves as
teachers whose labels mean others: row i of the teacher's logits is that of label FROM[i]. The loss is make_distill.py's, over
labels. FP32, eager attention, no dropout.
"""
import json

import torch
from safetensors.torch import save_file
from transformers import BertForSequenceClassification, BertForTokenClassification

import make_bert
import make_bert_texts

WEIGHT, TEMPERATURE, EVERY = 0.6, 1.5, 5
FROM = {"words": [3, 0, 4, 1, 2], "texts": [2, 0, 1]}
OUR_NAMES = [("bert.encoder.layer.", "model.layers."), ("bert.pooler.dense", "model.pooler"), ("bert.embeddings.", "model."),
             ("word_embeddings", "embed_tokens"), ("position_embeddings", "embed_positions"),
             ("token_type_embeddings", "embed_types"), ("model.LayerNorm", "model.embed_norm"),
             ("attention.self.query", "self_attn.q_proj"), ("attention.self.key", "self_attn.k_proj"),
             ("attention.self.value", "self_attn.v_proj"), ("attention.output.dense", "self_attn.o_proj"),
             ("attention.output.LayerNorm", "input_layernorm"), ("output.LayerNorm", "post_attention_layernorm"),
             ("intermediate.dense", "mlp.up_proj"), ("output.dense", "mlp.down_proj")]


def our_name(name):
    for theirs, ours in OUR_NAMES:
        name = name.replace(theirs, ours)
    return name


def make(kind, model, targets):
    """targets: -100 where nothing is told; the golden's are a row a token, of texts at the first one."""
    ids, there, _ = make_bert.batch()
    z = model(input_ids=ids, attention_mask=there.long()).logits.reshape(targets.numel(), -1)
    kept = targets.flatten() >= 0
    z, told = z[kept], targets.flatten()[kept]
    u = z.detach()[:, FROM[kind]]
    text = torch.nn.functional.cross_entropy(z, told)
    divergence = torch.nn.functional.kl_div(
        (z / TEMPERATURE).log_softmax(-1), (u / TEMPERATURE).log_softmax(-1), log_target=True, reduction="batchmean")
    loss = (1 - WEIGHT) * text + WEIGHT * TEMPERATURE**2 * divergence
    loss.backward()
    at = torch.full(ids.shape, -1)
    if kind == "texts":
        at[:, 0] = targets
    else:
        at = targets.masked_fill(targets == -100, -1)
    step = dict(b=len(make_bert.LENGTHS), t=make_bert.T, lengths=make_bert.LENGTHS, inputs=ids.flatten().tolist(),
                targets=at.flatten().tolist(), counted=int(kept.sum()), teacher_from=FROM[kind], weight=WEIGHT,
                temperature=TEMPERATURE, every=EVERY, loss_text=text.item(), loss_mean=loss.item())
    return step, {f"{kind}.{our_name(n)}": p.grad.flatten()[::EVERY].contiguous() for n, p in model.named_parameters()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    words, of_words = make("words", make_bert.open_model("tiny-bert", BertForTokenClassification), make_bert.batch()[2])
    texts, of_texts = make("texts", make_bert.open_model("tiny-bert-texts", BertForSequenceClassification),
                           torch.tensor(make_bert_texts.TARGETS))
    save_file(of_words | of_texts, make_bert.HERE / "tiny_bert_distill.safetensors")
    (make_bert.HERE / "tiny_bert_distill.json").write_text(json.dumps(dict(words=words, texts=texts)) + "\n")
