/*
 * openai_table: what may stand in each object of a request, and the paths that are asked. openai.h
 * says how a row is read; docs/openai.md shows every one, /openapi.json is made of them.
 */
#include "agent/openai_internal.h"

#include "api/limits.h"

#include <string.h>

#define BOTH     (OPENAI_CHAT | OPENAI_TEXT)
#define MESSAGES (OPENAI_MESSAGES | OPENAI_COUNT)
#define SHOWN    (OPENAI_TOKENIZE | OPENAI_DETOKENIZE | OPENAI_TEMPLATE)

#define ROW(name, places, kind, min, max, values, note, shape, needed) \
    { \
        name, places, kind, min, max, values, note, shape, needed \
    }
#define USED(name, places, kind, note)   ROW(name, places, kind, 0, 0, NULL, note, NULL, false)
#define NEEDED(name, places, kind, note) ROW(name, places, kind, 0, 0, NULL, note, NULL, true)
#define OWN(name, places, needed, note, shape) \
    ROW(name, places, OPENAI_OWN, 0, 0, NULL, note, shape, needed)
#define WORD(name, places, note, shape) \
    ROW(name, places, OPENAI_STRING, 0, 0, NULL, note, shape, true)
#define RANGE(name, places, kind, min, max, note) \
    ROW(name, places, kind, min, max, NULL, note, NULL, false)
#define FIXED(name, places, values, note) \
    ROW(name, places, OPENAI_FIXED, 0, 0, values, note, NULL, false)
#define NEEDED_AS(name, places, values, note) \
    ROW(name, places, OPENAI_FIXED, 0, 0, values, note, NULL, true)
#define IGNORED(name, places, note) ROW(name, places, OPENAI_IGNORED, 0, 0, NULL, note, NULL, false)

/* Shapes: ' stands for ", and @Name for the object of that name. */
#define TURNS "{'type':'array','minItems':1,'items':@Message}"
#define IDS \
    "{'type':'array','minItems':1,'items':{'type':'integer','minimum':0,'maximum':2147483647}}"
#define LIST          "{'type':'array','minItems':1,'maxItems':2048,'items':{'type':'string'}}"
#define TEXT_OR_TEXTS "{'anyOf':[{'type':'string'}," LIST "]}"
#define STOP          "{'type':'string','minLength':1,'maxLength':256}"
#define PARAMETERS \
    "{'anyOf':[{'type':'object','maxProperties':0},{'type':'object','required':['type']," \
    "'properties':{'type':{'const':'object'}}}]}"
#define NAME  "{'type':'string','pattern':'^[a-zA-Z0-9_-]{1,64}$'}"
#define TEXTS "{'anyOf':[{'type':'string'},{'type':'array','items':@TextBlock}]}"

