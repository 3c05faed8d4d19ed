/*
 * readers: rows of labels are averaged one by one: of each text, or of each of its tokens.
 */
#include "runtime/serve/readers.h"

#include "base/log.h"
#include "base/mem.h"
#include "runtime/serve/average.h"
#include "runtime/serve/chorus.h"
#include "runtime/serve/members.h"
#include "runtime/serve/relay.h"
#include "runtime/train/world.h"

#include <assert.h>
#include <string.h>

struct readers_head {
    int32_t texts, ids; /* how many follow: counts, tokens, and behind these their types, */
    int32_t typed;      /* or none */
};

struct readers {
    struct readers_conf conf;
    int ranks;
    struct tok *tok;
    struct members members;
    struct reader *reader[LIMIT_MEMBERS]; /* this rank's */
    int64_t bytes[LIMIT_MEMBERS], sum;
    int64_t context, rows, labels; /* tokens of a text, of a pass; what each has */
    bool tags;                     /* words, else texts */
    struct chorus *chorus;
    struct relay *relay; /* NULL: there is one rank */
};

static int name_member(const struct readers *s, int i, struct err *e)
{
    return err_wrap(e, "spec.serve.ensemble.members: %s", s->members.at[i].is->name);
}

static struct reader_conf conf_of(const struct readers *s, int i, int64_t context)
{
    struct reader_conf own = s->conf.job;
    own.weights = s->members.at[i].weights;
    own.tok = s->tok;
    own.context = context;
    return own;
}

/* What all can read, on all ranks. */
static int agree_on_context(struct readers *s, struct err *e)
{
    int64_t all[LIMIT_MEMBERS];
    s->context = INT64_MAX;
    for (int i = 0; i < s->members.count; i++) {
        const struct reader_conf own = conf_of(s, i, s->conf.job.context);
        int64_t reads;
        if (reader_plan(&own, &reads, &s->bytes[i], e))
            return name_member(s, i, e);
        s->context = reads < s->context ? reads : s->context;
    }
    if (!s->conf.coll)
        return 0;
    int rc = coll_allgather(s->conf.coll, &s->context, sizeof *all, all, e);
    for (int i = 0; i < s->ranks && !rc; i++)
        s->context = all[i] < s->context ? all[i] : s->context;
    return rc
        ? rc
        : world_agree(s->conf.coll, s->ranks, weights_digest(s->conf.job.weights), s->context, e);
}

