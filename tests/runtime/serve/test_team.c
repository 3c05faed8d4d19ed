/*
 * Goal: what rank 0 of a team tells is what the others run, whatever its length; ranks of another
 * layout, of another model or of too little memory are refused by name; and a rank that is gone
 * ends the others' waits. Method: worlds of real processes over tiny-llama; the tokens that a team
 * draws in passes of one row, of a few and of as many as there may be are those of an engine alone.
 * Whole schedules are test_batcher.c's.
 */
#include "runtime/serve/team.h"

#include "runtime/model/kvcache.h"
#include "tests/runtime/coll/ranks.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <unistd.h>

#define MODEL   GOLDEN "tiny-llama"
#define CONTEXT 64
#define PARTS   24

static struct err e;
static struct layout layout;
static struct wire_page page;

struct member {
    struct team *team; /* NULL: alone */
    struct weights *w;
    struct model *m;
    struct engine *g;
    int64_t pages;
};

static int open_team(struct coll *c, int rank, int size, struct team **out)
{
    static struct jobspec spec = {.task = TASK_SERVE};
    const struct orders o = {.spec = &spec, .rank = rank, .world = size};
    spec.parallelism.tensor = layout.tp;
    spec.parallelism.pipeline = layout.pp;
    return team_open(c, &o, out, &e);
}

/* As infer opens it. */
static int open_member(struct member *s, uint64_t digest)
{
    struct model_conf c = {.t = DTYPE_F32, .kv_capacity = CONTEXT, .kv_pages = s->pages};
    int rc = weights_open(MODEL, NULL, &s->w, &e);
    if (rc)
        return rc;
    c.config = *weights_config(s->w);
    if ((rc = team_share(s->team, &c, &e)) ||
        (rc = team_agree(s->team, digest, PARTS, CONTEXT, &c.kv_pages, &e)) ||
        (rc = model_create(ranks_device, &c, &s->m, &e)) || (rc = model_load(s->m, s->w, &e)))
        return rc;
    s->pages = c.kv_pages;
    return engine_create(s->m, &s->g, &e);
}

static void close_member(struct member *s)
{
    team_close(s->team);
    engine_destroy(s->g);
    model_destroy(s->m);
    weights_close(s->w);
}

/* -- passes -- */

/* `n` sequences of `count` tokens each, by all and by one. */
static int compare_pass(const struct member *all, const struct member *alone, int n, int64_t count)
{
    static const struct sample_draw greedy = {.top_p = 1};
    static int32_t ids[PARTS][CONTEXT], pages[PARTS][CONTEXT / KVCACHE_PAGE];
    struct engine_part is[PARTS], want[PARTS];
    int64_t vocab = model_vocab(alone->m), each = kvcache_pages(count);
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < count; k++)
            ids[i][k] = (int32_t)((i * 41 + k * 7 + 3) % vocab);
        for (int k = 0; k < each; k++)
            pages[i][k] = (int32_t)(all->pages - 1 - (i * each + k));
        is[i] = (struct engine_part){
            .ids = ids[i], .count = count, .pages = pages[i], .draw = i % 3 ? &greedy : NULL};
        want[i] = is[i];
    }
    is[0].draw = want[0].draw = &greedy;
    if (team_tell(all->team, is, n, &e) || engine_run(all->g, is, n, &e) ||
        engine_run(alone->g, want, n, &e))
        return 1;
    for (int i = 0; i < n; i++)
        if (is[i].draw && is[i].next != want[i].next) {
            fprintf(
                stderr, "%d x %d: token %d, alone %d\n", n, (int)count, is[i].next, want[i].next);
            return 2;
        }
    return 0;
}

static int lead(const struct member *s)
{
    struct member alone = {.pages = s->pages};
    int step = open_member(&alone, 0) || team_rest(s->team, &e) ? 10 : 0;
    if (!step && !(step = compare_pass(s, &alone, 1, 1)) &&
        !(step = compare_pass(s, &alone, 5, 9)) && !(step = compare_pass(s, &alone, 4, CONTEXT)) &&
        !(step = compare_pass(s, &alone, PARTS, 10)))
        step = team_rest(s->team, &e) || team_end(s->team, &e) ? 11 : 0;
    close_member(&alone);
    return step;
}

/* The last rank has the smallest cache, which becomes everybody's. */
static int pass_body(struct coll *c, int rank, const struct ranks *w)
{
    struct member s = {.pages = PARTS + 40 - rank};
    int step = open_team(c, rank, w->size, &s.team) || open_member(&s, 7) ? 20 : 0;
    if (!step && s.pages != PARTS + 41 - w->size)
        step = 21;
    if (!step && team_leads(s.team) != (rank == 0))
        step = 22;
    if (!step && rank == 0)
        step = lead(&s);
    else if (!step && team_follow(s.team, s.g, NULL, &page, &e) != -ERR_DRAINED)
        step = 23;
    if (rank && !step && atomic_load(&page.phase) != WIRE_PHASE_SERVE_IDLE)
        step = 24; /* of the last rest */
    if (step)
        fprintf(stderr, "rank %d: step %d, %s\n", rank, step, e.text);
    close_member(&s);
    return step;
}

