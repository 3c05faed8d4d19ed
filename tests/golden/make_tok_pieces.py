#!/usr/bin/env python3
"""Makes tok_pieces.json, pieces-bpe.model and pieces-unigram.model beside this file: two vocabularies of SentencePiece, trained here
on six scripts, and what sentencepiece makes of random lines with them, as a hash of each block of lines; what transformers makes of
the same lines with folders in which the .model files are all there is of a tokenizer. The lines are those of make_tok_unigram.py,
with "_" for SentencePiece's own mark, which it takes away from the end of a text, and for
"|", so that no line says <|sep|>, a token behind which llama.cpp and sentencepiece go on in two ways."""
import base64
import contextlib
import io
import json
import pathlib
import tempfile

import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2 as pb
from transformers import AutoTokenizer

from make_tok_unigram import blocks, line_of, of_ids, texts

HERE = pathlib.Path(__file__).resolve().parent
LINES, FEWER, BLOCK, PIECES = 10000, 2000, 50, 900
# Keys that begin alike, so that the longest one counts; one ends within what is another's beginning.
RULES = [("A", "a"), ("A\u030a", "\u00e5"), ("e\u0301", "\u00e9"), ("e\u0301\u0308", "\u00eb"), ("\ufb01", "fi"), ("\u2122", "TM"), ("\u00a0", " "),
         ("\u3000", " "), ("\t", " "), ("\u00ad", ""), ("\u200b", ""), ("ab ab", "ba"), ("\uff1c", "<"), ("\u1100\u1161", "\uac00")]
IM_END = dict(content="<|im_end|>", lstrip=False, normalized=False, rstrip=False, single_word=False, special=True)
CASES = ["", " ", "  ", "a", " a", "a ", "  a  b  ", "A\u030aA", "e\u0301\u0308e\u0301e", "ab ab ab", "x<|sep|>y", "<|sep|><|sep|> z ", "<s>in</s>", "<0x41>", "a<|im_end|>",
         "\n", "\n\n the", "\u4f60\u597d", "\U0001f600\U0001f600 a", "aaaaaaa", "--------", "        ", "the\u00a0\u3000 beginning"]


def train(name, **how):
    out = io.BytesIO()
    sentences = [s for s in texts() if len(s) > 3]
    spm.SentencePieceTrainer.train(sentence_iterator=iter(sentences), model_writer=out, vocab_size=PIECES, num_threads=1, shuffle_input_sentence=False,
                                   minloglevel=2, user_defined_symbols=["<|sep|>"], **how)
    (HERE / name).write_bytes(out.getvalue())
    return out.getvalue()


def line(i, vocab):
    return line_of(i, vocab).replace("\u2581", "_").replace("|", "_")


def plain(model, lines):
    """By sentencepiece itself, and the pieces as GGUF files have them."""
    sp = spm.SentencePieceProcessor(model_proto=model)
    m = pb.ModelProto.FromString(model)
    vocab = [p.piece for p in m.pieces]
    made = [sp.encode(line(i, vocab)) for i in range(lines)]
    return dict(tokens=vocab, scores=[p.score for p in m.pieces], types=[p.type for p in m.pieces], lines=lines, ids=blocks(list(map(of_ids, made))),
                charsmap=base64.b64encode(m.normalizer_spec.precompiled_charsmap).decode(),
                cases=[dict(text=s, ids=sp.encode(s)) for s in CASES if "<|" not in s and "<s>" not in s])


def folder(model, file, config, lines, vocab):
    with tempfile.TemporaryDirectory() as d:
        (pathlib.Path(d) / file).write_bytes(model)
        (pathlib.Path(d) / "tokenizer_config.json").write_text(json.dumps(config))
        with contextlib.redirect_stdout(io.StringIO()):
            t = AutoTokenizer.from_pretrained(d)
        made = [t(line(i, vocab))["input_ids"] for i in range(lines)]
        return dict(config=config, file=file, lines=lines, ids=blocks(list(map(of_ids, made))), cases=[dict(text=s, ids=t(s)["input_ids"]) for s in CASES])


def main():
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        for a, b in RULES:
            rules.write(" ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) + "\n")
        rules.flush()
        bpe = train("pieces-bpe.model", model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
                    allow_whitespace_only_pieces=True)
        unigram = train("pieces-unigram.model", model_type="unigram", normalization_rule_tsv=rules.name, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    out = dict(llama=plain(bpe, LINES), t5=plain(unigram, LINES), folders=[])
    for model, file, config in [
            (bpe, "tokenizer.model", dict(tokenizer_class="LlamaTokenizer", legacy=False, add_bos_token=True)),
            (bpe, "tokenizer.model", dict(tokenizer_class="LlamaTokenizer", legacy=True, add_bos_token=False, add_eos_token=True)),
            (bpe, "tokenizer.model", dict(tokenizer_class="LlamaTokenizer", add_prefix_space=False, added_tokens_decoder={"900": IM_END})),
            (unigram, "spiece.model", dict(tokenizer_class="T5Tokenizer", extra_ids=0))]:
        vocab = out["llama" if model is bpe else "t5"]["tokens"]
        out["folders"].append(folder(model, file, config, FEWER, vocab))
    text = json.dumps(out, separators=(",", ":"))
    (HERE / "tok_pieces.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
