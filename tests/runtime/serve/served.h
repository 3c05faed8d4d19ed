/*
 * served: models whose requests are batched, with what stands beside them: adapters, a draft, the
 * members of an ensemble, a share of a team. One of each program.
 */
#ifndef TESTS_RUNTIME_SERVE_SERVED_H
#define TESTS_RUNTIME_SERVE_SERVED_H

#include "runtime/convert/adapters.h"
#include "runtime/model/beside.h"
#include "runtime/model/kvcache.h"
#include "runtime/serve/batcher.h"
#include "runtime/serve/draft.h"
#include "runtime/serve/ensemble.h"
#include "runtime/serve/loras.h"
#include "runtime/serve/team.h"
#include "tests/runtime/coll/ranks.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/peft.h"
#include "tests/runtime/shapes.h"
#include "tests/unit.h"

#define CONTEXT 96
#define MOST    7

static struct err e;
static const char *const folders[] = {GOLDEN "tiny-llama", GOLDEN "tiny-gpt2", GOLDEN "tiny-qwen2",
    GOLDEN "tiny-qwen3", GOLDEN "tiny-mistral", GOLDEN "tiny-qwen3-moe"};
#define BLOCKS   ((int)(sizeof folders / sizeof *folders)) /* its cache has the type Q8_0 */
#define FAMILIES (BLOCKS + 1)

/* Of the rank that serves all. */
#define ADAPTERS 2
static char adapter_folder[64];

struct served {
    struct team *team; /* NULL: it has the whole model */
    struct beside *beside;
    struct loras *loras; /* NULL: all adapters are there */
    struct jobspec_serve spec;
    struct inbox *inbox; /* that loras wakes */
    struct dev *d;
    struct weights *w;
    struct model *m;
    struct engine *engine;
    struct ensemble *ensemble; /* in place of the last two; or NULL */
    struct tok *tok;           /* its */
    struct draft *draft;       /* the same model in another precision; or NULL */
    int64_t context, pages;
};

/* The folder of a family's model; that of BLOCKS is written when it is first asked for. */
static inline const char *folder_of(int family)
{
    static char blocks[96];
    if (family != BLOCKS)
        return folders[family];
    if (!*blocks) {
        const struct model_config c = shape_of("small-llama");
        snprintf(blocks, sizeof blocks, "%s/blocks", adapter_folder);
        ck_assert_msg(!shape_write(blocks, &c, DTYPE_F32, &e), "%s", e.text);
    }
    return blocks;
}

/* What of the adapters s is to have: all, all of which one is there at a time, or one alone; 0:
   none. */
enum { ALL_ADAPTERS = -1, ONE_AT_A_TIME = -2 };

static inline struct jobspec_serve adapters_of(const struct model_config *c, int which)
{
    static char path[ADAPTERS][96], written[32]; /* for whom; ranks of a world only read them */
    static const char *const names[ADAPTERS] = {"a", "b"};
    static struct jobspec_served_adapter named[1 + ADAPTERS][ADAPTERS];
    struct jobspec_serve s = {.adapters = named[which < 0 ? 0 : which]};
    bool there = !strcmp(written, c->architecture);
    for (int i = 0; i < ADAPTERS; i++) {
        snprintf(path[i], sizeof path[i], "%s/%s-%s", adapter_folder, c->architecture, names[i]);
        const struct peft p = {.folder = path[i],
            .config = c,
            .targets = i ? NULL : "q_proj v_proj",
            .rank = 2 + 3 * i,
            .seed = (uint64_t)i + 1,
            .type = i ? DTYPE_BF16 : DTYPE_F32,
            .dora = i};
        if (!there)
            peft_write(&p);
        if (which < 0 || which == i + 1)
            s.adapters[s.adapter_count++] = (struct jobspec_served_adapter){names[i], path[i]};
    }
    snprintf(written, sizeof written, "%s", c->architecture);
    return s;
}

/* The greatest has room. */
static inline void limit_adapters(struct served *s)
{
    const struct model_config *c = weights_config(s->w);
    struct beside *all;
    ck_assert_msg(!adapters_describe(&s->spec, c, &all, &e), "%s", e.text);
    for (int i = 0; i < ADAPTERS; i++) {
        int64_t bytes = beside_bytes_of(all, i, c);
        s->spec.adapter_memory = bytes > s->spec.adapter_memory ? bytes : s->spec.adapter_memory;
    }
    beside_destroy(all);
    ck_assert(!inbox_create(1, &s->inbox, &e));
    ck_assert(!beside_create(c, LORAS_PLACES, s->spec.adapter_memory, &s->beside, &e));
}

