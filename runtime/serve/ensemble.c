/*
 * ensemble: logits of all members come to the host, of the rows of a pass that are seen, and there
 * are averaged and drawn from, as those of a request that has them shaped (shape.h).
 */
#include "runtime/serve/ensemble.h"

#include "base/log.h"
#include "base/mem.h"
#include "runtime/convert/adapters.h"
#include "runtime/door/beat.h"
#include "runtime/model/beside.h"
#include "runtime/model/carve.h"
#include "runtime/model/kvcache.h"
#include "runtime/serve/average.h"
#include "runtime/serve/chorus.h"
#include "runtime/serve/members.h"
#include "runtime/serve/shape.h"

#include <assert.h>

struct voice { /* a member that is loaded */
    struct model_conf conf;
    struct jobspec_serve adapter; /* the one that it has, or none: */
    struct jobspec_served_adapter named;
    struct beside *beside;
    struct memplan plan; /* with a cache of one sequence */
    struct model *model;
    struct engine *engine;
};

struct ensemble {
    struct ensemble_conf conf;
    struct members members;
    struct voice voice[LIMIT_MEMBERS]; /* this rank's */
    struct chorus_conf says;           /* logits of the rows of a pass that are seen */
    struct chorus *chorus;
    int64_t context, vocab;
    struct engine_part *parts; /* (parts) as members run them */
    float *mean;               /* (V) */
    struct shaper *shaper;
};

/* -- life -- */

static int name_member(const struct ensemble *s, int i, struct err *e)
{
    return err_wrap(e, "spec.serve.ensemble.members: %s", s->members.at[i].is->name);
}

static int describe_adapter(struct voice *v, const struct jobspec_member *is, struct err *e)
{
    if (!is->adapter)
        return 0;
    v->named = (struct jobspec_served_adapter){is->name, is->adapter};
    v->adapter.adapters = &v->named;
    v->adapter.adapter_count = 1;
    int rc = adapters_describe(&v->adapter, &v->conf.config, &v->beside, e);
    v->conf.beside = v->beside;
    return rc;
}

static int open_voice(struct ensemble *s, int i, struct err *e)
{
    const struct members_file *m = &s->members.at[i];
    struct voice *v = &s->voice[i];
    int64_t context;
    v->conf = (struct model_conf){.config = *weights_config(m->weights),
        .t = model_type_of(s->conf.spec->precision),
        .kv_cache = s->conf.spec->serve.kv_cache,
        .page = s->conf.page};
    int rc = engine_context(&v->conf.config, s->conf.spec->serve.context_length, &context, e);
    if (rc || (rc = describe_adapter(v, m->is, e)))
        return name_member(s, i, e);
    s->context = context < s->context ? context : s->context;
    return 0;
}

static int plan_voice(struct ensemble *s, int i, struct err *e)
{
    struct voice *v = &s->voice[i];
    v->conf.kv_capacity = s->context;
    int rc = memplan_model(&v->conf, s->members.at[i].weights, &v->plan, e);
    return rc ? name_member(s, i, e) : 0;
}

/* The least of all ranks'. */
static int agree_on_context(struct ensemble *s, struct err *e)
{
    int64_t all[LIMIT_MEMBERS];
    int rc = s->conf.coll ? coll_allgather(s->conf.coll, &s->context, sizeof *all, all, e) : 0;
    for (int i = 0; s->conf.coll && i < s->says.ranks && !rc; i++)
        s->context = all[i] < s->context ? all[i] : s->context;
    return rc;
}

int ensemble_open(const struct ensemble_conf *c, struct ensemble **out, struct err *e)
{
    struct ensemble *s = mem_zalloc(sizeof *s);
    if (!s)
        return err_set(e, ERR_MEMORY, "no memory for an ensemble");
    s->conf = *c;
    s->vocab = weights_config(c->weights)->vocab;
    s->context = INT64_MAX;
    const struct members_share share = {
        c->coll, c->rank, c->coll ? c->spec->serve.ensemble.ranks : 1};
    int rc = members_open(c->spec, &share, c->weights, c->tok, WIRE_DOES_GENERATE, &s->members, e);
    s->says = (struct chorus_conf){
        c->coll, c->rank, share.ranks, s->members.there, carve_times(c->parts, s->vocab)};
    for (int i = 0; i < s->members.count && !rc; i++)
        rc = open_voice(s, i, e);
    rc = rc ? rc : agree_on_context(s, e);
    for (int i = 0; i < s->members.count && !rc; i++)
        rc = plan_voice(s, i, e);
    if (rc) {
        ensemble_destroy(s);
        return rc;
    }
    *out = s;
    return 0;
}

void ensemble_destroy(struct ensemble *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->members.count; i++) {
        struct voice *v = &s->voice[i];
        engine_destroy(v->engine);
        model_destroy(v->model);
        beside_destroy(v->beside);
    }
    members_done(&s->members);
    shaper_destroy(s->shaper);
    chorus_destroy(s->chorus);
    mem_free(s->parts);
    mem_free(s->mean);
    mem_free(s);
}

void ensemble_tell(const struct ensemble *s, struct ensemble_facts *out)
{
    *out = (struct ensemble_facts){.count = s->members.there,
        .of = s->members.of,
        .context = s->context,
        .bytes = chorus_bytes(&s->says),
        .logit_bytes = chorus_bytes(&s->says)};
    for (int i = 0; i < s->members.count; i++) {
        const struct voice *v = &s->voice[i];
        out->parameters += v->model ? model_parameters(v->model) : 0;
        out->bytes += v->plan.total;
        out->page_bytes += model_cache_bytes(&v->conf, 1);
    }
}

