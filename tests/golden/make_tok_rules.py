#!/usr/bin/env python3
"""Makes tok_rules.json beside this file: small byte-level tokenizers whose special and added tokens, flags and post-processors
differ, and what transformers' tokenizer(text) makes of a few texts with each folder."""
import json
import pathlib
import tempfile

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer

HERE = pathlib.Path(__file__).resolve().parent
BOS, EOS, PAD, TOOL, WORD = 259, 260, 261, 262, 263


def base():
    vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocab.update({"ab": 256, "\u0120a": 257, "abab": 258})
    t = Tokenizer(models.BPE(vocab=vocab, merges=[("a", "b"), ("\u0120", "a"), ("ab", "ab")]))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return json.loads(t.to_str())


def added(id, content, special=True, **flags):
    return dict(dict(id=id, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=special),
                **flags)


def template(before, after, sequence=False):
    piece = lambda s: {"SpecialToken": {"id": s, "type_id": 0}}
    ids = {"<s>": BOS, "</s>": EOS}
    t = {"type": "TemplateProcessing",
         "single": [piece(s) for s in before] + [{"Sequence": {"id": "A", "type_id": 0}}] + [piece(s) for s in after],
         "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
         "special_tokens": {s: {"id": s, "ids": [ids[s]], "tokens": [s]} for s in set(before + after)}}
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    return {"type": "Sequence", "processors": [level, t]} if sequence else t


def pair(kind):
    return {"type": kind, "sep": ["</s>", EOS], "cls": ["<s>", BOS], "trim_offsets": True, "add_prefix_space": False}


PLAIN = [added(BOS, "<s>"), added(EOS, "</s>"), added(PAD, "<pad>"), added(TOOL, "<tool>", special=False)]
NAMES = {"bos_token": "<s>", "eos_token": "</s>"}
TEXTS = ["", "ab", "abab a", "<s>ab</s>", " <s> a <pad> b", "a<tool>b", "a <tool>  b", "<tool><tool> ", "</s", "<s></s>",
         "<s", "<<s>>", "a  \n<pad>\t ab", "word aword word1 (word) w\u00f6rd\u00e9 word", "e\u0301<s>e\u0301 \u00e9word\u0301",
         "\u3000<tool>\u00a0\u2003x", "word"]


def variants():
    yield "special", PLAIN, None, None, NAMES
    yield "bos", PLAIN, template(["<s>"], []), None, NAMES
    yield "bos in a sequence", PLAIN, template(["<s>"], [], True), None, NAMES
    yield "bos and eos", PLAIN, template(["<s>"], ["</s>"]), None, NAMES
    yield "two before", PLAIN, template(["<s>", "</s>"], ["</s>"]), None, NAMES
    yield "roberta", PLAIN, pair("RobertaProcessing"), None, NAMES
    yield "bert", PLAIN, {k: v for k, v in pair("BertProcessing").items() if k in ("type", "sep", "cls")}, None, NAMES
    yield "asked for in the config", PLAIN, None, None, dict(NAMES, add_bos_token=True, add_eos_token=True)
    yield "unasked for in the config", PLAIN, template(["<s>"], []), None, dict(NAMES, add_bos_token=False)
    yield "left", [dict(t, lstrip=True) for t in PLAIN], None, None, NAMES
    yield "right", [dict(t, rstrip=True) for t in PLAIN], None, None, NAMES
    yield "both", [dict(t, rstrip=True, lstrip=True) for t in PLAIN], None, None, NAMES
    yield "word", PLAIN + [added(WORD, "word", special=False, single_word=True)], None, None, NAMES
    yield "normalized", [dict(t, normalized=True) for t in PLAIN], None, {"type": "NFC"}, NAMES
    yield "half normalized", PLAIN[:2] + [dict(t, normalized=True) for t in PLAIN[2:]] + [
        added(WORD, "\u00e9word", special=False, normalized=True)], None, {"type": "NFC"}, NAMES
    yield "longest", PLAIN + [added(WORD, "<s></s>", special=False)], None, None, NAMES
    yield "named in the config", [dict(t, special=False) for t in PLAIN], None, None, dict(NAMES, additional_special_tokens=["<tool>"])
    flags = dict(lstrip=True, rstrip=True, normalized=False, single_word=False, special=True)
    yield "flags of the config", PLAIN, None, None, dict(NAMES, added_tokens_decoder={
        str(PAD): dict(flags, content="<pad>"), str(TOOL): dict(flags, content="<tool>", special=False)})


def main():
    tokenizer, out = base(), []
    for name, tokens, post, normal, config in variants():
        with tempfile.TemporaryDirectory() as folder:
            files = {"tokenizer.json": dict(tokenizer, added_tokens=tokens, post_processor=post, normalizer=normal),
                     "tokenizer_config.json": dict(config, tokenizer_class="PreTrainedTokenizerFast")}
            for file, content in files.items():
                (pathlib.Path(folder) / file).write_text(json.dumps(content))
            t = AutoTokenizer.from_pretrained(folder)
            cases = [dict(text=s, ids=t(s)["input_ids"]) for s in TEXTS]
            special = sorted(i for i, a in t.added_tokens_decoder.items() if a.special)
        out.append(dict(name=name, added_tokens=tokens, post_processor=post, normalizer=normal, config=config, special=special,
                        cases=cases))
    text = json.dumps(dict(tokenizer=tokenizer, variants=out), separators=(",", ":"))
    (HERE / "tok_rules.json").write_text(text.replace('{"name"', '\n{"name"') + "\n")


if __name__ == "__main__":
    main()
