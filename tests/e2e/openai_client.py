"""What test_openai.sh asks of a server, through the real `openai` client.

    openai_client.py ends URL                      answers that end by themselves, as those of a real model do
    openai_client.py api URL                       answers, streams, usage, errors
    openai_client.py queue URL METRICS BOUND       more requests than the queue takes
    openai_client.py large URL RANK                large ones during a long answer of RANK, its pid
    openai_client.py cancel URL METRICS            a client that goes away
    openai_client.py drain URL METRICS PID         SIGTERM to PID during a stream
    openai_client.py key URL KEY                   who may ask
    openai_client.py tools URL [MODEL]             calls, of a model whose template takes tools
    openai_client.py adapters URL                  two adapters beside the model, LOUD and QUIET

Each line "ok: ..." or "FAILED: ..." is one check; the last line is their sum. Retries are off, so
that every answer is the server's first.
"""

import concurrent.futures
import json
import math
import os
import re
import signal
import sys
import time
import traceback
import typing
import urllib.request

import openai
import pydantic

MODEL = "smol"
QUESTION = [{"role": "user", "content": "Name three animals that live in the sea."}]
HELLO = [{"role": "user", "content": "Say hello."}]  # which is soon done
TOKENS = 10  # of an answer, when nothing is said of it
DRAINED = 100  # tokens of the answer that is under way: what happens meanwhile computes nothing
LONG = "Here is a long list of English words, one after another: house, tree,"
counts = {True: 0, False: 0}


def check(what, ok, detail=None):
    counts[bool(ok)] += 1
    print(f"ok: {what}" if ok else f"FAILED: {what}: {detail!r}", flush=True)


def client_for(url, key="none", timeout=60, strict=False):
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=timeout, _strict_response_validation=strict)


def refused(what, kind, status, call):
    """The call ends in the client's own exception, with a body in OpenAI's form."""
    try:
        answer = call()
    except openai.APIStatusError as e:
        body = e.body or {}
        good = type(e) is kind and e.status_code == status and body.get("message")
        check(what, good and body.get("type"), (type(e), e.status_code, e.body))
        return e
    check(what, False, answer)


