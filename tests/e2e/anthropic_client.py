"""What test_openai.sh asks of a server through the real `anthropic` client.

    anthropic_client.py api URL METRICS    answers, streams, usage, errors
    anthropic_client.py key URL KEY        who may ask
    anthropic_client.py tools URL          uses of tools, of a model whose template takes them

Counts and prints as openai_client.py does. Answers are compared with those that the chat completion of the same meaning gets.
"""

import anthropic

import openai_client as other
from openai_client import MODEL, TOKENS, check

QUESTION = other.QUESTION


def client_for(url, key="none"):
    return anthropic.Anthropic(base_url=url, api_key=key, max_retries=0, timeout=60)


def refused(what, kind, status, call):
    try:
        answer = call()
    except anthropic.APIStatusError as e:
        body = e.body or {}
        check(what, type(e) is kind and e.status_code == status and body.get("type") == "error"
              and body["error"]["message"], (type(e), e.status_code, e.body))
        return e.body["error"]
    check(what, False, answer)


def ask(c, **more):
    body = {"temperature": 0} | more.pop("body", {})
    return c.messages.create(**({"model": MODEL, "max_tokens": TOKENS, "messages": QUESTION, "extra_body": body} | more))


def api(url, metrics):
    c, chats = client_for(url), other.client_for(url)
    whole, chat = ask(c), other.chat(chats)
    text = chat.choices[0].message.content
    check("a message is answered as the chat is", [b.text for b in whole.content] == [text], whole)
    check("by the assistant, of the model", (whole.role, whole.type, whole.model) == ("assistant", "message", MODEL), whole)
    reasons = {"stop": "end_turn", "length": "max_tokens"}
    check("it ended for the same reason", whole.stop_reason == reasons[chat.choices[0].finish_reason], whole)
    u = whole.usage
    check("usage is the same", (u.input_tokens + u.cache_read_input_tokens, u.output_tokens)
          == (chat.usage.prompt_tokens, chat.usage.completion_tokens), u)
    check("so many tokens are counted", c.messages.count_tokens(model=MODEL, messages=QUESTION).input_tokens
          == chat.usage.prompt_tokens)

    with c.messages.stream(model=MODEL, max_tokens=TOKENS, messages=QUESTION, extra_body={"temperature": 0}) as stream:
        events = list(stream)
        last = stream.get_final_message()
    check("a stream says the same", last.content[0].text == text and last.stop_reason == whole.stop_reason
          and last.usage.output_tokens == u.output_tokens, last)
    kinds, began = [e.type for e in events], events[0].message.usage
    check("it begins with what the prompt took", (began.input_tokens + began.cache_read_input_tokens, began.output_tokens)
          == (chat.usage.prompt_tokens, 0) and began.cache_read_input_tokens, began)
    check("in Anthropic's events", kinds[0] == "message_start" and kinds[-1] == "message_stop"
          and kinds.count("content_block_start") == kinds.count("content_block_stop") == 1
          and kinds.count("content_block_delta") > 3, kinds)

    word = text.split()[3]
    cut = ask(c, stop_sequences=["never said", word])
    check("a stop sequence ends it and is told", (cut.stop_reason, cut.stop_sequence, cut.content[0].text)
          == ("stop_sequence", word, text[:text.index(word)]), cut)
    turns = QUESTION + [{"role": "assistant", "content": whole.content}, {"role": "user", "content": [
        {"type": "text", "text": "And two "}, {"type": "text", "text": "more?", "cache_control": {"type": "ephemeral"}}]}]
    theirs = ask(c, messages=turns, system="Be brief.")
    ours = other.chat(chats, messages=[{"role": "system", "content": "Be brief."}, *QUESTION,
                                       {"role": "assistant", "content": text}, {"role": "user", "content": "And two more?"}])
    check("a dialogue with a system prompt, too", theirs.content[0].text == ours.choices[0].message.content, (theirs, ours))

    e = refused("a model that is not there", anthropic.NotFoundError, 404, lambda: ask(c, model="claude"))
    check("is a not_found_error", e["type"] == "not_found_error" and "claude" in e["message"], e)
    e = refused("an image", anthropic.BadRequestError, 400, lambda: ask(c, messages=[{"role": "user", "content": [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}]}]))
    check("is named", e["type"] == "invalid_request_error" and "messages[0].content[0].type" in e["message"], e)
    e = refused("tools of a template that takes none", anthropic.BadRequestError, 400, lambda: ask(c, tools=[usable("f")]))
    check("says so", "the model's chat template takes no tools" in e["message"], e)
    refused("what nobody knows", anthropic.BadRequestError, 400, lambda: ask(c, body={"frobnicate": 1}))
    check("vLLM's metrics show it", other.metric(metrics, f'vllm:generation_tokens_total{{model_name="{MODEL}",engine="0"}}')
          == other.metric(metrics, "llmjob_generated_tokens_total") > TOKENS)


def usable(name, **properties):
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"name": name, "description": f"{name} of a city", "input_schema": schema}


def tools(url):
    c = client_for(url)
    asked = {"messages": [{"role": "user", "content": "How is the weather in Oslo?"}], "max_tokens": 200,
             "tools": [usable("weather", city=other.CITY), usable("time", city=other.CITY)]}
    whole = ask(c, **asked, tool_choice={"type": "tool", "name": "weather", "disable_parallel_tool_use": True})
    use = whole.content[-1]
    check("a tool that must be used is", [b.type for b in whole.content] == ["tool_use"] and use.name == "weather"
          and use.input["city"] in other.CITY["enum"] and whole.stop_reason == "tool_use", whole)
    with c.messages.stream(model=MODEL, **asked, tool_choice={"type": "any", "disable_parallel_tool_use": True},
                           extra_body={"temperature": 0}) as stream:
        last = stream.get_final_message()
    check("a stream has a whole use", last.content[-1].type == "tool_use" and last.content[-1].input["city"]
          in other.CITY["enum"], last)
    history = asked["messages"] + [{"role": "assistant", "content": whole.content}, {"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "Snow, -3 degrees."}]}]}]
    after = ask(c, **(asked | {"messages": history}))
    check("the dialogue goes on from its result", after.content, after)
    check("which the model was shown", after.usage.input_tokens + after.usage.cache_read_input_tokens
          > whole.usage.input_tokens + whole.usage.cache_read_input_tokens, (after.usage, whole.usage))


def key(url, right):
    refused("a wrong key", anthropic.AuthenticationError, 401, lambda: ask(client_for(url, "sk-wrong")))
    check("the right key, as x-api-key", ask(client_for(url, right), max_tokens=1).usage.output_tokens == 1)


if __name__ == "__main__":
    other.run(globals())