static void run(int tensor, int pipeline, ranks_body_fn *body)
{
    layout = (struct layout){1, tensor, pipeline, 1, 1};
    ranks_run(
        (struct ranks){
            .size = tensor * pipeline, .replica = {0, 0, 1, 1}, .timeout_ms = 10000, .kind = "cpu"},
        body);
}

START_TEST(all_run_what_rank_0_tells)
{
    run(2, 1, pass_body);
    run(1, 2, pass_body);
    run(2, 2, pass_body);
}
END_TEST

/* -- ends -- */

/* What was read beside the model must be the same; and no message is believed. */
static int adapters_body(struct coll *c, int rank, const struct ranks *w)
{
    static const int32_t ids[1], pages[1];
    const struct engine_part part = {.ids = ids, .count = 1, .pages = pages, .adapter = 1};
    struct member s = {.pages = 40};
    int step = open_team(c, rank, w->size, &s.team) || open_member(&s, 7) ? 1 : 0;
    if (!step && (team_compare(s.team, 5, &e) || team_compare(NULL, 5, &e)))
        step = 2;
    if (!step && team_compare(s.team, (uint64_t)rank, &e) != -ERR_USER)
        step = 3;
    if (!step && rank == 0)
        step = team_tell(s.team, &part, 1, &e) ? 4 : 0;
    else if (!step && team_follow(s.team, s.g, NULL, NULL, &e) != -ERR_BUG)
        step = 5;
    if (!step && rank && !strstr(e.text, "rank 0 tells of adapter 1 of 0"))
        step = 6;
    if (step)
        fprintf(stderr, "rank %d: step %d, %s\n", rank, step, e.text);
    close_member(&s);
    return step;
}

START_TEST(adapters_are_compared)
{
    run(2, 1, adapters_body);
}
END_TEST

static int other_model_body(struct coll *c, int rank, const struct ranks *w)
{
    struct member s = {.pages = 40};
    bool right = !open_team(c, rank, w->size, &s.team) &&
        open_member(&s, (uint64_t)rank) == -ERR_USER && strstr(e.text, "reads another model");
    close_member(&s);
    return right ? 0 : 1;
}

static int gone_body(struct coll *c, int rank, const struct ranks *w)
{
    struct member s = {.pages = 40};
    if (open_team(c, rank, w->size, &s.team) || open_member(&s, 7))
        return 1;
    if (rank == 0)
        _exit(0); /* without a word */
    int rc = team_follow(s.team, s.g, NULL, NULL, &e);
    close_member(&s);
    return rc == -ERR_PEER ? 0 : 2;
}

START_TEST(what_is_amiss_ends_all)
{
    run(2, 1, other_model_body);
    run(2, 1, gone_body);
    run(2, 2, gone_body);
}
END_TEST

/* -- refusals -- */

START_TEST(a_layout_has_as_many_ranks_as_there_are)
{
    struct team *team;
    layout = (struct layout){1, 1, 1, 1, 1};
    ck_assert(!open_team(NULL, 0, 1, &team));
    ck_assert(!team && team_leads(team));
    ck_assert_int_eq(open_team(NULL, 0, 2, &team), -ERR_USER);
    ck_assert_str_eq(
        e.text, "spec.parallelism: tensor x pipeline is 1, and 2 ranks are to serve the model");
    layout.tp = 2;
    ck_assert_int_eq(open_team(NULL, 0, 3, &team), -ERR_USER);
}
END_TEST

START_TEST(who_has_too_little_memory_is_told_what_to_write)
{
    struct model_conf c = {.t = DTYPE_F32, .kv_capacity = CONTEXT};
    const struct layout two = {1, 2, 1, 1, 1};
    struct memplan whole, half;
    struct weights *w;
    ck_assert(!weights_open(MODEL, NULL, &w, &e));
    c.config = *weights_config(w);
    ck_assert(!memplan_model(&c, w, &whole, &e) && !group_measure(&two, &c, w, &half, &e));
    ck_assert_int_lt(half.total, whole.total);
    ck_assert(!team_require(&whole, whole.total, &c, w, &e));
    ck_assert_int_eq(team_require(&whole, whole.total - 1, &c, w, &e), -ERR_MEMORY);
    ck_assert_msg(strstr(e.text,
                      "; with spec.parallelism {tensor: 2, pipeline: 1} each of 2 ranks "
                      "needs ") != NULL,
        "%s", e.text);
    ck_assert_int_eq(team_require(&whole, 1, &c, w, &e), -ERR_MEMORY);
    ck_assert(!strstr(e.text, "parallelism"));
    weights_close(w);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){.name = "team", .timeout_s = 120},
        (const TTest *const[]){all_run_what_rank_0_tells, adapters_are_compared,
            what_is_amiss_ends_all, a_layout_has_as_many_ranks_as_there_are,
            who_has_too_little_memory_is_told_what_to_write, NULL});
}