static const struct openai_field fields[] = {
    OWN("messages", OPENAI_CHAT | OPENAI_TEMPLATE, true, "at least one message", TURNS),
    OWN("messages", OPENAI_TOKENIZE, false, "likewise, instead of a prompt", TURNS),
    USED("prompt", OPENAI_TOKENIZE, OPENAI_STRING, ""),
    OWN("tokens", OPENAI_DETOKENIZE, true, "a list of token ids", IDS),
    OWN("prompt", OPENAI_TEXT, true,
        "a string or a list of token ids, or a list of up to 128 strings or 128 such lists",
        "{'anyOf':[{'type':'string'}," IDS ",{'type':'array','minItems':1,'maxItems':128,'items':"
        "{'type':'string'}},{'type':'array','minItems':1,'maxItems':128,'items':" IDS "}]}"),
    USED("model", BOTH | SHOWN | OPENAI_RESPONSES, OPENAI_STRING,
        "`spec.serve.modelName`, as when absent, or the name of one of `spec.serve.adapters`"),
    USED("adapter", BOTH | SHOWN, OPENAI_STRING,
        "the name of one of `spec.serve.adapters`, beside the model's own as `model`"),
    USED("add_special_tokens", OPENAI_TOKENIZE, OPENAI_BOOL,
        "of a prompt, true when absent: what the tokenizer puts around a text"),
    USED("add_generation_prompt", OPENAI_TOKENIZE | OPENAI_TEMPLATE, OPENAI_BOOL,
        "of messages, true when absent: the beginning of the answer"),
    FIXED("continue_final_message", OPENAI_TOKENIZE | OPENAI_TEMPLATE, "false", ""),
    FIXED("return_token_strs", OPENAI_TOKENIZE, "false", ""),
    FIXED("chat_template", OPENAI_TOKENIZE | OPENAI_TEMPLATE, "", "the model's own is used"),
    RANGE("max_completion_tokens", OPENAI_CHAT, OPENAI_WHOLE, 1, 1 << 24,
        "512 when absent; the context ends an answer earlier"),
    RANGE("max_tokens", OPENAI_CHAT, OPENAI_WHOLE, 1, 1 << 24, "the older name"),
    RANGE(
        "max_tokens", OPENAI_TEXT, OPENAI_WHOLE, 0, 1 << 24, "16 when absent; 0 with `echo` alone"),
    RANGE("temperature", BOTH, OPENAI_NUMBER, 0, 2, "1 when absent; 0: the likeliest token"),
    RANGE("top_p", BOTH, OPENAI_NUMBER, 0, 1, "1 when absent; 0: the likeliest token"),
    RANGE("seed", BOTH, OPENAI_WHOLE, -EXACT, EXACT, "the same seed draws the same answer"),
    OWN("stop", BOTH, false, "a string or a list of up to 4, each of 1 to 256 bytes",
        "{'anyOf':[" STOP ",{'type':'array','maxItems':4,'items':" STOP "}]}"),
    USED("stream", BOTH, OPENAI_BOOL, "server-sent events"),
    OWN("stream_options", BOTH, false, "only with `stream`", "@StreamOptions"),
    RANGE("n", BOTH, OPENAI_WHOLE, 1, LIMIT_ANSWERS,
        "answers to each prompt, 1 to 8; each takes a place of the queue"),
    FIXED("best_of", OPENAI_TEXT, "1", ""),
    USED("echo", OPENAI_TEXT, OPENAI_BOOL, "the prompt stands before its answer"),
    FIXED("suffix", OPENAI_TEXT, "\"\"", ""),
    USED("logprobs", OPENAI_CHAT, OPENAI_BOOL,
        "of each token, as the model has it: before temperature, penalties and biases"),
    RANGE("logprobs", OPENAI_TEXT, OPENAI_WHOLE, 0, 5,
        "likewise, and of 0 to 5 likeliest ones; with `echo` of the prompt's tokens too"),
    RANGE("top_logprobs", OPENAI_CHAT, OPENAI_WHOLE, 0, LIMIT_LOGPROBS,
        "of 0 to 20 likeliest ones; only with `logprobs`"),
    OWN("logit_bias", BOTH, false,
        "up to 1,024 token ids, as strings, each with a number from -100 to 100 for its logit",
        "{'type':'object','maxProperties':1024,'propertyNames':{'pattern':'^[0-9]{1,10}$'},"
        "'additionalProperties':{'type':'number','minimum':-100,'maximum':100}}"),
    RANGE("frequency_penalty", BOTH, OPENAI_NUMBER, -2, 2,
        "off a generated token's logit each time it was generated"),
    RANGE("presence_penalty", BOTH, OPENAI_NUMBER, -2, 2, "once, however often"),
    OWN("response_format", BOTH, false, "what an answer may be: a JSON object, or by a schema",
        "@ResponseFormat"),
    FIXED("modalities", OPENAI_CHAT, "[\"text\"]", "text only"),
    FIXED("audio", OPENAI_CHAT, "", "text only"),
    OWN("tools", OPENAI_CHAT | OPENAI_TOKENIZE | OPENAI_TEMPLATE, false,
        "a list of up to 128 functions that the model may call, if its chat template takes tools",
        "{'type':'array','maxItems':128,'items':@Tool}"),
    OWN("tool_choice", OPENAI_CHAT, false,
        "`auto` when absent; `none`: the model is not shown the tools; `required`, or one tool: it "
        "must call",
        "{'anyOf':[{'enum':['none','auto','required']},@ToolChoice]}"),
    USED("parallel_tool_calls", OPENAI_CHAT, OPENAI_BOOL, "false: one call at most"),
    FIXED("functions", OPENAI_CHAT, "[]", "the older name of `tools`"),
    FIXED("function_call", OPENAI_CHAT, "\"none\" \"auto\"", "likewise, of `tool_choice`"),
    FIXED("reasoning_effort", OPENAI_CHAT, "\"none\"", ""),
    FIXED("verbosity", OPENAI_CHAT, "\"medium\"", ""),
    FIXED("web_search_options", OPENAI_CHAT, "", ""),
    FIXED("store", BOTH, "false", "nothing is kept"),
    /* of vLLM and llama.cpp */
    RANGE("top_k", BOTH, OPENAI_WHOLE, -1, INT32_MAX,
        "the likeliest so many are drawn from; 0 or -1: all"),
    RANGE("min_p", BOTH, OPENAI_NUMBER, 0, 1,
        "those of at least this part of the likeliest one's probability"),
    RANGE("repetition_penalty", BOTH, OPENAI_NUMBER, 0.01, 100,
        "as transformers has it, of tokens of the prompt and generated ones; 1: none"),
    USED("ignore_eos", BOTH, OPENAI_BOOL, "tokens that end a turn do not"),
    RANGE("min_tokens", BOTH, OPENAI_WHOLE, 0, 1 << 24,
        "before so many no end of a turn is drawn, and no stop text looked for"),
    USED("skip_special_tokens", BOTH, OPENAI_BOOL, "false: special tokens are text of the answer"),
    RANGE("priority", BOTH, OPENAI_WHOLE, -LIMIT_PRIORITY, LIMIT_PRIORITY,
        "0 when absent; of the requests whose API key has a turn the lower goes first"),
    OWN("cache_salt", BOTH, false,
        "a text of 1 to 256 bytes: what is computed is found again by who gives the same, of any "
        "API key; when absent, by the same key",
        "{'type':'string','minLength':1,'maxLength':256}"),
    IGNORED("cache_prompt", BOTH, "the cache changes no answer"),
    IGNORED("user", BOTH, "names the client's own user"),
    IGNORED("safety_identifier", BOTH, "likewise"),
    IGNORED("prompt_cache_key", BOTH, "likewise, for a cache"),
    IGNORED("prompt_cache_retention", BOTH, "there is no such cache"),
    IGNORED("metadata", BOTH, "goes with a stored answer"),
    IGNORED("service_tier", BOTH, "there is one tier"),
    IGNORED("prediction", OPENAI_CHAT, "would only make it faster"),

    NEEDED("role", OPENAI_MESSAGE, OPENAI_STRING,
        "`developer` is `system`; `function` is refused; the template knows the others"),
    OWN("content", OPENAI_MESSAGE, false,
        "a string or a list of text parts; an assistant's may be absent, which is empty",
        "{'anyOf':[{'type':'string'},{'type':'array','items':@Part}]}"),
    USED("name", OPENAI_MESSAGE, OPENAI_STRING, "for templates that show it"),
    OWN("tool_calls", OPENAI_MESSAGE, false, "of an assistant: the calls that it made",
        "{'type':'array','maxItems':128,'items':@ToolCall}"),
    USED("tool_call_id", OPENAI_MESSAGE, OPENAI_STRING,
        "of the role `tool`, and needed there: the call that this answers"),
    FIXED("function_call", OPENAI_MESSAGE, "", ""),
    FIXED("refusal", OPENAI_MESSAGE, "\"\"", ""),
    IGNORED("annotations", OPENAI_MESSAGE, "what an earlier answer cited"),
    IGNORED("parsed", OPENAI_MESSAGE, "what a client's package made of an answer"),
    FIXED("audio", OPENAI_MESSAGE, "", ""),
    FIXED("reasoning_content", OPENAI_MESSAGE, "\"\"", ""),

    NEEDED_AS("type", OPENAI_PART, "\"text\"", "text only"),
    NEEDED("text", OPENAI_PART, OPENAI_STRING, "needed; parts are put together as they are"),

    WORD("type", OPENAI_FORMAT, "needed: `text`, `json_object` or `json_schema`",
        "{'enum':['text','json_object','json_schema']}"),
    OWN("json_schema", OPENAI_FORMAT, false, "only with `json_schema`, and needed there",
        "@ResponseSchema"),
    WORD("name", OPENAI_SCHEMA, "needed: up to 64 letters, digits, `_` and `-`", NAME),
    IGNORED("description", OPENAI_SCHEMA, "the model is not shown it"),
    OWN("schema", OPENAI_SCHEMA, true, "needed: a JSON schema, of what is said below",
        "{'type':['object','boolean']}"),
    USED("strict", OPENAI_SCHEMA, OPENAI_BOOL, "true or false: the schema is kept to either way"),

    NEEDED_AS("type", OPENAI_TOOL | OPENAI_CHOICE | OPENAI_CALL, "\"function\"", "needed"),
    OWN("function", OPENAI_TOOL, true, "needed", "@Function"),
    OWN("function", OPENAI_CHOICE, true, "needed", "@ChosenFunction"),
    OWN("function", OPENAI_CALL, true, "needed", "@CalledFunction"),
    WORD("name", OPENAI_FUNCTION, "needed: up to 64 letters, digits, `_` and `-`", NAME),
    USED("description", OPENAI_FUNCTION, OPENAI_STRING, "the model is shown it"),
    OWN("parameters", OPENAI_FUNCTION, false,
        "a JSON schema of the type `object`, which the model is shown; where it must call, of what "
        "is said above",
        PARAMETERS),
    USED("strict", OPENAI_FUNCTION, OPENAI_BOOL,
        "true or false: the schema is kept to where the model must call"),
    NEEDED("name", OPENAI_CHOSEN, OPENAI_STRING, "needed: of one of the tools"),
    NEEDED("id", OPENAI_CALL, OPENAI_STRING, "needed"),
    IGNORED("index", OPENAI_CALL, "of a stream's"),
    NEEDED("name", OPENAI_CALLED, OPENAI_STRING, "needed"),
    NEEDED("arguments", OPENAI_CALLED, OPENAI_STRING, "needed: an object, as JSON; empty is `{}`"),
    IGNORED("parsed_arguments", OPENAI_CALLED, "what a client's package made of them"),

    /* of Anthropic's API */
    USED("model", MESSAGES, OPENAI_STRING, "`spec.serve.modelName`, as when absent"),
    OWN("messages", MESSAGES, true, "at least one; the last is of the user",
        "{'type':'array','minItems':1,'items':@Turn}"),
    OWN("system", MESSAGES, false, "a string or a list of blocks of text", TEXTS),
    ROW("max_tokens", OPENAI_MESSAGES, OPENAI_WHOLE, 1, 1 << 24, NULL,
        "needed; the context ends an answer earlier", NULL, true),
    OWN("stop_sequences", OPENAI_MESSAGES, false, "a list of up to 4, each of 1 to 256 bytes",
        "{'type':'array','maxItems':4,'items':" STOP "}"),
    USED("stream", OPENAI_MESSAGES, OPENAI_BOOL, "server-sent events, of Anthropic's kinds"),
    RANGE("temperature", OPENAI_MESSAGES, OPENAI_NUMBER, 0, 1, "1 when absent"),
    RANGE("top_p", OPENAI_MESSAGES, OPENAI_NUMBER, 0, 1, "1 when absent"),
    RANGE("top_k", OPENAI_MESSAGES, OPENAI_WHOLE, 0, INT32_MAX,
        "the likeliest so many are drawn from; 0: all"),
    OWN("tools", MESSAGES, false,
        "a list of up to 128 tools that the model may use, if its chat template takes tools",
        "{'type':'array','maxItems':128,'items':@UsableTool}"),
    OWN("tool_choice", MESSAGES, false, "whether the model may, or must, use them", "@ToolUse"),
    FIXED("thinking", MESSAGES, "{\"type\":\"disabled\"}", ""),
    IGNORED("metadata", OPENAI_MESSAGES, "names the client's own user"),
    IGNORED("service_tier", OPENAI_MESSAGES, "there is one tier"),
    IGNORED("cache_control",
        MESSAGES | OPENAI_TEXT_BLOCK | OPENAI_USE_BLOCK | OPENAI_RESULT_BLOCK | OPENAI_USABLE,
        "the cache finds what prompts begin with by itself"),
    WORD("role", OPENAI_TURN, "needed: `user` or `assistant`", "{'enum':['user','assistant']}"),
    OWN("content", OPENAI_TURN, true,
        "needed: a string or a list of blocks: `text`; of the user `tool_result`, before any text; "
        "of the assistant `tool_use`",
        "{'anyOf':[{'type':'string'},{'type':'array','items':{'anyOf':[@TextBlock,@ToolUseBlock,"
        "@ToolResultBlock]}}]}"),
    NEEDED_AS("type", OPENAI_TEXT_BLOCK, "\"text\"", "needed"),
    NEEDED("text", OPENAI_TEXT_BLOCK, OPENAI_STRING, "needed; texts are put together as they are"),
    FIXED("citations", OPENAI_TEXT_BLOCK, "[]", ""),
    NEEDED_AS("type", OPENAI_USE_BLOCK, "\"tool_use\"", "needed"),
    NEEDED("id", OPENAI_USE_BLOCK, OPENAI_STRING, "needed"),
    NEEDED("name", OPENAI_USE_BLOCK, OPENAI_STRING, "needed"),
    OWN("input", OPENAI_USE_BLOCK, true, "needed: an object", "{'type':'object'}"),
    FIXED("caller", OPENAI_USE_BLOCK, "{\"type\":\"direct\"}", ""),
    NEEDED_AS("type", OPENAI_RESULT_BLOCK, "\"tool_result\"", "needed"),
    NEEDED("tool_use_id", OPENAI_RESULT_BLOCK, OPENAI_STRING, "needed: the use that this answers"),
    OWN("content", OPENAI_RESULT_BLOCK, false, "a string or a list of blocks of text", TEXTS),
    IGNORED("is_error", OPENAI_RESULT_BLOCK, "templates know no such thing: the text says it"),
    FIXED("type", OPENAI_USABLE, "\"custom\"", ""),
    WORD("name", OPENAI_USABLE, "needed: up to 64 letters, digits, `_` and `-`", NAME),
    USED("description", OPENAI_USABLE, OPENAI_STRING, "the model is shown it"),
    OWN("input_schema", OPENAI_USABLE, true, "needed: as `parameters` of a function", PARAMETERS),
    USED("strict", OPENAI_USABLE, OPENAI_BOOL,
        "true or false: the schema is kept to where the model must use it"),
    WORD("type", OPENAI_USE, "needed: `auto`, `any`, `tool` or `none`",
        "{'enum':['auto','any','tool','none']}"),
    USED("name", OPENAI_USE, OPENAI_STRING, "of the tool, with the type `tool` alone"),
    USED("disable_parallel_tool_use", OPENAI_USE, OPENAI_BOOL, "true: one use at most"),

    /* of the Responses API */
    OWN("input", OPENAI_RESPONSES, true,
        "needed: a string, or a list of items: messages, calls and what came of them",
        "{'anyOf':[{'type':'string'},{'type':'array','minItems':1,'items':{'anyOf':[@SaidMessage,"
        "@SaidCall,@SaidOutput]}}]}"),
    USED("instructions", OPENAI_RESPONSES, OPENAI_STRING, "a system message before the input"),
    RANGE("max_output_tokens", OPENAI_RESPONSES, OPENAI_WHOLE, 1, 1 << 24,
        "512 when absent; the context ends an answer earlier"),
    RANGE("temperature", OPENAI_RESPONSES, OPENAI_NUMBER, 0, 2,
        "1 when absent; 0: the likeliest token"),
    RANGE("top_p", OPENAI_RESPONSES, OPENAI_NUMBER, 0, 1, "1 when absent; 0: the likeliest token"),
    OWN("text", OPENAI_RESPONSES, false, "what an answer may be", "@TextForm"),
    USED("stream", OPENAI_RESPONSES, OPENAI_BOOL, "server-sent events, of this API's kinds"),
    IGNORED("stream_options", OPENAI_RESPONSES, "nothing is padded"),
    OWN("tools", OPENAI_RESPONSES, false,
        "a list of up to 128 functions that the model may call, if its chat template takes tools",
        "{'type':'array','maxItems':128,'items':@FlatTool}"),
    OWN("tool_choice", OPENAI_RESPONSES, false,
        "`auto` when absent; `none`: the model is not shown the tools; `required`, or one tool: it "
        "must call",
        "{'anyOf':[{'enum':['none','auto','required']},@FlatChoice]}"),
    USED("parallel_tool_calls", OPENAI_RESPONSES, OPENAI_BOOL, "false: one call at most"),
    IGNORED("max_tool_calls", OPENAI_RESPONSES, "of tools that the server has: there are none"),
    FIXED("store", OPENAI_RESPONSES, "false", "nothing is kept"),
    FIXED("previous_response_id", OPENAI_RESPONSES, "", "nothing is kept"),
    FIXED("conversation", OPENAI_RESPONSES, "", "nothing is kept"),
    FIXED("background", OPENAI_RESPONSES, "false", "nothing is kept"),
    FIXED("prompt", OPENAI_RESPONSES, "", "nothing is kept"),
    FIXED("include", OPENAI_RESPONSES, "[] [\"reasoning.encrypted_content\"]",
        "there is no reasoning"),
    FIXED("reasoning", OPENAI_RESPONSES, "{} {\"effort\":\"none\"}", ""),
    FIXED("top_logprobs", OPENAI_RESPONSES, "0", ""),
    FIXED("truncation", OPENAI_RESPONSES, "\"disabled\"", ""),
    IGNORED("metadata", OPENAI_RESPONSES, "goes with a stored answer"),
    IGNORED("user", OPENAI_RESPONSES, "names the client's own user"),
    IGNORED("safety_identifier", OPENAI_RESPONSES, "likewise"),
    IGNORED("prompt_cache_key", OPENAI_RESPONSES, "likewise, for a cache"),
    IGNORED("prompt_cache_retention", OPENAI_RESPONSES, "there is no such cache"),
    IGNORED("service_tier", OPENAI_RESPONSES, "there is one tier"),
    FIXED("type", OPENAI_SAID, "\"message\"", ""),
    WORD("role", OPENAI_SAID, "needed: `developer` is `system`",
        "{'enum':['user','assistant','system','developer']}"),
    OWN("content", OPENAI_SAID, true,
        "needed: a string or a list of parts: of an assistant `output_text`, else `input_text`",
        "{'anyOf':[{'type':'string'},{'type':'array','items':@SaidPart}]}"),
    WORD("type", OPENAI_SAID_PART, "needed", "{'enum':['input_text','output_text']}"),
    NEEDED("text", OPENAI_SAID_PART, OPENAI_STRING, "needed; parts are put together as they are"),
    IGNORED("annotations", OPENAI_SAID_PART, "what an earlier answer cited"),
    FIXED("logprobs", OPENAI_SAID_PART, "[]", ""),
    NEEDED_AS("type", OPENAI_SAID_CALL, "\"function_call\"", "needed"),
    NEEDED("call_id", OPENAI_SAID_CALL, OPENAI_STRING, "needed"),
    NEEDED("name", OPENAI_SAID_CALL, OPENAI_STRING, "needed"),
    NEEDED(
        "arguments", OPENAI_SAID_CALL, OPENAI_STRING, "needed: an object, as JSON; empty is `{}`"),
    NEEDED_AS("type", OPENAI_SAID_OUTPUT, "\"function_call_output\"", "needed"),
    NEEDED("call_id", OPENAI_SAID_OUTPUT, OPENAI_STRING, "needed: of the call that this answers"),
    OWN("output", OPENAI_SAID_OUTPUT, true, "needed: a string or a list of parts `input_text`",
        "{'anyOf':[{'type':'string'},{'type':'array','items':@SaidPart}]}"),
    IGNORED("id", OPENAI_SAID | OPENAI_SAID_CALL | OPENAI_SAID_OUTPUT, "of an earlier answer's"),
    IGNORED("status", OPENAI_SAID | OPENAI_SAID_CALL | OPENAI_SAID_OUTPUT, "likewise"),
    NEEDED_AS("type", OPENAI_FLAT_TOOL | OPENAI_FLAT_CHOICE, "\"function\"", "needed"),
    WORD("name", OPENAI_FLAT_TOOL, "needed: up to 64 letters, digits, `_` and `-`", NAME),
    USED("description", OPENAI_FLAT_TOOL, OPENAI_STRING, "the model is shown it"),
    OWN("parameters", OPENAI_FLAT_TOOL, false, "as those of a function of a chat", PARAMETERS),
    USED("strict", OPENAI_FLAT_TOOL, OPENAI_BOOL,
        "true or false: the schema is kept to where the model must call"),
    NEEDED("name", OPENAI_FLAT_CHOICE, OPENAI_STRING, "needed: of one of the tools"),
    OWN("format", OPENAI_TEXT_FORM, false, "", "@TextFormat"),
    FIXED("verbosity", OPENAI_TEXT_FORM, "\"medium\"", ""),
    WORD("type", OPENAI_TEXT_FORMAT, "needed: `text`, `json_object` or `json_schema`",
        "{'enum':['text','json_object','json_schema']}"),
    OWN("name", OPENAI_TEXT_FORMAT, false,
        "only with `json_schema`, and needed there: up to 64 letters, digits, `_` and `-`", NAME),
    OWN("schema", OPENAI_TEXT_FORMAT, false,
        "likewise: a JSON schema, of what is said above of `response_format`",
        "{'type':['object','boolean']}"),
    IGNORED("description", OPENAI_TEXT_FORMAT, "the model is not shown it"),
    USED("strict", OPENAI_TEXT_FORMAT, OPENAI_BOOL,
        "true or false: the schema is kept to either way"),

    USED("include_usage", OPENAI_STREAM, OPENAI_BOOL, "a last event with the usage"),
    IGNORED("include_obfuscation", OPENAI_STREAM, "nothing is padded"),

    OWN("input", OPENAI_EMBED | OPENAI_CLASSIFY, true,
        "needed: a string or a list of token ids, or a list of up to 2,048 strings or such lists; "
        "of words to be labelled, strings",
        "{'anyOf':[{'type':'string'}," IDS "," LIST ",{'type':'array','minItems':1,"
        "'maxItems':2048,'items':" IDS "}]}"),
    OWN("text_1", OPENAI_SCORE, true, "needed: a string, or a list of strings", TEXT_OR_TEXTS),
    OWN("text_2", OPENAI_SCORE, true,
        "likewise, up to 2,048: each beside the one of `text_1`, or its own there", TEXT_OR_TEXTS),
    NEEDED("query", OPENAI_RERANK, OPENAI_STRING, "needed"),
    OWN("documents", OPENAI_RERANK, true,
        "needed: a list of up to 2,048 strings, or objects with one",
        "{'type':'array','minItems':1,'maxItems':2048,'items':{'anyOf':[{'type':'string'},"
        "@Document]}}"),
    USED("model", OPENAI_ITEMS, OPENAI_STRING, "`spec.serve.modelName`, as when absent"),
    USED("encoding_format", OPENAI_EMBED, OPENAI_STRING,
        "`float` when absent; `base64`: of little-endian F32"),
    RANGE("dimensions", OPENAI_EMBED, OPENAI_WHOLE, 1, 1 << 20,
        "so many of the first numbers, of length 1 again where the model's embeddings are"),
    OWN("history", OPENAI_RECOMMEND, true,
        "needed: what somebody had, the newest last: a list of up to 1,000 ids of items, strings "
        "or whole numbers, or objects with a text; of an empty one features alone count",
        "{'type':'array','maxItems':1000,'items':{'anyOf':[{'type':'string'},{'type':'integer'},"
        "@Had]}}"),
    USED("query", OPENAI_RECOMMEND, OPENAI_STRING,
        "a text of what is wanted now, which counts as one of the history that is the newest"),
    RANGE("top_n", OPENAI_RECOMMEND, OPENAI_WHOLE, 1, LIMIT_ITEMS,
        "the best so many; 10 when absent"),
    USED("exclude_history", OPENAI_RECOMMEND, OPENAI_BOOL,
        "true when absent: items of the history are not recommended"),
    OWN("weights", OPENAI_RECOMMEND, false,
        "of parts of the score, by the name of one of `spec.serve.recommend.features` or `text`: a "
        "number from -1000 to 1000 instead of the manifest's",
        "{'type':'object','maxProperties':17,'additionalProperties':{'type':'number',"
        "'minimum':-1000,'maximum':1000}}"),
    NEEDED("text", OPENAI_HAD, OPENAI_STRING, "needed"),
    RANGE("top_n", OPENAI_RERANK, OPENAI_WHOLE, 1, 1 << 20, "the best so many; all when absent"),
    USED("return_documents", OPENAI_RERANK, OPENAI_BOOL,
        "true when absent: each result has its document"),
    RANGE("truncate_prompt_tokens", OPENAI_ITEMS, OPENAI_WHOLE, -1, 1 << 24,
        "of a longer text so many tokens are read; -1: as many as the model reads; absent: it is "
        "refused"),
    IGNORED("user", OPENAI_ITEMS, "names the client's own user"),
    NEEDED("text", OPENAI_DOCUMENT, OPENAI_STRING, "needed"),

    OWN("query", OPENAI_SEARCH, true, "needed: a string, or a list with one",
        "{'anyOf':[{'type':'string','minLength':1},{'type':'array','minItems':1,'maxItems':1,"
        "'items':{'type':'string','minLength':1}}]}"),
    RANGE(
        "max_num_results", OPENAI_SEARCH, OPENAI_WHOLE, 1, LIMIT_RETRIEVAL_FOUND, "10 when absent"),
    OWN("ranking_options", OPENAI_SEARCH, false, "", "@RankingOptions"),
    FIXED("filters", OPENAI_SEARCH, "", "files have no attributes"),
    FIXED("rewrite_query", OPENAI_SEARCH, "false", ""),
    FIXED("ranker", OPENAI_RANKING, "\"auto\" \"none\"", ""),
    RANGE("score_threshold", OPENAI_RANKING, OPENAI_NUMBER, 0, 1,
        "the least `score`, a cosine; 0 when absent"),
    OWN("hybrid_search", OPENAI_RANKING, false, "what the two rankings weigh", "@HybridSearch"),
    RANGE("embedding_weight", OPENAI_HYBRID, OPENAI_NUMBER, 0, 1000,
        "that by embeddings; 1 when absent"),
    RANGE("text_weight", OPENAI_HYBRID, OPENAI_NUMBER, 0, 1000, "that by words; likewise"),

    ROW("text", OPENAI_LINE, OPENAI_STRING, 0, 0, NULL, "needed: what is classified, not empty",
        "{'type':'string','minLength':1}", true),
    OWN("time", OPENAI_LINE, false,
        "when it came, in RFC 3339 or in seconds since 1970; now when absent",
        "{'anyOf':[{'type':'string','format':'date-time'},{'type':'number','minimum':0}]}"),
    OWN("id", OPENAI_LINE, false,
        "a string or a number of less than 200 bytes, which its answer has",
        "{'type':['string','number']}"),
};

