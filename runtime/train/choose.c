/*
 * choose: of each layout one sequence a micro-batch is tried, two, four and so on, as far as the
 * device and memory go; its time is that of the fastest.
 */
#include "runtime/train/choose.h"

#include "base/mem.h"

#include <stdlib.h>

void choose_text(const struct layout_choice *c, char out[CHOOSE_TEXT_BYTES])
{
    char layout[LAYOUT_TEXT_BYTES];
    layout_text(&c->plan.layout, layout);
    int n = snprintf(out, CHOOSE_TEXT_BYTES, "%s", layout);
    if (c->plan.chunks > 1)
        n += snprintf(out + n, CHOOSE_TEXT_BYTES - (size_t)n, " v%d", c->plan.chunks);
    if (c->plan.owners > 1)
        snprintf(out + n, CHOOSE_TEXT_BYTES - (size_t)n, " zero%d", c->zero_stage);
}

static int most_of(int told, int most)
{
    return told > 0 ? told : most > 1 ? most : 1;
}

static int first_of(int told)
{
    return told > 0 ? told : 1;
}

static int last_stage(const struct planner_input *in)
{
    return in->zero_stage ? in->zero_stage : in->most.zero_stage;
}

bool choose_may(const struct planner_input *in)
{
    return in->world > 1 &&
        ((!in->tensor && in->most.tensor > 1) || (!in->pipeline && in->most.pipeline > 1) ||
            (!in->zero_stage && in->most.zero_stage));
}

/* -- one of them -- */

/* ERR_USER: it cannot be. */
static int try_one(const struct planner_input *in, const struct cost_speed *s,
    struct layout_choice *c, struct err *e)
{
    struct planner_input told = *in;
    told.tensor = c->tensor;
    told.pipeline = c->pipeline;
    told.zero_stage = c->zero_stage;
    for (int64_t micro = 1;; micro *= 2) {
        struct planner_plan p;
        struct cost cost;
        int rc = planner_with(&told, micro, &p, e);
        if (rc)
            return rc;
        bool fits = !memplan_require(&p.memory, in->budget_bytes, c->fits ? NULL : &c->why);
        if (!fits && c->fits)
            return 0;
        cost_step(&told, &p, s, &cost);
        if (!c->fits || cost.total < c->cost.total) {
            c->plan = p;
            c->cost = cost;
        }
        c->fits = fits;
        if (!fits || p.micro_sequences < micro)
            return 0;
    }
}

/* -- all -- */

static int by_time(const void *a, const void *b)
{
    const struct layout_choice *x = a, *y = b;
    if (x->fits != y->fits)
        return y->fits - x->fits;
    if (x->cost.total != y->cost.total)
        return x->cost.total < y->cost.total ? -1 : 1;
    if (x->zero_stage != y->zero_stage)
        return x->zero_stage - y->zero_stage;
    return x->tensor != y->tensor ? x->tensor - y->tensor : x->pipeline - y->pipeline;
}

/* Tries it, and keeps it where it can be; first: the words of the first that cannot. */
static int add_one(const struct planner_input *in, const struct cost_speed *s, int tensor,
    int pipeline, int zero_stage, struct choices *out, struct err *first, struct err *e)
{
    struct layout_choice c = {.tensor = tensor, .pipeline = pipeline, .zero_stage = zero_stage};
    struct err why = {.code = ERR_NONE};
    int rc = try_one(in, s, &c, &why);
    if (rc == -ERR_USER) {
        *first = first->code == ERR_NONE ? why : *first;
        return 0;
    }
    if (rc) {
        *e = why;
        return rc;
    }
    struct layout_choice *more = mem_grow(out->at, (size_t)out->count + 1, sizeof *more);
    if (!more)
        return err_set(e, ERR_MEMORY, "no memory to compare layouts");
    out->at = more;
    out->at[out->count++] = c;
    out->fitting += c.fits;
    return 0;
}

