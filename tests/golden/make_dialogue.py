#!/usr/bin/env python3
"""Makes dialogue.json beside this file: ids of conversations, and which of them are learnt, by transformers."""
import json
import pathlib
import random
import subprocess

from transformers import PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).resolve().parent

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "{{ '<|im_end|>' }}{% endgeneration %}{{ '\n' }}{% else %}{{ m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
)
# No special token stands beside what is said: borders lie within words and between spaces.
PLAIN = "{% for m in messages %}{{ m.role }}:{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}"
WORDS = ["the", " light", "\n", " ", "  ", "day", "'ll", "1999", "\u00e9t\u00e9", "\u4f60\u597d", "...", "<b>", "\t", "un", "affable"]


def fetch(name):
    return pathlib.Path(subprocess.check_output([HERE / "fetch.sh", name], text=True).strip())


def conversation(draw):
    messages = [{"role": "system", "content": "Be brief."}] if draw.random() < 0.5 else []
    for _ in range(draw.randint(1, 4)):
        for role in ("user", "assistant"):
            messages.append({"role": role, "content": "".join(draw.choices(WORDS, k=draw.randint(1, 9)))})
    return messages


def main():
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(fetch("tokenizer-qwen3") / "tokenizer.json"))
    draw = random.Random(7)
    rows = []
    for template in (CHATML, PLAIN):
        for _ in range(40):
            messages = conversation(draw)
            made = tokenizer.apply_chat_template(
                messages, chat_template=template, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
            )
            rows.append({"template": template, "messages": messages, "ids": made["input_ids"], "learnt": made["assistant_masks"]})
    lines = ",\n".join(json.dumps(row, ensure_ascii=True) for row in rows)
    (HERE / "dialogue.json").write_text("[\n" + lines + "\n]\n")


main()