const struct openai_field *openai_fields(size_t *count)
{
    *count = sizeof fields / sizeof *fields;
    return fields;
}

static const struct openai_object objects[] = {
    {OPENAI_CHAT, "/v1/chat/completions", "ChatRequest", NULL},
    {OPENAI_TEXT, "/v1/completions", "CompletionRequest", NULL},
    {OPENAI_EMBED, "/v1/embeddings", "EmbeddingsRequest", NULL},
    {OPENAI_CLASSIFY, "/v1/classify", "ClassifyRequest", NULL},
    {OPENAI_SCORE, "/v1/score", "ScoreRequest", NULL},
    {OPENAI_RERANK, "/v1/rerank", "RerankRequest", NULL},
    {OPENAI_RECOMMEND, "/v1/recommend", "RecommendRequest", NULL},
    {OPENAI_TOKENIZE, "/tokenize", "TokenizeRequest", NULL},
    {OPENAI_DETOKENIZE, "/detokenize", "DetokenizeRequest", NULL},
    {OPENAI_TEMPLATE, "/apply-template", "TemplateRequest", NULL},
    {OPENAI_MESSAGES, "/v1/messages", "MessagesRequest", NULL},
    {OPENAI_COUNT, "/v1/messages/count_tokens", "CountRequest", NULL},
    {OPENAI_RESPONSES, "/v1/responses", "ResponsesRequest", NULL},
    {OPENAI_SEARCH, "/v1/vector_stores/vs_documents/search", "SearchRequest", NULL},
    {OPENAI_LINE, "/v1/monitor", "MonitorLine", NULL},
    {OPENAI_MESSAGE, NULL, "Message", "A message"},
    {OPENAI_PART, NULL, "Part", "A part of a message's content"},
    {OPENAI_FORMAT, NULL, "ResponseFormat", "`response_format`"},
    {OPENAI_SCHEMA, NULL, "ResponseSchema", "`response_format.json_schema`"},
    {OPENAI_TOOL, NULL, "Tool", "One of `tools`"},
    {OPENAI_FUNCTION, NULL, "Function", "`function` of one of `tools`"},
    {OPENAI_CHOICE, NULL, "ToolChoice", "`tool_choice` that names a tool"},
    {OPENAI_CHOSEN, NULL, "ChosenFunction", "`function` of `tool_choice`"},
    {OPENAI_CALL, NULL, "ToolCall", "One of a message's `tool_calls`"},
    {OPENAI_CALLED, NULL, "CalledFunction", "`function` of one of `tool_calls`"},
    {OPENAI_STREAM, NULL, "StreamOptions", "`stream_options`"},
    {OPENAI_DOCUMENT, NULL, "Document", "One of `documents` that is an object"},
    {OPENAI_HAD, NULL, "Had", "One of `history` that is an object"},
    {OPENAI_TURN, NULL, "Turn", "A message of `/v1/messages`"},
    {OPENAI_TEXT_BLOCK, NULL, "TextBlock", "A block of its content: `text`"},
    {OPENAI_USE_BLOCK, NULL, "ToolUseBlock", "A block of its content: `tool_use`"},
    {OPENAI_RESULT_BLOCK, NULL, "ToolResultBlock", "A block of its content: `tool_result`"},
    {OPENAI_USABLE, NULL, "UsableTool", "One of `tools` of `/v1/messages`"},
    {OPENAI_USE, NULL, "ToolUse", "`tool_choice` of `/v1/messages`"},
    {OPENAI_SAID, NULL, "SaidMessage", "An item of `input` of `/v1/responses`: a message"},
    {OPENAI_SAID_PART, NULL, "SaidPart", "A part of its content"},
    {OPENAI_SAID_CALL, NULL, "SaidCall", "An item of `input`: `function_call`"},
    {OPENAI_SAID_OUTPUT, NULL, "SaidOutput", "An item of `input`: `function_call_output`"},
    {OPENAI_FLAT_TOOL, NULL, "FlatTool", "One of `tools` of `/v1/responses`"},
    {OPENAI_FLAT_CHOICE, NULL, "FlatChoice", "`tool_choice` of `/v1/responses` that names a tool"},
    {OPENAI_TEXT_FORM, NULL, "TextForm", "`text` of `/v1/responses`"},
    {OPENAI_TEXT_FORMAT, NULL, "TextFormat", "`text.format`"},
    {OPENAI_RANKING, NULL, "RankingOptions", "`ranking_options` of a search"},
    {OPENAI_HYBRID, NULL, "HybridSearch", "`ranking_options.hybrid_search`"},
};

const struct openai_object *openai_objects(size_t *count)
{
    *count = sizeof objects / sizeof *objects;
    return objects;
}

static const struct openai_alias aliases[] = {{"/classify", OPENAI_CLASSIFY},
    {"/score", OPENAI_SCORE}, {"/rerank", OPENAI_RERANK}, {"/v2/rerank", OPENAI_RERANK},
    {"/chat/completions", OPENAI_CHAT}, {"/embeddings", OPENAI_EMBED},
    {"/responses", OPENAI_RESPONSES}};

const struct openai_alias *openai_aliases(size_t *count)
{
    *count = sizeof aliases / sizeof *aliases;
    return aliases;
}

enum openai_place openai_place_of(const char *path)
{
    for (size_t i = 0; i < sizeof objects / sizeof *objects; i++)
        if (objects[i].path && !strcmp(path, objects[i].path))
            return objects[i].place;
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (!strcmp(path, aliases[i].path))
            return aliases[i].place;
    return 0;
}