static inline void describe_adapters(struct served *s, struct model_conf *c, int which)
{
    s->spec = adapters_of(weights_config(s->w), which);
    if (which == ONE_AT_A_TIME) {
        limit_adapters(s);
        c->beside = s->beside;
        return;
    }
    uint64_t digest;
    ck_assert_msg(!adapters_describe(&s->spec, weights_config(s->w), &s->beside, &e), "%s", e.text);
    ck_assert_msg(!adapters_load(&s->spec, &c->config, s->w, s->d, s->beside, NULL, &digest, &e),
        "%s", e.text);
    c->beside = s->beside;
}

/* By a rank of a team, or NULL. */
static inline struct served served_share(
    struct team *team, int family, enum dtype t, int64_t pages, int adapters)
{
    struct model_conf c = {.t = t, .kv_cache = family == BLOCKS ? KV_CACHE_Q8_0 : KV_CACHE_AUTO};
    struct served s = {.team = team, .pages = pages, .d = ranks_device};

    ck_assert_msg(team || !dev_open("cpu", 0, 1, &s.d, &e), "%s", e.text);
    ck_assert_msg(!weights_open(folder_of(family), NULL, &s.w, &e), "%s", e.text);
    c.config = *weights_config(s.w);
    s.context = c.config.context < CONTEXT ? c.config.context : CONTEXT;
    if (s.pages < kvcache_pages(s.context))
        s.pages = kvcache_pages(s.context);
    c.kv_capacity = s.context;
    c.kv_pages = s.pages;
    ck_assert_msg(!team_share(team, &c, &e), "%s", e.text);
    if (adapters)
        describe_adapters(&s, &c, adapters);
    ck_assert_msg(!team_agree(team, weights_digest(s.w), batcher_parts(MOST, true), s.context,
                      &c.kv_pages, &e),
        "%s", e.text);
    ck_assert_msg(!model_create(s.d, &c, &s.m, &e), "%s", e.text);
    ck_assert_msg(!model_load(s.m, s.w, &e), "%s", e.text);
    ck_assert_msg(!engine_create(s.m, &s.engine, &e), "%s", e.text);
    return s;
}

/* s, which stands still now, loads them when they are wanted. */
static inline void served_load_wanted(struct served *s)
{
    const struct loras_conf c = {
        &s->spec, weights_config(s->w), s->w, s->d, s->beside, s->inbox, .late_ms = 0};
    ck_assert_msg(!loras_create(&c, &s->loras, &e), "%s", e.text);
}

static inline void open_draft(struct served *s, int family, enum dtype t)
{
    const struct draft_conf c = {.source = folder_of(family),
        .t = t == DTYPE_F32 ? DTYPE_BF16 : DTYPE_F32,
        .vocab = weights_config(s->w)->vocab,
        .context = s->context};
    ck_assert_msg(!draft_open(&c, &s->draft, &e), "%s", e.text);
    ck_assert_msg(!draft_load(s->draft, s->d, s->pages, NULL, &e), "%s", e.text);
}

static inline struct served served_open(int family, enum dtype t, int64_t pages, int adapters)
{
    return served_share(NULL, family, t, pages, adapters);
}

/* Of the members of s, whose files are there. */
static inline struct served served_members(
    struct team *team, struct coll *c, int rank, const struct jobspec *spec, int64_t pages)
{
    struct model_conf any = {.t = DTYPE_F32};
    struct served s = {
        .team = team, .d = ranks_device, .context = spec->serve.context_length, .pages = pages};
    ck_assert_msg(team || !dev_open("cpu", 0, 1, &s.d, &e), "%s", e.text);
    ck_assert_msg(!weights_open(spec->model.source, NULL, &s.w, &e), "%s", e.text);
    ck_assert_msg(!tok_open(s.w, &s.tok, &e), "%s", e.text);
    if (s.pages < kvcache_pages(s.context))
        s.pages = kvcache_pages(s.context);
    any.config = *weights_config(s.w);
    ck_assert_msg(!team_share(team, &any, &e), "%s", e.text);
    const struct ensemble_conf conf = {.spec = spec,
        .weights = s.w,
        .tok = s.tok,
        .dev = s.d,
        .parts = (int)batcher_parts(MOST, true),
        .coll = c,
        .rank = rank};
    ck_assert_msg(!ensemble_open(&conf, &s.ensemble, &e), "%s", e.text);
    ck_assert_msg(
        !team_agree(team, weights_digest(s.w), conf.parts, s.context, &s.pages, &e), "%s", e.text);
    ck_assert_msg(!ensemble_load(s.ensemble, s.pages, &e), "%s", e.text);
    return s;
}

static inline void served_close(struct served *s)
{
    ck_assert(loras_destroy(s->loras));
    inbox_destroy(s->inbox);
    ensemble_destroy(s->ensemble);
    tok_close(s->tok);
    draft_close(s->draft);
    engine_destroy(s->engine);
    model_destroy(s->m);
    beside_destroy(s->beside);
    weights_close(s->w);
    if (!s->team)
        dev_close(s->d);
}

#endif
