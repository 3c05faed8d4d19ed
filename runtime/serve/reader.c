/*
 * reader: what stands above the last layer decides what a model does (encoder_conf).
 */
#include "runtime/serve/reader.h"

#include "base/mem.h"
#include "runtime/door/beat.h"
#include "runtime/files/hash.h"

#include <math.h>

struct reader {
    struct reader_facts facts;
    struct pooling pooling;
    const struct tok *tok;
    struct tok *own; /* NULL: tok is another's */
    struct model *model;
    struct encoder *encoder;
    struct wire_page *page; /* or NULL */
    uint64_t digest;
};

static enum wire_does does_of(const struct model_conf *c)
{
    if (!c->encodes)
        return WIRE_DOES_GENERATE;
    if (!c->config.labels)
        return WIRE_DOES_EMBED;
    return model_config_tells_texts(&c->config) ? WIRE_DOES_CLASSIFY : WIRE_DOES_TAG;
}

int reader_does(const struct weights *w, enum wire_does *out, struct err *e)
{
    struct model_conf c = {.t = DTYPE_F32};
    struct pooling p;
    int rc = encoder_conf(w, 0, &c, &p, e);
    if (!rc)
        *out = does_of(&c);
    return rc;
}

/* -- life -- */

int reader_plan(const struct reader_conf *c, int64_t *context, int64_t *bytes, struct err *e)
{
    struct model_conf m = {.t = c->t};
    struct pooling p;
    struct memplan plan;
    int rc = encoder_conf(c->weights, c->context, &m, &p, e);
    if (rc || (rc = memplan_model(&m, c->weights, &plan, e)))
        return rc;
    *context = m.kv_capacity;
    *bytes = plan.total;
    return 0;
}

int64_t reader_programs(const struct reader_conf *c)
{
    struct dev_info info = {.host_readable = false};
    int64_t vocab = weights_config(c->weights)->vocab;
    if (c->dev)
        dev_describe(c->dev, &info);
    if (!info.host_readable)
        return 0;
    return c->beside ? memplan_vocabulary(vocab) : memplan_programs(vocab);
}

static int open_model(
    struct reader *r, const struct reader_conf *c, const struct model_conf *m, struct err *e)
{
    struct memplan plan;
    int rc;
    if ((rc = memplan_model(m, c->weights, &plan, e)) ||
        (rc = memplan_require(&plan, c->budget_bytes, e)) ||
        (rc = model_create(c->dev, m, &r->model, e)) ||
        (rc = model_load(r->model, c->weights, e)) ||
        (rc = encoder_create(r->model, &r->encoder, e)))
        return rc;
    r->facts.parameters = model_parameters(r->model);
    r->facts.memory_bytes = plan.total;
    return 0;
}

static int reader_begin(struct reader *r, const struct reader_conf *c, struct err *e)
{
    struct model_conf m = {.t = c->t, .page = c->page};
    int rc = encoder_conf(c->weights, c->context, &m, &r->pooling, e);
    if (rc)
        return rc;
    const struct model_config *is = &m.config;
    m.programs = reader_programs(c);
    r->facts = (struct reader_facts){.does = does_of(&m),
        .context = m.kv_capacity,
        .dim = is->dim,
        .normalized = r->pooling.normalized,
        .labels = is->labels,
        .names = weights_labels(c->weights),
        .several = is->several};
    if (!m.encodes)
        return err_set(e, ERR_USER,
            "a %s model that goes on with texts embeds none: its folder has no modules.json",
            is->architecture);
    if (is->labels && !r->facts.names)
        return err_set(e, ERR_DATA, "%s: its labels have no names", weights_path(c->weights));
    r->page = c->page;
    if (r->facts.does == WIRE_DOES_EMBED) {
        const uint64_t parts[] = {
            weights_digest(c->weights), c->t, r->pooling.kind, r->pooling.normalized};
        r->digest = hash_xxh3(parts, sizeof parts);
    }
    rc = c->tok ? 0 : tok_open(c->weights, &r->own, e);
    r->tok = c->tok ? c->tok : r->own;
    return rc ? rc : open_model(r, c, &m, e);
}

int reader_open(const struct reader_conf *c, struct reader **out, struct err *e)
{
    struct reader *r = mem_zalloc(sizeof *r);
    if (!r)
        return err_set(e, ERR_MEMORY, "no memory for a model that reads texts");
    int rc = reader_begin(r, c, e);
    if (rc) {
        reader_close(r);
        return rc;
    }
    *out = r;
    return 0;
}

