/*
 * constrain: an automaton of the answer, and where in it the text is.
 */
#include "runtime/serve/constrain.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

#define FORMAT "response_format"

struct constrain {
    struct automaton automaton;
    struct matcher *matcher;
    const struct vocab *vocab;
    struct err fault; /* of constrain_logits */
};

/* -- tokens -- */

struct model_tokens {
    const struct tok *tok;
    const struct weights *weights;
};

static int text_of(void *user, int32_t id, struct buf *out)
{
    const struct model_tokens *m = user;
    bool ends = id == tok_eos(m->tok) || weights_ends(m->weights, id);
    return ends || id >= tok_vocab(m->tok) ? 0 : tok_decode(m->tok, id, true, out);
}

int constrain_vocab(
    const struct tok *t, const struct weights *w, int64_t count, struct vocab **out, struct err *e)
{
    struct model_tokens m = {t, w};
    return vocab_create((int32_t)count, text_of, &m, out, e);
}

/* -- calls of tools -- */

#define CALLS_MOST 16 /* that an answer has to make; enough for one question */

static const struct {
    const char *start, *open, *arguments, *close, *between, *end;
} forms[WIRE_CALLS_FORMS] = {
    [WIRE_CALLS_HERMES] = {"<tool_call>\n", "{\"name\": \"", "\", \"arguments\": ", "}",
        "\n</tool_call>\n<tool_call>\n", "\n</tool_call>"},
    [WIRE_CALLS_LLAMA] = {"", "{\"name\": \"", "\", \"parameters\": ", "}", "; ", ""},
    [WIRE_CALLS_MISTRAL] = {"[TOOL_CALLS] [", "{\"name\": \"", "\", \"arguments\": ", "}", ", ",
        "]"},
};

static int32_t add_text(struct automaton *a, const char *text, int32_t next)
{
    return *text ? automaton_text(a, text, strlen(text), next) : next;
}

/* A rule: a call of the tool number i. Names are letters, digits, _ and -. */
static int tool_rule(struct automaton *a, enum wire_calls calls, const struct json *function, int i,
    int32_t *rule, char param[SCHEMA_PATH], struct err *e)
{
    const struct json *parameters = json_get(function, "parameters");
    char path[SCHEMA_PATH];
    int32_t node = add_text(a, forms[calls].close, automaton_return(a)), arguments;
    snprintf(path, sizeof path, "tools[%d].function.parameters", i);
    if (json_count(parameters)) {
        int rc = schema_rule(a, parameters, path, &arguments, param, e);
        if (rc)
            return rc;
        node = automaton_call(a, arguments, node);
    } else {
        node = add_text(a, "{}", node);
    }
    node = add_text(a, forms[calls].arguments, node);
    node = add_text(a, json_str(function, "name", ""), node);
    *rule = automaton_rule(a);
    automaton_begin(a, *rule, add_text(a, forms[calls].open, node));
    return 0;
}

/* A rule: a call of any tool, or of the one that must be called. */
static int any_tool_rule(struct automaton *a, enum wire_calls calls, const struct json *body,
    int32_t *rule, char param[SCHEMA_PATH], struct err *e)
{
    const char *name = json_str(json_get(json_get(body, "tool_choice"), "function"), "name", NULL);
    int32_t any = AUTOMATON_NEVER;
    int i = 0;
    json_each (tool, json_get(body, "tools")) {
        const struct json *function = json_get(tool, "function");
        int32_t one;
        if (!name || !strcmp(name, json_str(function, "name", ""))) {
            int rc = tool_rule(a, calls, function, i, &one, param, e);
            if (rc)
                return rc;
            one = automaton_call(a, one, automaton_return(a));
            any = any == AUTOMATON_NEVER ? one : automaton_fork(a, one, any);
        }
        i++;
    }
    *rule = automaton_rule(a);
    automaton_begin(a, *rule, any);
    return 0;
}