int64_t ensemble_member(const struct ensemble *s, int i, const char **name)
{
    *name = s->members.at[i].is->name;
    return s->voice[i].plan.total;
}

int ensemble_require(const struct ensemble *s, int64_t budget_bytes, struct err *e)
{
    struct ensemble_facts f;
    char each[160] = "";
    size_t at = 0;
    ensemble_tell(s, &f);
    if (f.bytes <= budget_bytes)
        return 0;
    for (int i = 0; i < s->members.count && at < sizeof each; i++)
        at += (size_t)snprintf(each + at, sizeof each - at, "%s %lld, ", s->members.at[i].is->name,
            (long long)(s->voice[i].plan.total >> 20));
    return err_set(e, ERR_MEMORY,
        "the members need %lld MiB (%slogits %lld) and this rank may use %lld MiB",
        (long long)(f.bytes >> 20), each, (long long)(f.logit_bytes >> 20),
        (long long)(budget_bytes >> 20));
}

static int load_voice(struct ensemble *s, int i, int64_t pages, struct err *e)
{
    struct weights *w = s->members.at[i].weights;
    struct voice *v = &s->voice[i];
    uint64_t any;
    int rc;
    v->conf.kv_pages = pages;
    if ((rc = model_create(s->conf.dev, &v->conf, &v->model, e)) ||
        (rc = model_load(v->model, w, e)) ||
        (v->beside &&
            (rc = adapters_load(
                 &v->adapter, &v->conf.config, w, s->conf.dev, v->beside, s->conf.page, &any, e))))
        return rc;
    log_info("member", LOG_S("name", s->members.at[i].is->name), LOG_S("path", weights_path(w)),
        LOG_I("parameters", model_parameters(v->model)), LOG_I("bytes", v->plan.total));
    return engine_create(v->model, &v->engine, e);
}

int ensemble_load(struct ensemble *s, int64_t pages, struct err *e)
{
    s->parts = mem_array((size_t)s->conf.parts, sizeof *s->parts);
    s->mean = mem_array((size_t)s->vocab, sizeof *s->mean);
    if (!s->parts || !s->mean)
        return err_set(e, ERR_MEMORY, "no memory for %d parts of a pass", s->conf.parts);
    int rc = shaper_create(s->conf.dev, s->vocab, &s->shaper, e);
    for (int i = 0; i < s->members.count && !rc; i++)
        if ((rc = load_voice(s, i, pages, e)))
            return name_member(s, i, e);
    members_release(&s->members);
    return rc ? rc : chorus_create(&s->says, &s->chorus, e);
}

/* -- passes -- */

static bool is_seen(const struct engine_part *p)
{
    return p->draw || p->logits;
}

static int64_t count_seen(const struct engine_part *parts, int n)
{
    int64_t seen = 0;
    for (int i = 0; i < n; i++)
        seen += is_seen(&parts[i]);
    return seen;
}

/* This rank's i-th member. */
static int run_voice(
    struct ensemble *s, int own, const struct engine_part *parts, int n, struct err *e)
{
    const struct voice *v = &s->voice[own];
    float *logits = chorus_own(s->chorus, own, count_seen(parts, n) * s->vocab);
    int64_t seen = 0;
    for (int i = 0; i < n; i++) {
        assert(!parts[i].adapter);
        s->parts[i] = parts[i];
        s->parts[i].adapter = v->beside ? 1 : 0;
        s->parts[i].draw = NULL;
        s->parts[i].logits = is_seen(&parts[i]) ? logits + seen++ * s->vocab : NULL;
    }
    return engine_run(v->engine, s->parts, n, e);
}

/* Of row `at` of the seen ones of each; what the part wants of their average. */
static int give(struct ensemble *s, struct engine_part *p, int64_t at, int64_t seen, struct err *e)
{
    static const struct shape as_it_is = {.plain = true, .repetition = 1};
    const float *x[LIMIT_MEMBERS];
    float *mean = p->logits ? p->logits : s->mean;
    for (int k = 0; k < s->says.members; k++)
        x[k] = chorus_at(s->chorus, k, seen * s->vocab) + at * s->vocab;
    average_logits(&(struct average_of){.what = s->conf.spec->serve.ensemble.average,
                       .count = s->says.members,
                       .x = x,
                       .n = s->vocab},
        mean);
    return p->draw ? shaper_draw(s->shaper, &as_it_is, p->draw, NULL, 0, 0, mean, &p->next, e) : 0;
}

int ensemble_run(struct ensemble *s, struct engine_part *parts, int n, struct err *e)
{
    int64_t seen = count_seen(parts, n), at = 0;
    int rc = 0;
    assert(n <= s->conf.parts);
    for (int k = 0; k < s->members.count && !rc; k++) {
        rc = run_voice(s, k, parts, n, e);
        beat(s->conf.page);
    }
    if (rc || (rc = chorus_gather(s->chorus, seen * s->vocab, e)) || s->conf.rank)
        return rc;
    for (int i = 0; i < n && !rc; i++)
        if (is_seen(&parts[i]))
            rc = give(s, &parts[i], at++, seen, e);
    return rc;
}

int ensemble_pass(
    struct ensemble *s, struct engine *g, struct engine_part *parts, int n, struct err *e)
{
    return s ? ensemble_run(s, parts, n, e) : engine_run(g, parts, n, e);
}
