/*
 * readers: rows of labels are averaged one by one: of each text, or of each of its tokens.
 */
#include "runtime/serve/readers.h"

#include "base/log.h"
#include "base/mem.h"
#include "runtime/serve/average.h"
#include "runtime/serve/members.h"

#include <assert.h>

struct readers {
    enum average average;
    struct tok *tok;
    struct members members;
    struct reader *reader[LIMIT_MEMBERS];
    int64_t bytes[LIMIT_MEMBERS], sum;
    float *logits; /* (members, room) */
    int64_t room;
};

static int name_member(const struct readers *s, int i, struct err *e)
{
    return err_wrap(e, "spec.serve.ensemble.members: %s", s->members.at[i].is->name);
}

static struct reader_conf conf_of(
    const struct readers *s, const struct reader_conf *c, int i, int64_t context)
{
    struct reader_conf own = *c;
    own.weights = s->members.at[i].weights;
    own.tok = s->tok;
    own.context = context;
    return own;
}

/* *context: what all can read. */
static int plan(struct readers *s, const struct reader_conf *c, int64_t *context, struct err *e)
{
    *context = INT64_MAX;
    for (int i = 0; i < s->members.count; i++) {
        const struct reader_conf own = conf_of(s, c, i, c->context);
        int64_t reads;
        if (reader_plan(&own, &reads, &s->bytes[i], e))
            return name_member(s, i, e);
        *context = reads < *context ? reads : *context;
    }
    for (int i = 0; i < s->members.count; i++) {
        const struct reader_conf own = conf_of(s, c, i, *context);
        if (reader_plan(&own, &(int64_t){0}, &s->bytes[i], e))
            return name_member(s, i, e);
        s->sum += s->bytes[i];
    }
    s->sum += reader_programs(c);
    return 0;
}

static int require(const struct readers *s, int64_t budget_bytes, struct err *e)
{
    char each[160] = "";
    size_t at = 0;
    if (s->sum <= budget_bytes)
        return 0;
    for (int i = 0; i < s->members.count && at < sizeof each; i++)
        at += (size_t)snprintf(each + at, sizeof each - at, "%s%s %lld", i ? ", " : "",
            s->members.at[i].is->name, (long long)(s->bytes[i] >> 20));
    return err_set(e, ERR_MEMORY, "the members need %lld MiB (%s) and this rank may use %lld MiB",
        (long long)(s->sum >> 20), each, (long long)(budget_bytes >> 20));
}

static int make_room(struct readers *s, struct err *e)
{
    const struct reader_facts *f = reader_facts(s->reader[0]);
    int64_t rows = reader_rows(s->reader[0]);
    s->room = (f->does == WIRE_DOES_TAG ? rows : ENCODER_TEXTS) * f->labels;
    s->logits = mem_array((size_t)(s->members.count * s->room), sizeof *s->logits);
    return s->logits ? 0 : err_set(e, ERR_MEMORY, "no memory for the logits of members");
}

static int open_all(
    struct readers *s, const struct jobspec *spec, const struct reader_conf *c, struct err *e)
{
    enum wire_does does;
    int64_t context;
    int rc;
    if ((rc = reader_does(c->weights, &does, e)) || (rc = tok_open(c->weights, &s->tok, e)) ||
        (rc = members_open(
             spec, &(struct members_share){0}, c->weights, s->tok, does, &s->members, e)) ||
        (rc = plan(s, c, &context, e)) || (rc = require(s, c->budget_bytes, e)))
        return rc;
    for (int i = 0; i < s->members.count; i++) {
        const struct reader_conf own = conf_of(s, c, i, context);
        if (reader_open(&own, &s->reader[i], e))
            return name_member(s, i, e);
        log_info("member", LOG_S("name", s->members.at[i].is->name),
            LOG_S("path", weights_path(own.weights)), LOG_I("bytes", s->bytes[i]));
    }
    members_release(&s->members);
    return make_room(s, e);
}

int readers_open(
    const struct jobspec *spec, const struct reader_conf *c, struct readers **out, struct err *e)
{
    struct readers *s = mem_zalloc(sizeof *s);
    if (!s)
        return err_set(e, ERR_MEMORY, "no memory for models that read texts");
    s->average = spec->serve.ensemble.average;
    int rc = open_all(s, spec, c, e);
    if (rc) {
        readers_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

void readers_close(struct readers *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->members.count; i++)
        reader_close(s->reader[i]);
    members_done(&s->members);
    tok_close(s->tok);
    mem_free(s->logits);
    mem_free(s);
}

const struct reader *readers_first(const struct readers *s)
{
    return s->reader[0];
}

void readers_tell(const struct readers *s, int *count, int *of, int64_t *parameters, int64_t *bytes)
{
    *count = s->members.count;
    *of = s->members.of;
    *bytes = s->sum;
    *parameters = 0;
    for (int i = 0; i < s->members.count; i++)
        *parameters += reader_facts(s->reader[i])->parameters;
}

/* In row r of each. */
static void average_row(const struct readers *s, int64_t r, float *out)
{
    const struct reader_facts *f = reader_facts(s->reader[0]);
    const float *x[LIMIT_MEMBERS];
    for (int k = 0; k < s->members.count; k++)
        x[k] = s->logits + k * s->room + r * f->labels;
    average_logits(&(struct average_of){.what = s->average,
                       .apart = f->several || f->labels == 1,
                       .count = s->members.count,
                       .x = x,
                       .n = f->labels},
        out);
}

int readers_label(
    struct readers *s, const struct encoder_text *texts, int64_t n, float *out, struct err *e)
{
    const struct reader_facts *f = reader_facts(s->reader[0]);
    int64_t rows = 0;
    int rc = 0;
    for (int64_t i = 0; i < n; i++)
        rows += f->does == WIRE_DOES_TAG ? texts[i].count : 1;
    assert(rows * f->labels <= s->room);
    for (int k = 0; k < s->members.count && !rc; k++)
        rc = reader_label(s->reader[k], texts, n, s->logits + k * s->room, e);
    for (int64_t r = 0; r < rows && !rc; r++)
        average_row(s, r, out + r * f->labels);
    return rc;
}