void reader_close(struct reader *r)
{
    if (!r)
        return;
    encoder_destroy(r->encoder);
    model_destroy(r->model);
    tok_close(r->own);
    mem_free(r);
}

const struct reader_facts *reader_facts(const struct reader *r)
{
    return &r->facts;
}

const struct tok *reader_tok(const struct reader *r)
{
    return r->tok;
}

uint64_t reader_digest(const struct reader *r)
{
    return r->digest;
}

void reader_beat(const struct reader *r)
{
    if (r->page)
        beat(r->page);
}

int64_t reader_rows(const struct reader *r)
{
    return encoder_rows(r->encoder);
}

/* -- tokens -- */

static int too_long(const struct reader *r, struct err *e)
{
    return err_set(e, ERR_USER,
        "it has more than the %lld tokens that the model reads at once: shorten it, or ask to "
        "have it cut with truncate_prompt_tokens",
        (long long)r->facts.context);
}

static int pair_tokens(const struct reader *r, const struct reader_text *t, struct tok_ids *ids,
    struct tok_ids *types, struct err *e)
{
    int around = tok_pair_around(r->tok);
    const struct tok_texts pair = {{t->first, t->second},
        {(int64_t)strlen(t->first), (int64_t)strlen(t->second)},
        t->most ? t->most : r->facts.context};
    bool cut = false;
    if (around < 0)
        return err_set(
            e, ERR_USER, "what the model's post_processor makes of two texts is not supported");
    if (pair.most < around)
        return err_set(
            e, ERR_USER, "the tokenizer puts %d tokens around two texts, which are kept", around);
    int rc = tok_encode_pair(r->tok, &pair, ids, types, &cut, e);
    return !rc && cut && !t->most ? too_long(r, e) : rc;
}

/* What is put behind a text stays behind it. */
static int cut_tokens(const struct reader *r, struct tok_ids *ids, int64_t from, int64_t most)
{
    const struct tok_affix *suffix = tok_suffix(r->tok);
    if (ids->count - from <= most)
        return 0;
    if (most < tok_prefix(r->tok)->count + suffix->count)
        return -1;
    ids->count = from + most;
    for (int i = 0; i < suffix->count; i++)
        ids->id[ids->count - suffix->count + i] = suffix->id[i];
    return 0;
}

static int add_zeros(struct tok_ids *types, int64_t n, struct err *e)
{
    int rc = 0;
    for (int64_t i = 0; i < n && !rc; i++)
        rc = tok_ids_add(types, 0, e);
    return rc;
}

int reader_tokens(const struct reader *r, const struct reader_text *t, struct tok_ids *ids,
    struct tok_ids *types, struct err *e)
{
    int64_t from = ids->count;
    if (t->second)
        return pair_tokens(r, t, ids, types, e);
    int rc = tok_encode_document(r->tok, t->first, (int64_t)strlen(t->first), ids, e);
    if (rc)
        return rc;
    if (ids->count == from)
        return err_set(e, ERR_USER, "it is empty");
    if (!t->most && ids->count - from > r->facts.context)
        return too_long(r, e);
    if (t->most && cut_tokens(r, ids, from, t->most))
        return err_set(e, ERR_USER, "the tokenizer puts more than %lld tokens around a text",
            (long long)t->most);
    return add_zeros(types, ids->count - from, e);
}

/* -- reading -- */

void reader_normalize(float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    float length = (float)sqrt(sum);
    for (int64_t i = 0; i < n && length > 0; i++)
        x[i] /= length;
}

int reader_check(const struct reader *r, const struct encoder_text *t, struct err *e)
{
    return encoder_check(r->encoder, t, e);
}

int reader_embed(
    struct reader *r, const struct encoder_text *texts, int64_t n, float *out, struct err *e)
{
    int rc = encoder_embed(r->encoder, texts, n, r->pooling.kind, out, e);
    for (int64_t i = 0; i < n && !rc && r->pooling.normalized; i++)
        reader_normalize(out + i * r->facts.dim, r->facts.dim);
    return rc;
}

int reader_label(
    struct reader *r, const struct encoder_text *texts, int64_t n, float *out, struct err *e)
{
    return encoder_label(r->encoder, texts, n, out, e);
}
