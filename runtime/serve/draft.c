/*
 * draft: see draft.h.
 */
#include "runtime/serve/draft.h"

#include "base/mem.h"
#include "runtime/family/weights.h"
#include "runtime/model/engine.h"
#include "runtime/model/kvcache.h"

#include <assert.h>

#define FIELD "spec.serve.speculation.model"

struct draft {
    struct weights *weights;
    struct model_conf conf;
    struct memplan plan;
    struct model *model;
    struct engine *engine;
    struct engine_part parts[ENGINE_ROWS]; /* of a pass, */
    struct draft_part *whose[ENGINE_ROWS]; /* and of each */
    struct sample_draw draws[ENGINE_ROWS];
    int laid;
    int64_t rows;
};

/* -- life -- */

static int check_model(const struct draft_conf *c, const struct model_config *own, struct err *e)
{
    if (own->vocab != c->vocab)
        return err_set(e, ERR_USER,
            FIELD ": it has %lld tokens of vocabulary, spec.model has %lld: a draft has the same",
            (long long)own->vocab, (long long)c->vocab);
    if (own->context < c->context)
        return err_set(e, ERR_USER,
            FIELD ": its context is %lld tokens, and spec.serve.contextLength %lld: no more than "
                  "the draft's is served",
            (long long)own->context, (long long)c->context);
    return 0;
}

static int open_model(struct draft *d, const struct draft_conf *c, struct err *e)
{
    int rc = weights_open(c->source, NULL, &d->weights, e);
    if (rc) {
        err_wrap(e, FIELD);
        return rc;
    }
    d->conf = (struct model_conf){
        .config = *weights_config(d->weights), .t = c->t, .kv_capacity = c->context};
    if ((rc = check_model(c, &d->conf.config, e)))
        return rc;
    return memplan_model(&d->conf, d->weights, &d->plan, e);
}

int draft_open(const struct draft_conf *c, struct draft **out, struct err *e)
{
    struct draft *d = mem_zalloc(sizeof *d);
    if (!d)
        return err_set(e, ERR_MEMORY, "no memory for a draft");
    int rc = open_model(d, c, e);
    if (rc) {
        draft_close(d);
        return rc;
    }
    *out = d;
    return 0;
}

void draft_close(struct draft *d)
{
    if (!d)
        return;
    engine_destroy(d->engine);
    model_destroy(d->model);
    weights_close(d->weights);
    mem_free(d);
}

static int compare_texts(const struct tok *own, const struct tok *t, struct err *e)
{
    buf_auto struct buf a, b;
    buf_init(&a, 1 << 16);
    buf_init(&b, 1 << 16);
    if (tok_vocab(own) != tok_vocab(t))
        return err_set(e, ERR_USER, FIELD ": its tokenizer has %d tokens, spec.model's %d",
            tok_vocab(own), tok_vocab(t));
    for (int32_t id = 0; id < tok_vocab(t); id++) {
        buf_reset(&a);
        buf_reset(&b);
        if (tok_decode(own, id, false, &a) || tok_decode(t, id, false, &b))
            return err_set(e, ERR_MEMORY, "no memory for a token");
        if (a.len != b.len || memcmp(buf_cstr(&a), buf_cstr(&b), a.len) != 0)
            return err_set(e, ERR_USER,
                FIELD ": its token %d is \"%.40s\", spec.model's \"%.40s\": a draft has the same "
                      "tokenizer",
                id, buf_cstr(&a), buf_cstr(&b));
    }
    return 0;
}

int draft_compare(struct draft *d, const struct tok *t, struct err *e)
{
    struct tok *own = NULL;
    int rc = tok_open(d->weights, &own, e);
    if (rc)
        err_wrap(e, FIELD);
    else
        rc = compare_texts(own, t, e);
    tok_close(own);
    return rc;
}

int64_t draft_bytes(const struct draft *d)
{
    return d->plan.total;
}

int64_t draft_page_bytes(const struct draft *d)
{
    return model_cache_bytes(&d->conf, 1);
}

int draft_load(
    struct draft *d, struct dev *dev, int64_t pages, struct wire_page *page, struct err *e)
{
    int rc;
    d->conf.kv_pages = pages;
    d->conf.page = page;
    if ((rc = model_create(dev, &d->conf, &d->model, e)) ||
        (rc = model_load(d->model, d->weights, e)) || (rc = engine_create(d->model, &d->engine, e)))
        return rc;
    weights_release(d->weights); /* the model has them */
    return 0;
}

/* -- passes -- */

static void lay(struct draft *d, struct draft_part *p, int64_t past, int64_t rows,
    const struct sample_draw *draw)
{
    int n = d->laid++;
    d->rows += rows;
    d->whose[n] = p;
    if (draw)
        d->draws[n] = *draw;
    d->parts[n] = (struct engine_part){.ids = p->ids + past,
        .count = rows,
        .past = past,
        .pages = p->pages,
        .draw = draw ? &d->draws[n] : NULL};
}

/* Runs what was laid; what was drawn is guessed. */
static int run_laid(struct draft *d, guess_follow_fn *may_follow_fn, struct err *e)
{
    int rc = d->laid ? engine_run(d->engine, d->parts, d->laid, e) : 0;
    for (int i = 0; i < d->laid && !rc; i++) {
        struct draft_part *p = d->whose[i];
        if (!d->parts[i].draw)
            continue;
        int32_t *guess = p->ids + p->count;
        guess[p->guessed++] = d->parts[i].next;
        if (may_follow_fn && may_follow_fn(p->user, guess, p->guessed) < p->guessed)
            p->wanted = --p->guessed;
    }
    d->laid = 0;
    d->rows = 0;
    return rc;
}

int draft_guess(
    struct draft *d, struct draft_part *p, int n, guess_follow_fn *may_follow_fn, struct err *e)
{
    int rc = 0, going = 0;
    for (int i = 0; i < n; i++)
        p[i].guessed = 0;
    for (int i = 0; i < n && !rc;) {
        int64_t left = p[i].count - p[i].done, room = ENGINE_ROWS - d->rows;
        bool all = left <= room;
        lay(d, &p[i], p[i].done, all ? left : room, all && p[i].wanted ? &p[i].draw : NULL);
        p[i].done += all ? left : room;
        i += all;
        if (i == n || d->rows == ENGINE_ROWS)
            rc = run_laid(d, may_follow_fn, e);
    }
    do {
        going = 0;
        for (int i = 0; i < n && !rc; i++) {
            if (p[i].guessed == p[i].wanted)
                continue;
            const struct sample_draw draw = sampler_draw(&p[i].sampler);
            lay(d, &p[i], p[i].count + p[i].guessed - 1, 1, &draw);
            going++;
        }
        rc = rc ? rc : run_laid(d, may_follow_fn, e);
    } while (going && !rc);
    return rc;
}