static int plan(struct readers *s, struct err *e)
{
    int rc = agree_on_context(s, e);
    for (int i = 0; i < s->members.count && !rc; i++) {
        const struct reader_conf own = conf_of(s, i, s->context);
        if (reader_plan(&own, &(int64_t){0}, &s->bytes[i], e))
            return name_member(s, i, e);
        s->sum += s->bytes[i];
    }
    s->sum += reader_programs(&s->conf.job);
    return rc;
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

/* Of a pass: what all say of it, and the message that tells it. */
static int make_room(struct readers *s, struct err *e)
{
    s->labels = weights_config(s->conf.job.weights)->labels;
    s->rows = s->context > ENCODER_ROWS ? s->context : ENCODER_ROWS;
    assert(!s->members.count || s->rows == reader_rows(s->reader[0]));
    const struct chorus_conf c = {s->conf.coll, s->conf.rank, s->ranks, s->members.there,
        (s->tags ? s->rows : ENCODER_TEXTS) * s->labels};
    int rc = chorus_create(&c, &s->chorus, e);
    if (rc || !s->conf.coll)
        return rc;
    size_t limit =
        sizeof(struct readers_head) + (ENCODER_TEXTS + 2 * (size_t)s->rows) * sizeof(int32_t);
    return relay_create(s->conf.coll, limit, &s->relay, e);
}

static int open_all(struct readers *s, struct err *e)
{
    const struct reader_conf *c = &s->conf.job;
    const struct members_share share = {s->conf.coll, s->conf.rank, s->ranks};
    enum wire_does does;
    int rc;
    if ((rc = reader_does(c->weights, &does, e)) || (rc = tok_open(c->weights, &s->tok, e)))
        return rc;
    s->tags = does == WIRE_DOES_TAG;
    rc = members_open(s->conf.spec, &share, c->weights, s->tok, does, &s->members, e);
    return rc || (rc = plan(s, e)) ? rc : require(s, c->budget_bytes, e);
}

int readers_load(struct readers *s, struct err *e)
{
    for (int i = 0; i < s->members.count; i++) {
        const struct reader_conf own = conf_of(s, i, s->context);
        if (reader_open(&own, &s->reader[i], e))
            return name_member(s, i, e);
        log_info("member", LOG_S("name", s->members.at[i].is->name),
            LOG_S("path", weights_path(own.weights)), LOG_I("bytes", s->bytes[i]));
    }
    members_release(&s->members);
    return make_room(s, e);
}

int readers_open(const struct readers_conf *c, struct readers **out, struct err *e)
{
    struct readers *s = mem_zalloc(sizeof *s);
    if (!s)
        return err_set(e, ERR_MEMORY, "no memory for models that read texts");
    s->conf = *c;
    s->ranks = c->coll ? c->spec->serve.ensemble.ranks : 1;
    int rc = open_all(s, e);
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
    chorus_destroy(s->chorus);
    relay_destroy(s->relay);
    mem_free(s);
}

const struct reader *readers_first(const struct readers *s)
{
    return s->reader[0];
}

void readers_tell(const struct readers *s, struct readers_facts *out)
{
    *out = (struct readers_facts){
        .count = s->members.there, .of = s->members.of, .context = s->context, .bytes = s->sum};
    for (int i = 0; i < s->members.count; i++)
        out->parameters += s->reader[i] ? reader_facts(s->reader[i])->parameters : 0;
}

int64_t readers_member(const struct readers *s, int i, const char **name)
{
    *name = s->members.at[i].is->name;
    return s->bytes[i];
}

/* -- passes -- */

/* Numbers that each says of these texts. */
static int64_t numbers_of(const struct readers *s, const struct encoder_text *texts, int64_t n)
{
    int64_t rows = 0;
    for (int64_t i = 0; i < n; i++)
        rows += s->tags ? texts[i].count : 1;
    return rows * s->labels;
}

/* To rank 0. */
static int label_own(struct readers *s, const struct encoder_text *texts, int64_t n, struct err *e)
{
    int64_t numbers = numbers_of(s, texts, n);
    int rc = 0;
    for (int k = 0; k < s->members.count && !rc; k++)
        rc = reader_label(s->reader[k], texts, n, chorus_own(s->chorus, k, numbers), e);
    return rc ? rc : chorus_gather(s->chorus, numbers, e);
}

/* The numbers of a row of each, from `at` on. */
static void average_row(const struct readers *s, int64_t at, int64_t numbers, float *out)
{
    const struct reader_facts *f = reader_facts(s->reader[0]);
    const float *x[LIMIT_MEMBERS];
    for (int k = 0; k < s->members.there; k++)
        x[k] = chorus_at(s->chorus, k, numbers) + at;
    average_logits(&(struct average_of){.what = s->conf.spec->serve.ensemble.average,
                       .apart = f->several || f->labels == 1,
                       .count = s->members.there,
                       .x = x,
                       .n = f->labels},
        out);
}

static size_t size_of(const struct readers_head *h)
{
    return sizeof *h + ((size_t)h->texts + (size_t)h->ids * (h->typed ? 2 : 1)) * sizeof(int32_t);
}

/* Texts have types, or none of them has. */
static int tell(struct readers *s, const struct encoder_text *texts, int64_t n, struct err *e)
{
    struct readers_head h = {.texts = (int32_t)n, .typed = texts[0].types != NULL};
    if (!s->relay)
        return 0;
    for (int64_t i = 0; i < n; i++)
        h.ids += (int32_t)texts[i].count;
    int32_t *counts = (void *)((struct readers_head *)relay_message(s->relay) + 1);
    int32_t *ids = counts + n, *types = ids + h.ids;
    memcpy(relay_message(s->relay), &h, sizeof h);
    for (int64_t i = 0; i < n; i++) {
        size_t bytes = (size_t)texts[i].count * sizeof *ids;
        counts[i] = (int32_t)texts[i].count;
        memcpy(ids, texts[i].ids, bytes);
        if (h.typed)
            memcpy(types, texts[i].types, bytes);
        ids += texts[i].count;
        types += texts[i].count;
    }
    return relay_send(s->relay, RELAY_RUN, size_of(&h), e);
}

int readers_label(
    struct readers *s, const struct encoder_text *texts, int64_t n, float *out, struct err *e)
{
    int64_t numbers = numbers_of(s, texts, n);
    int rc = tell(s, texts, n, e);
    if (rc || (rc = label_own(s, texts, n, e)))
        return rc;
    for (int64_t at = 0; at < numbers; at += s->labels)
        average_row(s, at, numbers, out + at);
    return 0;
}

int readers_rest(struct readers *s, struct err *e)
{
    return s && s->relay ? relay_send(s->relay, RELAY_REST, 0, e) : 0;
}

int readers_end(struct readers *s, struct err *e)
{
    return s && s->relay ? relay_send(s->relay, RELAY_END, 0, e) : 0;
}

/* A relay_run_fn. */
static int label_told(void *user, size_t bytes, struct err *e)
{
    struct readers *s = user;
    const struct readers_head *h = relay_message(s->relay);
    const int32_t *counts = (const void *)(h + 1), *ids;
    struct encoder_text texts[ENCODER_TEXTS];
    int64_t left = h->ids;
    int rc = 0;
    if (bytes < sizeof *h || h->texts < 1 || h->texts > ENCODER_TEXTS || h->ids < 1 ||
        h->ids > s->rows || size_of(h) != bytes)
        return err_set(e, ERR_BUG, "rank 0 tells of %d texts of %d tokens", h->texts, h->ids);
    ids = counts + h->texts;
    for (int32_t i = 0; i < h->texts && !rc; i++) {
        texts[i] = (struct encoder_text){ids, h->typed ? ids + h->ids : NULL, counts[i]};
        if (counts[i] < 1 || counts[i] > left)
            return err_set(e, ERR_BUG, "rank 0 tells of a text of %d tokens", counts[i]);
        ids += counts[i];
        left -= counts[i];
        rc = s->members.count ? reader_check(s->reader[0], &texts[i], e) : 0;
    }
    return rc ? rc : label_own(s, texts, h->texts, e);
}

int readers_follow(struct readers *s, struct err *e)
{
    return relay_follow(s->relay, label_told, s, WIRE_PHASE_SERVE_PREFILL, s->conf.job.page, e);
}
