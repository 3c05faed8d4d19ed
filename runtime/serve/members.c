/*
 * members: of a member that is the job's own model nothing is compared.
 */
#include "runtime/serve/members.h"

#include "base/io.h"
#include "base/log.h"
#include "runtime/serve/reader.h"

#include <string.h>

#define SHOWN 40 /* bytes of a token in a refusal */

/* Bytes that token id stands for, as one that begins a text. */
static void show(const struct tok *t, int32_t id, struct buf *out)
{
    buf_reset(out);
    (void)tok_decode(t, id, false, out);
}

/* A vocabulary that is longer in one file than in another is filled up there. */
static int compare_tokens(const struct tok *a, const struct tok *b, struct err *e)
{
    int32_t n = tok_vocab(a) < tok_vocab(b) ? tok_vocab(a) : tok_vocab(b);
    buf_auto struct buf x, y;
    buf_init(&x, 1 << 16);
    buf_init(&y, 1 << 16);
    for (int32_t id = 0; id < n; id++) {
        show(a, id, &x);
        show(b, id, &y);
        bool same = x.len == y.len && !memcmp(x.data, y.data, x.len) &&
            tok_continues(a, id) == tok_continues(b, id);
        if (!buf_ok(&x) || !buf_ok(&y))
            return err_set(e, ERR_MEMORY, "no memory for a token");
        if (!same)
            return err_set(e, ERR_USER, "its token %d is \"%.*s\", the model's \"%.*s\"", id, SHOWN,
                buf_cstr(&y), SHOWN, buf_cstr(&x));
    }
    return 0;
}

static int compare_labels(struct weights *a, struct weights *b, struct err *e)
{
    const char *const *x = weights_labels(a), *const *y = weights_labels(b);
    int64_t n = weights_config(a)->labels;
    if (weights_config(b)->labels != n)
        return err_set(e, ERR_USER, "it has %lld labels, the model %lld",
            (long long)weights_config(b)->labels, (long long)n);
    if (weights_config(a)->several != weights_config(b)->several)
        return err_set(e, ERR_USER, "one of it and the model has one label a text, one several");
    for (int64_t i = 0; i < n && x && y; i++)
        if (strcmp(x[i], y[i]))
            return err_set(e, ERR_USER, "its label %lld is %.*s, the model's %.*s", (long long)i,
                SHOWN, y[i], SHOWN, x[i]);
    return x || !n ? 0 : err_set(e, ERR_USER, "the model's labels have no names");
}

/* Does b, of another file, say the same kind of thing of the same tokens as the job's model? */
static int compare(
    struct weights *a, const struct tok *tok, enum wire_does does, struct weights *b, struct err *e)
{
    enum wire_does is;
    struct tok *own = NULL;
    int rc = reader_does(b, &is, e);
    if (rc)
        return rc;
    if (is != does)
        return err_set(
            e, ERR_USER, "it is to %s, the model to %s", wire_does_name(is), wire_does_name(does));
    int64_t n = weights_config(a)->vocab, m = weights_config(b)->vocab;
    if (n != m)
        return err_set(e, ERR_USER, "it has a vocabulary of %lld tokens, the model of %lld",
            (long long)m, (long long)n);
    if ((rc = compare_labels(a, b, e)) || (rc = tok_open(b, &own, e)))
        return rc;
    rc = compare_tokens(tok, own, e);
    tok_close(own);
    return rc;
}

static const char *missing(const struct jobspec_member *m)
{
    return m->source && !io_exists(m->source)  ? m->source
        : m->adapter && !io_exists(m->adapter) ? m->adapter
                                               : NULL;
}

static int open_member(struct members *m, const struct jobspec_member *is, struct weights *w,
    const struct tok *tok, enum wire_does does, struct err *e)
{
    struct members_file *at = &m->at[m->count];
    *at = (struct members_file){.is = is, .weights = w};
    if (is->adapter && does != WIRE_DOES_GENERATE)
        return err_set(e, ERR_USER, "adapter: not of a model that reads whole texts");
    m->count++;
    if (!is->source)
        return 0;
    at->weights = NULL;
    int rc = weights_open(is->source, NULL, &at->weights, e);
    at->own = !rc;
    return rc ? rc : compare(w, tok, does, at->weights, e);
}

/* Bit i: member i is there. What may not be missing counts as there, and is found missing later. */
static int agree_on_members(const struct jobspec_serve *s, const struct members_share *share,
    uint32_t *there, struct err *e)
{
    const struct jobspec_member *m = s->ensemble.members;
    bool may_miss = s->ensemble.allow_missing;
    uint32_t own = 0, all[LIMIT_MEMBERS];
    for (int i = 0; i < s->ensemble.member_count; i++)
        own |= !may_miss || !missing(&m[i]) ? 1u << i : 0;
    *there = own;
    if (!share->coll || !may_miss)
        return 0;
    int rc = coll_allgather(share->coll, &own, sizeof own, all, e);
    for (int rank = 0; rank < share->ranks && !rc; rank++)
        *there &= all[rank];
    for (int i = 0; i < s->ensemble.member_count && !rc; i++)
        if (own & ~*there & 1u << i)
            log_warn("a member is missing on another rank", LOG_S("member", m[i].name));
    return rc;
}

static int open_present(struct members *m, const struct jobspec_member *is, struct weights *w,
    const struct tok *tok, enum wire_does does, struct err *e)
{
    const char *lacks = missing(is);
    int rc =
        lacks ? err_set(e, ERR_USER, "there is no %s", lacks) : open_member(m, is, w, tok, does, e);
    return rc ? err_wrap(e, "spec.serve.ensemble.members: %s", is->name) : 0;
}

int members_open(const struct jobspec *spec, const struct members_share *share, struct weights *w,
    const struct tok *tok, enum wire_does does, struct members *out, struct err *e)
{
    struct members m = {.of = spec->serve.ensemble.member_count};
    uint32_t there;
    if (does == WIRE_DOES_EMBED)
        return err_set(e, ERR_USER,
            "spec.serve.ensemble: not of a model that embeds texts: it has neither logits nor "
            "probabilities");
    int rc = agree_on_members(&spec->serve, share, &there, e);
    for (int i = 0; i < m.of && !rc; i++) {
        const struct jobspec_member *is = &spec->serve.ensemble.members[i];
        if (!(there & 1u << i)) {
            const char *lacks = missing(is);
            if (lacks)
                log_warn("a member is missing", LOG_S("member", is->name), LOG_S("path", lacks));
        } else if (m.there++ % share->ranks == share->rank) {
            rc = open_present(&m, is, w, tok, does, e);
        }
    }
    if (!rc && !m.there)
        rc = err_set(e, ERR_USER, "spec.serve.ensemble.members: none of the %d is there", m.of);
    if (rc)
        members_done(&m);
    else
        *out = m;
    return rc;
}

void members_done(struct members *m)
{
    for (int i = 0; i < m->count; i++)
        if (m->at[i].own)
            weights_close(m->at[i].weights);
    m->count = 0;
}

void members_release(struct members *m)
{
    for (int i = 0; i < m->count; i++)
        weights_release(m->at[i].weights);
}