def chat(client, **more):
    asked = {"model": MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": TOKENS}
    return client.chat.completions.create(**(asked | more))


def words(client, tokens, **more):
    """A stream that goes on for about so many tokens: this prompt has no natural end."""
    return client.completions.create(model=MODEL, prompt=LONG, temperature=0, max_tokens=tokens,
                                     stream=True, **more)


def metric(url, name):
    text = urllib.request.urlopen(url, timeout=60).read().decode()
    return float(re.search(rf"^{name} (\S+)$", text, re.M).group(1))


def until(seconds, condition):
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return value


# ---- api -----------------------------------------------------------------------------------------


def answers(c):
    whole = chat(c)
    text = whole.choices[0].message.content
    print("answer:", text.replace("\n", " "))
    check("a chat is answered", text.strip() and whole.object == "chat.completion", whole)
    check("by the assistant", whole.choices[0].message.role == "assistant", whole)
    check("of the model that was asked", whole.model == MODEL, whole.model)
    u = whole.usage
    check("usage adds up", u.prompt_tokens > 10 and 0 < u.completion_tokens <= TOKENS
          and u.total_tokens == u.prompt_tokens + u.completion_tokens, u)

    chunks = list(chat(c, stream=True, stream_options={"include_usage": True}))
    said = [x.choices[0] for x in chunks if x.choices]
    check("a stream says the same", "".join(x.delta.content or "" for x in said) == text, said)
    check("in several pieces", sum(bool(x.delta.content) for x in said) > 3, said)
    check("the first names the role", said[0].delta.role == "assistant", said[0])
    check("one says why it ended, the last", [x.finish_reason for x in said if x.finish_reason]
          == [whole.choices[0].finish_reason] and said[-1].finish_reason, said[-1])
    again = chunks[-1].usage
    check("then comes the same usage", (again.prompt_tokens, again.completion_tokens, again.total_tokens)
          == (u.prompt_tokens, u.completion_tokens, u.total_tokens), again)
    check("whole pages of the prompt were found", 0 < again.prompt_tokens_details.cached_tokens < u.prompt_tokens
          and again.prompt_tokens_details.cached_tokens % 16 == 0, again)
    check("all are of one answer", len({x.id for x in chunks}) == 1
          and chunks[0].object == "chat.completion.chunk", chunks[0])
    check("no usage unless asked for", all(x.usage is None for x in chat(c, stream=True)))

    parts = [{"role": "user", "content": [{"type": "text", "text": QUESTION[0]["content"]}]}]
    check("content in parts is the same content", chat(c, messages=parts).choices[0].message.content
          == text)
    silent = QUESTION + [{"role": "assistant", "content": None, "refusal": None}] + QUESTION
    check("an assistant may have said nothing", chat(c, messages=silent).usage.prompt_tokens
          > u.prompt_tokens)
    turns = QUESTION + [{"role": "assistant", "content": "Whales."},
                        {"role": "user", "content": "And two more?"}]
    more = chat(c, messages=[{"role": "system", "content": "Be brief."}] + turns)
    check("a dialogue of several turns is answered", more.choices[0].message.content.strip()
          and more.usage.prompt_tokens > u.prompt_tokens, more)


def bounds(c):
    short = chat(c, max_tokens=5)
    check("max_tokens ends an answer", short.choices[0].finish_reason == "length"
          and short.usage.completion_tokens == 5, short)
    newer = chat(c, max_tokens=openai.omit, max_completion_tokens=4)
    check("so does max_completion_tokens", newer.usage.completion_tokens == 4, newer)

    whole = chat(c).choices[0].message.content
    word = whole.split()[3]
    for stop in word, ["never said", word]:
        cut = chat(c, stop=stop)
        check(f"stop={stop!r} ends it before that text", cut.choices[0].finish_reason == "stop"
              and cut.choices[0].message.content == whole[:whole.index(word)], cut)
    cut = "".join(x.choices[0].delta.content or "" for x in chat(c, stop=word, stream=True))
    check("no part of a stop text is streamed", cut == whole[:whole.index(word)], cut)

    drawn = [chat(c, temperature=1.2, seed=s).choices[0].message.content for s in (7, 7, 8, 9)]
    check("the same seed draws the same answer", drawn[0] == drawn[1], drawn)
    check("another seed another", len(set(drawn)) > 1, drawn)
    near = chat(c, temperature=1, top_p=1e-6, seed=1).choices[0].message.content
    check("top_p near 0 draws the likeliest", near == whole, near)


def shapes(c):
    """What a request changes of the model's logits."""
    def text(**more):
        return chat(c, **more).choices[0].message.content
    whole = text()
    for field, value in {"top_k": 1, "min_p": 1}.items():
        check(f"{field}={value} draws the likeliest",
              text(temperature=1.5, seed=3, extra_body={field: value}) == whole)
    hot = {"temperature": 1.5, "seed": 3}
    few = [text(**hot, extra_body={"top_k": 5}) for _ in range(2)]
    check("top_k changes what is drawn, always alike", few[0] == few[1] != text(**hot), few)
    longer = text(max_tokens=48)
    for field in "frequency_penalty", "presence_penalty":
        check(f"{field} changes an answer", text(**{field: 2}, max_tokens=48) != longer)
        check(f"{field}=0 does not", text(**{field: 0}) == whole)
    check("repetition_penalty changes an answer", text(max_tokens=48, extra_body={"repetition_penalty": 1.5}) != longer)
    said = words(c, 1)
    first = next(x.choices[0].text for x in said if x.choices[0].text)
    said.close()
    asked = {"model": MODEL, "prompt": LONG, "temperature": 0, "max_tokens": 8}
    plain = c.completions.create(**asked)
    check("without a bias it says the likeliest", plain.choices[0].text.startswith(first), plain)
    barred = c.completions.create(**asked, logit_bias={str(i): -100 for i in range(1024)})
    biased = c.completions.create(**asked, logit_bias={"28": 100})
    check("a bias of 100 is said over and over", len(set(biased.choices[0].text)) == 1, biased)
    check("one of -100 never", biased.choices[0].text[0] not in barred.choices[0].text, barred)


def whole_text(content):
    """What the bytes of tokens are together."""
    return bytes(b for t in content for b in t.bytes).decode()


def logprobs(c):
    plain = chat(c)
    text = plain.choices[0].message.content
    check("no logprobs unless asked for", plain.choices[0].logprobs is None, plain)
    told = chat(c, logprobs=True, top_logprobs=5)
    content = told.choices[0].logprobs.content
    check("the answer is the same beside them", told.choices[0].message.content == text, told)
    check("one for each token", len(content) == told.usage.completion_tokens, len(content))
    check("whose bytes are the text", whole_text(content) == text, content)
    check("the greedy one is the likeliest", all(t.token == t.top_logprobs[0].token
          and t.logprob == t.top_logprobs[0].logprob for t in content), content)
    sums = [sum(math.exp(x.logprob) for x in t.top_logprobs) for t in content]
    check("five of each, in order, together at most 1", max(sums) <= 1 + 1e-5 and all(
        len(t.top_logprobs) == 5 and [x.logprob for x in t.top_logprobs]
        == sorted((x.logprob for x in t.top_logprobs), reverse=True) for t in content), sums)
    hot = chat(c, logprobs=True, temperature=1.5, seed=3, frequency_penalty=1)
    check("they are before the temperature: the first token's distribution is the same",
          hot.choices[0].logprobs.content[0].logprob <= content[0].logprob
          and hot.choices[0].logprobs.content[0].top_logprobs == [], hot.choices[0].logprobs)
    chunks = [x.choices[0] for x in chat(c, logprobs=True, top_logprobs=5, stream=True)]
    streamed = [t for x in chunks if x.logprobs for t in x.logprobs.content]
    check("a stream tells the same", streamed == content, streamed)
    emoji = c.completions.create(model=MODEL, prompt=EMOJI, max_tokens=0, echo=True, logprobs=0)
    cut = [t for t in emoji.choices[0].logprobs.tokens if t.startswith("bytes:")]
    check("parts of characters are told as bytes", cut, emoji.choices[0].logprobs.tokens)


EMOJI = "Emoji: \U0001f9ff\U0001f9ff"


def scores(c):
    """A prompt's own logprobs, as lm-evaluation-harness asks for them."""
    asked = {"model": MODEL, "prompt": "In the beginning God created the", "temperature": 0,
             "logprobs": 2}
    first = c.completions.create(**asked, max_tokens=4)
    said = first.choices[0]
    check("a completion's logprobs are in the older form", len(said.logprobs.tokens) == 4
          == len(said.logprobs.token_logprobs) == len(said.logprobs.top_logprobs), said)
    check("whose tokens are the text", "".join(said.logprobs.tokens) == said.text
          and all(said.text[o:].startswith(t) for o, t in
                  zip(said.logprobs.text_offset, said.logprobs.tokens)), said)
    check("and the likeliest", all(max(top.values()) == p for top, p in
          zip(said.logprobs.top_logprobs, said.logprobs.token_logprobs)), said)
    together = asked["prompt"] + said.text
    scored = c.completions.create(**(asked | {"prompt": together}), echo=True, max_tokens=0)
    one = scored.choices[0]
    check("echo gives the prompt back, alone with max_tokens=0", one.text == together
          and scored.usage.completion_tokens == 0 and one.finish_reason == "length", scored)
    check("its first token has no logprob", one.logprobs.token_logprobs[0] is None
          and one.logprobs.top_logprobs[0] is None, one.logprobs)
    check("the others have those that they were drawn with", all(
        abs(a - b) < 1e-4 for a, b in zip(one.logprobs.token_logprobs[-4:],
                                          said.logprobs.token_logprobs)), (one, said))
    check("offsets are the tokens' places", all(one.text[o:].startswith(t) for o, t in
          zip(one.logprobs.text_offset, one.logprobs.tokens)), one.logprobs)
    more = c.completions.create(**asked, echo=True, max_tokens=2)
    check("echo with an answer behind it", more.choices[0].text == asked["prompt"] + "".join(
        said.logprobs.tokens[:2]) and len(more.choices[0].logprobs.tokens)
        == more.usage.prompt_tokens + 2, more)
    several = c.completions.create(**(asked | {"prompt": [together, "Once"]}), echo=True,
                                   max_tokens=0)
    check("several prompts are scored at once", several.choices[0].logprobs == one.logprobs
          and several.choices[1].text == "Once", several)


def several(c):
    asked = {"temperature": 1, "seed": 5, "max_tokens": 12}
    three = chat(c, **asked, n=3)
    texts = [x.message.content for x in three.choices]
    check("n answers, each its own", len(set(texts)) == 3 and [x.index for x in three.choices]
          == [0, 1, 2], three)
    check("the first is that of the seed alone", texts[0] == chat(c, **asked).choices[0]
          .message.content, texts)
    check("and all come again", texts == [x.message.content for x in chat(c, **asked, n=3).choices])
    check("usage counts the prompt once", three.usage.prompt_tokens == chat(c, max_tokens=1)
          .usage.prompt_tokens and 3 <= three.usage.completion_tokens <= 36, three.usage)
    streamed = ["", "", ""]
    for x in chat(c, **asked, n=3, stream=True):
        streamed[x.choices[0].index] += x.choices[0].delta.content or ""
    check("a stream says the same", streamed == texts, streamed)
    both = c.completions.create(model=MODEL, prompt=["One, two,", "Alpha, beta,"], seed=1,
                                max_tokens=6)
    ones = [c.completions.create(model=MODEL, prompt=p, seed=1, max_tokens=6).choices
            for p in ("One, two,", "Alpha, beta,")]
    check("several prompts, each with its answer", [x.text for x in both.choices]
          == [x.text for one in ones for x in one], both)
    ids = c.completions.create(model=MODEL, prompt=[[253, 17], [4093]], max_tokens=1)
    check("or lists of token ids", ids.usage.prompt_tokens == 3 and len(ids.choices) == 2, ids)


def post(c, path, **body):
    ask = urllib.request.Request(str(c.base_url).removesuffix("/v1/") + path, method="POST",
                                 data=json.dumps(body).encode())
    try:
        with urllib.request.urlopen(ask, timeout=60) as a:
            return json.load(a)
    except urllib.error.HTTPError as e:
        return json.load(e)


def rendered(c):
    text = "In the beginning \u00e9 \U0001f9ff"
    ids = post(c, "/tokenize", model=MODEL, prompt=text)
    check("a text's tokens", ids["count"] == len(ids["tokens"]) > 5 and ids["max_model_len"] == 1024,
          ids)
    check("are what a completion counts", c.completions.create(
        model=MODEL, prompt=text, max_tokens=1).usage.prompt_tokens == ids["count"], ids)
    check("and their text is the text", post(c, "/detokenize", tokens=ids["tokens"])
          == {"prompt": text})
    asked = post(c, "/tokenize", messages=QUESTION)
    check("messages' tokens are what a chat counts", chat(c, max_tokens=1).usage.prompt_tokens
          == asked["count"], asked)
    made = post(c, "/apply-template", messages=QUESTION)["prompt"]
    check("the template's text", QUESTION[0]["content"] in made and "<|im_start|>assistant" in made,
          made)
    check("which is what those tokens are", post(c, "/detokenize", tokens=asked["tokens"])["prompt"]
          == made, made)
    short = post(c, "/apply-template", messages=QUESTION, add_generation_prompt=False)["prompt"]
    check("without the beginning of an answer", made.startswith(short) and len(short) < len(made),
          short)
    no = post(c, "/tokenize", prompt=text, frobnicate=1)
    check("an unknown field is refused by its name", no["error"]["param"] == "frobnicate", no)


def completions(c):
    asked = {"model": MODEL, "prompt": "In the beginning God created the", "temperature": 0}
    whole = c.completions.create(**asked)
    check("a completion goes on with the text", whole.choices[0].text.strip()
          and whole.object == "text_completion", whole)
    check("for 16 tokens when no bound is given", whole.usage.completion_tokens == 16, whole.usage)
    streamed = "".join(x.choices[0].text for x in c.completions.create(**asked, stream=True))
    check("a stream says the same", streamed == whole.choices[0].text, streamed)
    ids = c.completions.create(**(asked | {"prompt": [253, 17, 4093, 28]}))
    check("token ids are a prompt", ids.usage.prompt_tokens == 4 and ids.choices[0].text, ids)


PERSON = {"type": "object", "additionalProperties": False, "required": ["name", "age", "pets"], "properties": {
    "name": {"type": "string", "minLength": 1, "maxLength": 12},
    "age": {"type": "integer", "minimum": 1, "maximum": 120},
    "pets": {"type": "array", "maxItems": 2, "items": {"enum": ["cat", "dog"]}}}}


def by_schema(schema):
    return {"type": "json_schema", "json_schema": {"name": "it", "strict": True, "schema": schema}}


def formats(c):
    for drawn in {"temperature": 0}, {"temperature": 1.5, "seed": 3}:
        whole = chat(c, response_format=by_schema(PERSON), max_tokens=200, **drawn).choices[0]
        said = json.loads(whole.message.content)
        print("by a schema:", said)
        check(f"an answer satisfies its schema, {drawn}", whole.finish_reason == "stop" and list(said) == ["name", "age", "pets"]
              and 1 <= len(said["name"]) <= 12 and 1 <= said["age"] <= 120 and set(said["pets"]) <= {"cat", "dog"}, whole)
    chunks = list(chat(c, response_format=by_schema(PERSON), max_tokens=200, stream=True, n=2))
    for i in range(2):
        text = "".join(x.choices[0].delta.content or "" for x in chunks if x.choices and x.choices[0].index == i)
        check("so does a streamed one of several", list(json.loads(text)) == ["name", "age", "pets"], text)
    cut = chat(c, response_format=by_schema(PERSON), max_tokens=5).choices[0]
    check("one that is cut says so", cut.finish_reason == "length" and cut.message.content.startswith("{"), cut)
    plain = chat(c, response_format={"type": "json_object"}, max_tokens=60, seed=1, temperature=1).choices[0]
    check("an object without a schema is one", plain.finish_reason == "length" or type(json.loads(plain.message.content)) is dict, plain)
    schemas = {"schema.properties.a.not": {"properties": {"a": {"not": {}}}}, "schema.$ref": {"$ref": "#/none"},
               "schema.enum": {"enum": [str(i) for i in range(20000)]},
               "schema": {"properties": {f"p{i}": {"type": "string", "maxLength": 900} for i in range(900)}}}
    for path, schema in schemas.items():
        began = time.monotonic()
        e = refused(f"a schema that is refused, at {path}", openai.BadRequestError, 400,
                    lambda: chat(c, response_format=by_schema(schema)))
        check("its path is named", e and e.param == f"response_format.json_schema.{path}", e and e.body)
        check("within a second", time.monotonic() - began < 1, time.monotonic() - began)


class Animal(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=12)
    legs: typing.Literal[0, 2, 4]


def respond(c, **more):
    asked = {"model": MODEL, "input": QUESTION[0]["content"], "temperature": 0, "max_output_tokens": TOKENS}
    return c.responses.create(**(asked | more))


def streams_say(c, asked, most, status):
    """A stream of a response that comes to that end."""
    events = list(respond(c, input=asked, max_output_tokens=most, stream=True))
    kinds, last = [e.type for e in events], events[-1].response
    plain = chat(c, messages=asked, max_tokens=most).choices[0].message.content
    check(f"a stream that is {status} says the same", last.status == status and last.output_text == plain
          == "".join(e.delta for e in events if e.type == "response.output_text.delta"), last)
    check("in that API's events, numbered", kinds[:4] == ["response.created", "response.in_progress",
          "response.output_item.added", "response.content_part.added"] and kinds[-4:] == ["response.output_text.done",
          "response.content_part.done", "response.output_item.done", f"response.{status}"]
          and [e.sequence_number for e in events] == list(range(len(events))), kinds)


def responses(c):
    """The Responses API: what is said is what the chat of the same meaning says, in that API's types (c is strict)."""
    first, whole = chat(c), respond(c)
    text, u = first.choices[0].message.content, whole.usage
    check("a response says what the chat says", whole.output_text == text and len(whole.output) == 1
          and (whole.object, whole.model, whole.error) == ("response", MODEL, None), whole)
    check("and what was asked", (whole.tools, whole.tool_choice, whole.parallel_tool_calls, whole.temperature, whole.max_output_tokens)
          == ([], "auto", True, 0, TOKENS), whole)
    ended = {"stop": ("completed", None), "length": ("incomplete", "max_output_tokens")}[first.choices[0].finish_reason]
    check("it ended for the same reason", (whole.status, whole.incomplete_details and whole.incomplete_details.reason) == ended, whole)
    check("usage is the same", (u.input_tokens, u.output_tokens, u.total_tokens, u.output_tokens_details.reasoning_tokens)
          == (first.usage.prompt_tokens, first.usage.completion_tokens, first.usage.total_tokens, 0)
          and 0 < u.input_tokens_details.cached_tokens < u.input_tokens, u)
    streams_say(c, HELLO, 5, "incomplete")
    with c.responses.stream(model=MODEL, input=QUESTION, temperature=0, max_output_tokens=TOKENS) as stream:
        put = [e for e in stream if e.type == "response.output_text.delta"][-1].snapshot
    check("the client puts it together", put == text, put)
    turns = QUESTION + [{"role": "assistant", "content": text}, {"role": "user", "content": "And two more?"}]
    ours = chat(c, messages=[{"role": "system", "content": "Be brief."}] + turns).choices[0].message.content
    theirs = respond(c, instructions="Be brief.", input=[
        {"role": "user", "content": [{"type": "input_text", "text": QUESTION[0]["content"]}]}, *whole.output, turns[-1]])
    check("a dialogue goes on from its output", theirs.output_text == ours, theirs)
    form = by_schema(PERSON)["json_schema"] | {"type": "json_schema"}
    said = json.loads(respond(c, text={"format": form}, max_output_tokens=200).output_text)
    check("text.format is kept to", list(said) == ["name", "age", "pets"], said)
    parsed = c.responses.parse(model=MODEL, input="Name an animal.", text_format=Animal, temperature=0, max_output_tokens=100)
    check("the client parses it", type(parsed.output_parsed) is Animal and parsed.output_parsed.legs in (0, 2, 4), parsed)
    bad = openai.BadRequestError
    for field, value in {"store": True, "previous_response_id": whole.id, "background": True, "conversation": "c"}.items():
        e = refused(f"{field}, as nothing is kept", bad, 400, lambda: respond(c, **{field: value}))
        check("it is named", e.param == field and field in e.message, e and e.body)
    e = refused("a tool that a server has", bad, 400, lambda: respond(c, tools=[{"type": "web_search"}]))
    check("it is named", e.param == "tools[0].type", e and e.body)
    e = refused("what nobody knows", bad, 400, lambda: respond(c, extra_body={"frobnicate": 1}))
    check("it is named", e.param == "frobnicate", e and e.body)


def errors(c):
    no = refused("tools of a template that takes none", openai.BadRequestError, 400, lambda: chat(c, tools=TOOLS))
    check("says so", "the model's chat template takes no tools" in str(no) and no.param == "tools", no)
    bad, no = openai.BadRequestError, openai.NotFoundError
    e = refused("a model that is not there", no, 404, lambda: chat(c, model="gpt-4"))
    check("is named", "gpt-4" in e.message and e.code == "model_not_found", e and e.message)
    e = refused("no messages", bad, 400, lambda: chat(c, messages=[]))
    check("the parameter is named", e.param == "messages", e and e.body)
    refused("a message without content", bad, 400, lambda: chat(c, messages=[{"role": "user"}]))
    refused("temperature out of range", bad, 400, lambda: chat(c, temperature=5))
    e = refused("a token that is not the model's", bad, 400,
                lambda: chat(c, logit_bias={"9999999": 1}))
    check("it is named", "9999999" in e.message, e and e.body)
    refused("min_tokens beyond max_tokens", bad, 400,
            lambda: chat(c, extra_body={"min_tokens": TOKENS + 1}))
    refused("max_tokens 0", bad, 400, lambda: chat(c, max_tokens=0))
    refused("too many answers at once", bad, 400, lambda: chat(c, n=9))
    refused("top_logprobs alone", bad, 400, lambda: chat(c, top_logprobs=2))
    for field, value in {"reasoning_effort": "high", "modalities": ["audio"]}.items():
        e = refused(f"{field}, which is not supported", bad, 400,
                    lambda: chat(c, **{field: value}))
        check("it is named", e.param == field and field in e.message, e and e.body)
    e = refused("what nobody knows", bad, 400, lambda: chat(c, extra_body={"frobnicate": 1}))
    check("it is named", e.param == "frobnicate", e and e.body)
    e = refused("more prompts than the queue takes", bad, 400,
                lambda: c.completions.create(model=MODEL, prompt=["a"] * 129))
    check("it is named", e.param == "prompt", e and e.body)
    refused("an image", bad, 400, lambda: chat(c, messages=[{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:,"}}]}]))
    e = refused("a prompt beyond the context", bad, 400, lambda: chat(c, messages=[
        {"role": "user", "content": "word " * 3000}]))
    check("the context is named", "1024" in e.message, e and e.message)
    refused("what another kind of model does", bad, 400,
            lambda: c.embeddings.create(model=MODEL, input="x"))
    refused("another part of the API", no, 404, lambda: c.images.generate(model=MODEL, prompt="x"))
    check("none of it harmed the server", chat(c, max_tokens=1).usage.completion_tokens == 1)


def origin(url):
    """What a browser asks before a page of another origin may send."""
    ask = urllib.request.Request(f"{url}/v1/chat/completions", method="OPTIONS", headers={
        "Origin": "https://page.example", "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type"})
    with urllib.request.urlopen(ask, timeout=60) as a:
        check("pages of other origins may ask", a.status == 204
              and a.headers["access-control-allow-origin"] == "*"
              and "Authorization" in a.headers["access-control-allow-headers"], a.headers)


def described(url):
    with urllib.request.urlopen(f"{url}/openapi.json", timeout=60) as a:
        said = json.load(a)
    chat_fields = said["components"]["schemas"]["ChatRequest"]["properties"]
    check("openapi.json says what may be asked", said["openapi"].startswith("3.1")
          and {"/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/models"} <= set(said["paths"])
          and chat_fields["model"]["enum"] == [MODEL, None] and "frobnicate" not in chat_fields, said["paths"].keys())


def ends(url):
    c = client_for(url)
    text = chat(c, max_tokens=24).choices[0].message.content
    print("answer:", text.replace("\n", " "))
    check("a chat is answered", text.strip())
    short = {"messages": HELLO, "max_tokens": 40}
    ended = chat(c, **short)
    check("a short answer ends by itself", ended.choices[0].finish_reason == "stop"
          and ended.usage.completion_tokens < 40, ended)
    long = chat(c, **short, extra_body={"min_tokens": 40})
    check("min_tokens has an answer go on", long.usage.completion_tokens == 40, long.usage)
    long = chat(c, **short, extra_body={"ignore_eos": True})
    check("so has ignore_eos", long.usage.completion_tokens == 40
          and "<|im" not in long.choices[0].message.content, long)
    shown = chat(c, **short, extra_body={"ignore_eos": True, "skip_special_tokens": False})
    check("special tokens are shown when asked for", "<|im_end|>"
          in shown.choices[0].message.content, shown)
    streams_say(client_for(url, strict=True), HELLO, 40, "completed")


def api(url):
    c = client_for(url)
    described(url)
    check("the models are listed", [m.id for m in c.models.list()] == [MODEL])
    check("one is looked up", c.models.retrieve(MODEL).id == MODEL)
    e = refused("another one", openai.NotFoundError, 404, lambda: c.models.retrieve("gpt-4"))
    check("is named", "gpt-4" in e.message, e and e.body)
    origin(url)
    answers(c)
    bounds(c)
    shapes(c)
    logprobs(c)
    scores(c)
    several(c)
    rendered(c)
    completions(c)
    formats(c)
    responses(client_for(url, strict=True))
    errors(c)


# ---- load and signals ----------------------------------------------------------------------------


def queue(url, metrics, bound):
    c = client_for(url)
    bound = int(bound)
    stream = words(c, 800)
    with concurrent.futures.ThreadPoolExecutor(bound) as waiting:
        others = [waiting.submit(chat, c, max_tokens=1) for _ in range(bound - 1)]
        check("so many are taken", until(60, lambda: in_flight(metrics) == bound))
        e = refused("the next one", openai.RateLimitError, 429, lambda: chat(c))
        check("is told when to come again", e and e.response.headers.get("retry-after"))
        stream.close()
        check("those that wait have their turn",
              all(f.result().usage.completion_tokens == 1 for f in others))
    check("and then there is room", chat(c, max_tokens=1))


def status_of(call):
    try:
        call()
        return 200
    except openai.APIStatusError as e:
        return e.status_code


def large(url, rank):
    """What finds no room is told so by the agent, whatever the rank does; and a rank that has
    stood still is not ended for that."""
    c = client_for(url, timeout=200)
    stream = words(c, 800)
    pieces = iter(stream)
    next(pieces)
    prompt = "word " * 199_000
    with concurrent.futures.ThreadPoolExecutor(5) as many:
        os.kill(int(rank), signal.SIGSTOP)  # or it refuses them one by one as they come
        try:
            asked = [many.submit(status_of,
                                 lambda: c.completions.create(model=MODEL, prompt=prompt))
                     for _ in range(5)]
            until(8, lambda: sum(f.done() for f in asked) == 3)
        finally:
            os.kill(int(rank), signal.SIGCONT)
        further = [next(pieces).choices[0].text for _ in range(10)]
        stream.close()
        got = sorted(f.result() for f in asked)
    check("the long answer goes on", all(further), further)
    check("two had their turn, for three there was no room", got == [400, 400, 429, 429, 429], got)
    check("the server goes on", chat(c, max_tokens=1).usage.completion_tokens == 1)


def in_flight(metrics):
    return metric(metrics, "llmjob_requests_in_flight")


def overrun(c, metrics):
    """Tokens generated after the client's end of the connection was closed."""
    stream = words(c, 800)
    pieces = iter(stream)
    for _ in range(5):
        next(pieces)
    before = metric(metrics, "llmjob_generated_tokens_total")
    stream.close()
    until(60, lambda: in_flight(metrics) == 0)
    chat(c, max_tokens=1)  # told after the cancel: when this one is answered, that one has ended
    return metric(metrics, "llmjob_generated_tokens_total") - before - 1


def cancel(url, metrics):
    c = client_for(url)
    # A busy machine may stand still between the look at the metric and the close: only ever more.
    after = []
    while len(after) < 8 and (not after or min(after) > 2):
        after.append(overrun(c, metrics))
    print("tokens after the disconnect:", after)
    check("at most two more tokens are generated", min(after) <= 2, after)
    check("never many", max(after) < 100, after)


def drain(url, metrics, pid):
    c = client_for(url)
    stream = words(c, DRAINED, stream_options={"include_usage": True})
    pieces = iter(stream)
    got = [next(pieces) for _ in range(3)]
    os.kill(int(pid), signal.SIGTERM)
    turned_away = until(60, lambda: unavailable(c))
    check("new requests are turned away", turned_away and turned_away.status_code == 503,
          turned_away)
    check("while the accepted one goes on", in_flight(metrics) == 1)
    got += pieces
    why = [x.choices[0].finish_reason for x in got if x.choices and x.choices[0].finish_reason]
    check("it finishes", why == ["length"] and got[-1].usage.completion_tokens == DRAINED,
          (why, got[-1]))


def tool(name, **properties):
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": f"{name} of a city", "parameters": schema}}


CITY = {"enum": ["Paris", "Oslo"]}
TOOLS = [tool("weather", city=CITY, days={"type": "integer", "minimum": 1, "maximum": 7}), tool("time", city=CITY)]


def streamed(chunks):
    """What a client puts together of a stream: the text, the calls, why it ended."""
    text, calls, reason = "", {}, None
    for said in (x.choices[0] for x in chunks if x.choices):
        text += said.delta.content or ""
        reason = said.finish_reason or reason
        for piece in said.delta.tool_calls or []:
            call = calls.setdefault(piece.index, {"id": piece.id, "name": piece.function.name, "arguments": ""})
            call["arguments"] += piece.function.arguments or ""
    return text, list(calls.values()), reason


def called(choice):
    return [(t.type, t.function.name, json.loads(t.function.arguments)) for t in choice.message.tool_calls or []]


def response_tools(c, ask, call, after):
    """The same call, and what is said of the same result of it."""
    flat = [{"type": "function", **t["function"]} for t in TOOLS]
    asked = {"input": ask, "tools": flat, "tool_choice": "required", "max_output_tokens": 200, "parallel_tool_calls": False}
    whole = respond(c, **asked)
    made = whole.output[-1]
    check("a response has the same call", [x.type for x in whole.output] == ["function_call"]
          and (made.name, json.loads(made.arguments)) == call[1:] and whole.status == "completed", whole)
    last = list(respond(c, stream=True, **asked))[-1].response
    check("so has a stream of one", [(x.name, x.arguments) for x in last.output] == [(made.name, made.arguments)], last)
    result = {"type": "function_call_output", "call_id": made.call_id, "output": "Snow, -3 degrees."}
    told = respond(c, input=ask + [made, result], tools=flat)
    check("its result is the chat's", told.usage.input_tokens == after.usage.prompt_tokens
          and told.output_text == (after.choices[0].message.content or ""), (told, after))


def tools(url, model=MODEL):
    global MODEL
    drawn = [0, 2] if model == MODEL else [0]
    MODEL = model
    c = client_for(url)
    shown = post(c, "/apply-template", messages=QUESTION, tools=TOOLS)["prompt"]
    check("the template shows the tools", "weather of a city" in shown and '"days"' in shown, shown)
    ask = [{"role": "user", "content": "How is the weather in Oslo?"}]
    whole = chat(c, messages=ask, tools=TOOLS, tool_choice="required", max_tokens=200, parallel_tool_calls=False)
    calls = called(whole.choices[0])
    check("a required call is made", len(calls) == 1 and calls[0][1] in ("weather", "time")
          and calls[0][2]["city"] in CITY["enum"], whole)
    check("it is why the answer ended", whole.choices[0].finish_reason == "tool_calls"
          and whole.choices[0].message.content is None, whole)
    named = {"type": "function", "function": {"name": "time"}}
    for temperature in drawn:
        asked = {"messages": ask, "tools": TOOLS, "tool_choice": named, "max_tokens": 400, "seed": 5,
                 "temperature": temperature, "parallel_tool_calls": False}
        one = chat(c, **asked)
        check(f"so is the one that is named, temperature {temperature}", [x[1] for x in called(one.choices[0])]
              == ["time"], one)
        text, pieces, reason = streamed(chat(c, stream=True, **asked))
        check("a stream has the same call", not text and reason == "tool_calls" and len(pieces) == 1
              and pieces[0]["id"] and json.loads(pieces[0]["arguments"]) == called(one.choices[0])[0][2], pieces)
    call = whole.choices[0].message
    history = ask + [call, {"role": "tool", "tool_call_id": call.tool_calls[0].id, "content": "Snow, -3 degrees."}]
    shown = post(c, "/apply-template", messages=[m if isinstance(m, dict) else m.model_dump() for m in history],
                 tools=TOOLS)["prompt"]
    check("the template shows the call and its result", shown.count("<tool_call>") == 2
          and calls[0][1] in shown.split("How is")[1] and "Snow, -3" in shown, shown)
    after = chat(c, messages=history, tools=TOOLS)
    check("the dialogue goes on from its result", after.choices[0].message.content
          or after.choices[0].message.tool_calls, after)
    response_tools(client_for(url, strict=True), ask, calls[0], after)
    free = chat(c, messages=ask, tools=TOOLS, tool_choice="none")
    check("with none nothing is called", not free.choices[0].message.tool_calls
          and free.usage.prompt_tokens < after.usage.prompt_tokens, free)
    no = refused("a schema that is not supported", openai.BadRequestError, 400,
                 lambda: chat(c, tools=[tool("f", x={"not": {}})], tool_choice="required"))
    check("is named", no.param == "tools[0].function.parameters.properties.x.not", no.body)


# ---- adapters ------------------------------------------------------------------------------------


LOUD, QUIET = "org/loud", "quiet"


def several_at_once(c, names, **more):
    """What each name answers to the same question, all asked at once."""
    with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        return list(pool.map(lambda name: chat(c, model=name, **more), names))


def adapters(url):
    c = client_for(url)
    listed = {m.id: getattr(m, "parent", None) for m in c.models.list()}
    check("the model and its adapters are listed", listed
          == {MODEL: None, LOUD: MODEL, QUIET: MODEL}, listed)
    check("one is found by its name", c.models.retrieve(LOUD).parent == MODEL)
    refused("another is not", openai.NotFoundError, 404, lambda: c.models.retrieve("loud"))
    refused("nor does it answer", openai.NotFoundError, 404, lambda: chat(c, model="loud"))
    e = refused("nor as an adapter", openai.NotFoundError, 404,
                lambda: chat(c, extra_body={"adapter": "loud"}))
    check("which is what the error names", e and e.param == "adapter"
          and e.code == "model_not_found", e and e.body)
    refused("two adapters are not one", openai.BadRequestError, 400,
            lambda: chat(c, model=QUIET, extra_body={"adapter": LOUD}))

    names = [MODEL, LOUD, QUIET]
    asked = {"logprobs": True, "top_logprobs": 2}
    alone = {name: chat(c, model=name, **asked) for name in names}
    text = {name: alone[name].choices[0].message.content for name in names}
    for name in names:
        print(f"{name}: {text[name]!r}")
    check("each answers in its own way", len(set(text.values())) == 3, text)
    models = [alone[name].model for name in names]
    check("under its own name", models == names, models)
    check("by adapter as by model", chat(c, extra_body={"adapter": LOUD}).choices[0].message.content
          == text[LOUD])
    found = [alone[name].usage.prompt_tokens_details.cached_tokens for name in names]
    check("of the same prompt nothing is found that another one computed", found == [0, 0, 0], found)
    many = several_at_once(c, names * 3, **asked)
    check("all at once they say what each says alone, to the last logprob",
          [x.choices[0].to_dict() for x in many] == [alone[n].choices[0].to_dict() for n in names * 3],
          [x.choices[0].message.content for x in many])
    check("each finds what it computed itself",
          all(x.usage.prompt_tokens_details.cached_tokens > 0 for x in many))
    streamed_text = "".join(x.choices[0].delta.content or ""
                            for x in chat(c, model=QUIET, stream=True))
    check("streamed, too", streamed_text == text[QUIET], streamed_text)
    schema = {"type": "object", "properties": {"animal": {"type": "string", "maxLength": 8},
              "legs": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["animal", "legs"]}
    formed = several_at_once(c, names, max_tokens=60, response_format=by_schema(schema))
    values = [json.loads(x.choices[0].message.content) for x in formed]
    check("each keeps to a schema", all(set(v) == {"animal", "legs"} for v in values), values)


def write_list(path, listed):
    """The job file says so from here on, all at once; adapters are its last lines."""
    text = open(path).read()
    head = text[:text.index("    adapters:\n")]
    lines = [f"    - {{name: {name}, path: {folder}}}\n" for name, folder in listed.items()]
    with open(path + ".next", "w") as f:
        f.write(head + "    adapters:\n" + "".join(lines))
    os.replace(path + ".next", path)


def listed_in(c, names):
    """How long it takes until these are what there is, beside the model."""
    begun = time.monotonic()
    while {m.id for m in c.models.list()} != {MODEL, *names}:
        if time.monotonic() - begun > 15:
            return None
        time.sleep(0.05)
    return time.monotonic() - begun


def listing(url, path, loud, quiet, absent):
    """An edit of the list while requests are answered: path is the job file."""
    c = client_for(url)
    text = {n: chat(c, model=n).choices[0].message.content for n in (MODEL, LOUD, QUIET)}
    check("each answers in its own way", len(set(text.values())) == 3, text)
    long = {"model": LOUD, "max_tokens": 300, "ignore_eos": True}
    extra = {"extra_body": {"ignore_eos": True}}
    del long["ignore_eos"]
    whole = chat(c, **long, **extra).choices[0].message.content
    stream = chat(c, stream=True, **long, **extra)
    pieces = [next(stream).choices[0].delta.content or "" for _ in range(3)]
    write_list(path, {QUIET: quiet, "other": loud, "absent": absent})
    took = listed_in(c, [QUIET, "other", "absent"])
    check("an edit is what there is within 3 s", took is not None and took < 3, took)
    print(f"the list was there after {took:.2f} s" if took is not None else "never")
    refused("what is listed no more is not", openai.NotFoundError, 404, lambda: chat(c, model=LOUD))
    check("what is new answers", chat(c, model="other").choices[0].message.content == text[LOUD])
    e = refused("what cannot be loaded says why", openai.InternalServerError, 503,
                lambda: chat(c, model="absent"))
    check("in a sentence with its name and folder",
          e and "absent: " in str(e) and absent in str(e), e)
    check("others go on", chat(c, model=QUIET).choices[0].message.content == text[QUIET])
    pieces += [x.choices[0].delta.content or "" for x in stream if x.choices]
    check("a request ends as it began, with what is listed no more", "".join(pieces) == whole,
          ["".join(pieces), whole])
    write_list(path, {QUIET: loud, LOUD: quiet})
    check("two change places", listed_in(c, [QUIET, LOUD]) is not None)
    names = {QUIET: LOUD, LOUD: QUIET}
    until = time.monotonic() + 15
    while (now := {n: chat(c, model=n).choices[0].message.content for n in names}) != \
            {n: text[was] for n, was in names.items()} and time.monotonic() < until:
        time.sleep(0.2)
    check("and each answers as the other did", now == {n: text[m] for n, m in names.items()}, now)


def unavailable(c):
    """What a server that is going says. One that hasn't heard of it yet lets the request wait."""
    try:
        chat(c, max_tokens=1, timeout=1)
    except openai.InternalServerError as e:
        return e
    except (openai.APITimeoutError, openai.RateLimitError):
        pass
    return None


def key(url, right):
    refused("a wrong key", openai.AuthenticationError, 401,
            lambda: chat(client_for(url, "sk-wrong")))
    refused("a key that only begins right", openai.AuthenticationError, 401,
            lambda: client_for(url, right + "x").models.list())
    check("the right key", chat(client_for(url, right), max_tokens=1).usage.completion_tokens == 1)
    try:
        urllib.request.urlopen(f"{url}/v1/models", timeout=60)
        check("no key", False)
    except urllib.error.HTTPError as e:
        check("no key", e.code == 401, e.code)


def run(parts):
    """The part that the command line names; never returns."""
    try:
        parts[sys.argv[1]](*sys.argv[2:])
    except Exception:
        counts[False] += 1
        print("FAILED:", traceback.format_exc(), flush=True)
    print(f"{counts[True]} passed, {counts[False]} failed, 0 skipped")
    sys.exit(counts[False] > 0)


if __name__ == "__main__":
    run(globals())
