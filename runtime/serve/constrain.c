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

/* -- what is asked -- */

static int build(
    struct constrain *c, const struct json *format, char param[SCHEMA_PATH], struct err *e)
{
    const struct json *schema = json_get(json_get(format, "json_schema"), "schema");
    int32_t rule;
    int rc = schema
        ? schema_rule(&c->automaton, schema, FORMAT ".json_schema.schema", &rule, param, e)
        : schema_object(&c->automaton, &rule, e);
    if (!rc && (rc = automaton_finish(&c->automaton, rule, e)))
        err_wrap(e, "%s", param);
    if (!rc && (rc = matcher_create(&c->automaton, &c->matcher, e)))
        err_wrap(e, "%s", param);
    return rc;
}

int constrain_open(const struct json *body, const struct vocab *v, struct constrain **out,
    char param[SCHEMA_PATH], struct err *e)
{
    const struct json *format = json_get(body, FORMAT);
    *out = NULL;
    param[0] = 0;
    if (!format)
        return 0;
    struct constrain *c = mem_zalloc(sizeof *c);
    if (!c)
        return err_set(e, ERR_MEMORY, "no memory for what an answer may be");
    c->vocab = v;
    automaton_init(&c->automaton);
    int rc = build(c, format, param, e);
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

bool constrain_is_over(const struct constrain *c)
{
    return matcher_is_over(c->matcher);
}