static int add_all(const struct planner_input *in, const struct cost_speed *s, struct choices *out,
    struct err *first, struct err *e)
{
    int tensors = most_of(in->tensor, in->most.tensor), rc;
    int pipelines = most_of(in->pipeline, in->most.pipeline);
    for (int tp = first_of(in->tensor); tp <= tensors && tp <= in->world; tp++) {
        for (int pp = first_of(in->pipeline); pp <= pipelines && pp <= in->world / tp; pp++) {
            if (in->world % (tp * pp))
                continue;
            bool alone = in->world == tp * pp; /* a data axis of one divides nothing */
            bool shared = tp * pp > 1;         /* nor do ranks that share more than their state */
            int stages = alone ? in->zero_stage : last_stage(in);
            if (shared && stages > 1)
                stages = in->zero_stage > 1 ? 0 : 1;
            for (int zero = in->zero_stage; zero <= stages; zero++)
                if ((rc = add_one(in, s, tp, pp, zero, out, first, e)))
                    return rc;
        }
    }
    return 0;
}

int choose_layouts(
    const struct planner_input *in, const struct cost_speed *s, struct choices *out, struct err *e)
{
    struct err first = {.code = ERR_NONE};
    struct choices all = {NULL};
    int rc = add_all(in, s, &all, &first, e);
    if (!rc && !all.count)
        rc = first.code != ERR_NONE
            ? err_set(e, first.code, "%s", first.text)
            : err_set(e, ERR_USER, "spec.parallelism: no layout fills %d ranks", in->world);
    if (rc) {
        mem_free(all.at);
        return rc;
    }
    qsort(all.at, (size_t)all.count, sizeof *all.at, by_time);
    *out = all;
    return 0;
}

void choose_done(struct choices *c)
{
    mem_free(c->at);
    *c = (struct choices){NULL};
}

/* -- the one -- */

/* The one of which nothing open is used; NULL: it is not legal. */
static const struct layout_choice *find_told(
    const struct planner_input *in, const struct choices *all)
{
    for (int i = 0; i < all->count; i++) {
        const struct layout_choice *c = &all->at[i];
        if (c->tensor == first_of(in->tensor) && c->pipeline == first_of(in->pipeline) &&
            c->zero_stage == in->zero_stage)
            return c;
    }
    return NULL;
}

static void write_reason(const struct planner_input *in, const struct choices *all, char *out)
{
    const struct layout_choice *best = &all->at[0], *told = find_told(in, all);
    char text[CHOOSE_TEXT_BYTES], why[96] = "";
    if (told) {
        choose_text(told, text);
        snprintf(why, sizeof why, "%.48s needs %lld MiB of %lld; ", text,
            (long long)(told->plan.memory.total >> 20), (long long)(in->budget_bytes >> 20));
    }
    choose_text(best, text);
    snprintf(out, LIMIT_REASON_BYTES,
        "%s%.48s is predicted to be the fastest of %d that fit, of %d: %.3g s a step", why, text,
        all->fitting, all->count, best->cost.total);
}

/* The one of all that takes least. */
static int refuse(const struct choices *all, const struct err *told, struct err *e)
{
    const struct layout_choice *least = &all->at[0];
    for (int i = 1; i < all->count; i++)
        if (all->at[i].plan.memory.total < least->plan.memory.total)
            least = &all->at[i];
    char text[CHOOSE_TEXT_BYTES];
    choose_text(least, text);
    return err_set(e, ERR_MEMORY, "%.150s; %s, the least of %d layouts, takes %lld MiB", told->text,
        text, all->count, (long long)(least->plan.memory.total >> 20));
}

int choose_plan(struct planner_input *in, const struct cost_speed *s, const struct err *told,
    struct planner_plan *out, struct err *e)
{
    struct choices all;
    struct err none = {.code = ERR_NONE};
    int rc = choose_layouts(in, s, &all, &none);
    if (rc) {
        *e = rc == -ERR_USER ? *told : none;
        return -(int)e->code;
    }
    if (all.fitting) {
        const struct layout_choice *best = &all.at[0];
        *out = best->plan;
        write_reason(in, &all, out->reason);
        in->tensor = best->tensor;
        in->pipeline = best->pipeline;
        in->zero_stage = best->zero_stage;
    } else {
        rc = refuse(&all, told, e);
    }
    choose_done(&all);
    return rc;
}