static int calls_rule(struct automaton *a, enum wire_calls calls, const struct json *body,
    int32_t *rule, char param[SCHEMA_PATH], struct err *e)
{
    int64_t most = json_bool(body, "parallel_tool_calls", true) ? CALLS_MOST : 1;
    int32_t call, more, node;
    snprintf(param, SCHEMA_PATH, "tools");
    if (!forms[calls].open)
        return err_set(e, ERR_USER, "tools: the form of the model's calls is not known");
    int rc = any_tool_rule(a, calls, body, &call, param, e);
    if (rc)
        return rc;
    more = automaton_rule(a);
    node = automaton_call(a, call, automaton_return(a));
    automaton_begin(a, more, add_text(a, forms[calls].between, node));
    node = add_text(a, forms[calls].end, automaton_return(a));
    node = automaton_call(a, call, automaton_repeat(a, more, 0, most - 1, node));
    *rule = automaton_rule(a);
    automaton_begin(a, *rule, add_text(a, forms[calls].start, node));
    return 0;
}

/* Must a tool be called? */
static bool must_call(const struct json *body)
{
    const struct json *choice = json_get(body, "tool_choice");
    return json_is_object(choice) || !strcmp(json_str(body, "tool_choice", ""), "required");
}

/* -- what is asked -- */

static int build(struct constrain *c, const struct json *body, enum wire_calls calls,
    char param[SCHEMA_PATH], struct err *e)
{
    const struct json *format = json_get(body, FORMAT);
    const struct json *schema = json_get(json_get(format, "json_schema"), "schema");
    int32_t rule;
    int rc = must_call(body) ? calls_rule(&c->automaton, calls, body, &rule, param, e)
        : schema ? schema_rule(&c->automaton, schema, FORMAT ".json_schema.schema", &rule, param, e)
                 : schema_object(&c->automaton, &rule, e);
    if (!rc && (rc = automaton_finish(&c->automaton, rule, e)))
        err_wrap(e, "%s", param);
    if (!rc && (rc = matcher_create(&c->automaton, &c->matcher, e)))
        err_wrap(e, "%s", param);
    return rc;
}

bool constrain_asked(const struct json *body)
{
    return json_get(body, FORMAT) || must_call(body);
}

int constrain_open(const struct json *body, enum wire_calls calls, const struct vocab *v,
    struct constrain **out, char param[SCHEMA_PATH], struct err *e)
{
    *out = NULL;
    param[0] = 0;
    if (!constrain_asked(body))
        return 0;
    struct constrain *c = mem_zalloc(sizeof *c);
    if (!c)
        return err_set(e, ERR_MEMORY, "no memory for what an answer may be");
    c->vocab = v;
    automaton_init(&c->automaton);
    int rc = build(c, body, calls, param, e);
    if (rc) {
        constrain_close(c);
        return rc;
    }
    *out = c;
    return 0;
}

void constrain_close(struct constrain *c)
{
    if (!c)
        return;
    matcher_destroy(c->matcher);
    automaton_done(&c->automaton);
    mem_free(c);
}

/* -- an answer -- */

void constrain_logits(struct constrain *c, const int32_t *end, int ends, float *logits, int64_t v)
{
    bool whole = matcher_may_end(c->matcher, matcher_state(c->matcher));
    const uint64_t *bits;
    if (c->fault.code || vocab_allowed(c->vocab, c->matcher, &bits, &c->fault))
        return; /* what is drawn now is refused by constrain_take */
    for (int64_t j = 0; j < v; j++) {
        bool is_end = false;
        if (bits[j / 64] >> j % 64 & 1)
            continue;
        for (int i = 0; whole && i < ends; i++)
            is_end = is_end || end[i] == j;
        if (!is_end)
            logits[j] = -INFINITY;
    }
}

int constrain_take(struct constrain *c, const char *bytes, size_t len, struct err *e)
{
    if (c->fault.code) {
        *e = c->fault;
        return -(int)c->fault.code;
    }
    if (len)
        return matcher_take(c->matcher, bytes, len, e);
    return matcher_may_end(c->matcher, matcher_state(c->matcher))
        ? 0
        : err_set(e, ERR_DATA, "the answer would end before it is whole");
}

bool constrain_may_follow(const struct constrain *c, const char *bytes, size_t len)
{
    int32_t state = matcher_state(c->matcher);
    for (size_t i = 0; i < len && state != MATCHER_UNKNOWN; i++)
        state = matcher_known(c->matcher, state, (uint8_t)bytes[i]);
    return state != MATCHER_NO;
}

bool constrain_is_over(const struct constrain *c)
{
    return matcher_is_over(c->matcher);
}
