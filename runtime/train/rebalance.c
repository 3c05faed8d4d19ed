/*
 * train/rebalance: shares of the batch by measured speed: what is timed, how all hear of it, and
 * what is told. Which shares follow is balance.c's. Before the first step products have been timed;
 * then a step's own forward and backward are, of which no part is waiting for another share: sums
 * over shares come behind it, or run beside it. Those that have a share together wait for each
 * other within it, so that its time is the longest of theirs.
 */
#include "runtime/train/balance.h"
#include "runtime/train/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <math.h>

#define SHARES_LISTED 8
#define GUESS_NS      1e6 /* of the fastest, where only products have been timed */

struct balanced {
    int parts;
    int64_t *counts;         /* (parts): of sequences */
    int64_t *spare;          /* (parts) */
    int64_t *ns;             /* (parts): of a sequence */
    int64_t *all;            /* (world): the same of each rank */
    double *figures, *other; /* (world) */
    int64_t times[BALANCE_STEPS];
    int timed;
    char found[160]; /* before the first step: who stands out; "": nobody */
    char text[LIMIT_REASON_BYTES];
};

/* all -> ns: of each share the longest. */
static void gather_parts(struct train *t)
{
    struct balanced *b = t->balanced;
    for (int i = 0; i < b->parts; i++)
        b->ns[i] = 0;
    for (int i = 0; i < t->orders->world; i++) {
        int64_t *ns = &b->ns[train_part_of(t, i)];
        *ns = b->all[i] > *ns ? b->all[i] : *ns;
    }
}

/* -- in words -- */

/* "rank 1 on node-b" */
static void name_rank(const struct train *t, int rank, char *out, size_t size)
{
    const char *node = t->orders->peers[rank].node;
    snprintf(out, size, *node ? "rank %d on %.40s" : "rank %d", rank, node);
}

/* Whose device or link is slower than the others' by far: is told, and found. figures: seconds of
   what is told in units of `what`. */
static void find_odd(struct train *t, const char *what, double unit)
{
    struct balanced *b = t->balanced;
    char rank[64];
    double median;
    int odd = balance_odd(t->orders->world, b->figures, b->other, &median);
    if (odd < 0 || !(median > 0))
        return;
    name_rank(t, odd, rank, sizeof rank);
    snprintf(b->found, sizeof b->found, "%s: %.3g %s, the median is %.3g", rank,
        1 / b->figures[odd] / unit, what, 1 / median / unit);
    if (train_leads(t))
        log_warn("a rank stands out", LOG_S("because", b->found));
}

static void find_odd_one(struct train *t, const struct speed_rank *each)
{
    double *figures = t->balanced->figures;
    for (int i = 0; i < t->orders->world; i++)
        figures[i] = 1 / each[i].memory_bytes_per_s;
    find_odd(t, "GB/s of memory", 1e9);
    for (int i = 0; i < t->orders->world; i++)
        figures[i] = each[i].link_bytes_per_s > 0 ? 1 / each[i].link_bytes_per_s : 1;
    find_odd(t, "GB/s to others", 1e9);
    for (int i = 0; i < t->orders->world; i++)
        figures[i] = 1 / each[i].flops_per_s;
    find_odd(t, "TFLOP/s", 1e12);
}

static void find_extremes(const struct balanced *b, int64_t *least, int64_t *most)
{
    *least = *most = b->counts[0];
    for (int i = 1; i < b->parts; i++) {
        *least = b->counts[i] < *least ? b->counts[i] : *least;
        *most = b->counts[i] > *most ? b->counts[i] : *most;
    }
}

/* "a step's 8 sequences: 6 2"; of many the least and the most. */
static int write_shares(const struct train *t, char *out, size_t size)
{
    const struct balanced *b = t->balanced;
    int n = snprintf(out, size, "a step's %d sequences: ", t->spec->train.batch_sequences);
    int64_t least, most;
    find_extremes(b, &least, &most);
    for (int i = 0; i < b->parts && b->parts <= SHARES_LISTED; i++)
        n += snprintf(out + n, size - (size_t)n, "%s%lld", i ? " " : "", (long long)b->counts[i]);
    if (b->parts > SHARES_LISTED)
        n += snprintf(out + n, size - (size_t)n, "%d shares of %lld to %lld", b->parts,
            (long long)least, (long long)most);
    return n;
}

/* "stages of 5 3 layers; " where they are not even. */
static int write_stages(const struct train *t, char *out, size_t size)
{
    const int64_t *layers = t->plan.stage_layers;
    int n = *layers ? snprintf(out, size, "stages of") : 0, stages = t->plan.layout.pp;
    for (int i = 0; *layers && i < stages && i < SHARES_LISTED; i++)
        n += snprintf(out + n, size - (size_t)n, " %lld", (long long)layers[i]);
    if (*layers)
        n += snprintf(
            out + n, size - (size_t)n, "%s layers; ", stages > SHARES_LISTED ? " ..." : "");
    return n;
}

/* What was timed last: found, or who takes longest for a sequence. */
static void write_text(struct train *t, bool steps)
{
    struct balanced *b = t->balanced;
    int n = write_stages(t, b->text, sizeof b->text), world = t->orders->world;
    n += write_shares(t, b->text + n, sizeof b->text - (size_t)n);
    size_t left = sizeof b->text - (size_t)n;
    char rank[64];
    double median;
    if (!steps && *b->found)
        snprintf(b->text + n, left, "; %s", b->found);
    if (!steps)
        return;
    for (int i = 0; i < world; i++)
        b->figures[i] = (double)b->all[i];
    int odd = balance_odd(world, b->figures, b->other, &median);
    if (odd < 0)
        return;
    name_rank(t, odd, rank, sizeof rank);
    snprintf(b->text + n, left, "; %s computes one in %.3g ms, the median is %.3g", rank,
        1e-6 * b->figures[odd], 1e-6 * median);
}

int train_tell_balance(struct train *t, struct err *e)
{
    const struct balanced *b = t->balanced;
    int64_t least, most;
    int rc;
    if (!b || !train_leads(t))
        return 0;
    find_extremes(b, &least, &most);
    log_info("shares", LOG_I("step", t->state.step), LOG_S("because", b->text));
    if ((rc = train_tell_metric(t, "sequences/least", (double)least, e)) ||
        (rc = train_tell_metric(t, "sequences/most", (double)most, e)) ||
        (rc = train_log_metrics(t,
             (struct door_field[]){{"step", (double)t->state.step, NULL},
                 {"leastSequences", (double)least, NULL}, {"mostSequences", (double)most, NULL},
                 {NULL, 0, NULL}},
             e)))
        return rc;
    return train_tell(t, WIRE_BALANCED,
        (struct door_field[]){
            {"step", (double)t->state.step, NULL}, {"text", 0, b->text}, {NULL, 0, NULL}},
        e);
}

/* -- what is timed -- */

int train_time_step(struct train *t, int64_t start_ns, struct err *e)
{
    struct balanced *b = t->balanced;
    struct coll *const groups[] = {t->tensor, t->pipeline, t->context};
    int64_t first, count;
    int rc = 0;
    /* No other wait has a deadline. */
    for (size_t i = 0; i < sizeof groups / sizeof *groups && !rc; i++)
        rc = groups[i] ? coll_reduce_wait(groups[i], e) : 0;
    if (rc || (rc = dev_sync(t->dev, e)))
        return rc;
    train_balanced_share(t, &first, &count);
    b->times[b->timed++ % BALANCE_STEPS] = (clock_ns() - start_ns) / count;
    return 0;
}

int train_rebalance(struct train *t, struct err *e)
{
    struct balanced *b = t->balanced;
    int n = b->timed < BALANCE_STEPS ? b->timed : BALANCE_STEPS;
    if (b->parts < 2 || n < BALANCE_STEPS / 2)
        return 0;
    int64_t mine = balance_median(b->times, n);
    b->timed = 0;
    int rc = coll_allgather(t->coll, &mine, sizeof mine, b->all, e);
    if (rc)
        return rc;
    gather_parts(t);
    int64_t batch = t->spec->train.batch_sequences;
    if (!balance_change(batch, b->parts, b->ns, BALANCE_GAIN, b->counts, b->spare))
        return 0;
    write_text(t, true);
    beat_share(t->door->page, b->counts[train_part(t)]);
    return train_tell_balance(t, e);
}

/* -- life -- */

void train_balanced_share(const struct train *t, int64_t *first, int64_t *count)
{
    const struct balanced *b = t->balanced;
    int part = train_part(t);
    *first = 0;
    for (int i = 0; i < part; i++)
        *first += b->counts[i];
    *count = b->counts[part];
}

/* From products alone. */
static void guess(struct train *t, const struct speed_rank *each)
{
    struct balanced *b = t->balanced;
    double fastest = 0;
    for (int i = 0; i < t->orders->world; i++)
        fastest = fmax(fastest, each[i].flops_per_s);
    for (int i = 0; i < t->orders->world; i++)
        b->all[i] = (int64_t)(GUESS_NS * fastest / each[i].flops_per_s);
    gather_parts(t);
    (void)balance_change(
        t->spec->train.batch_sequences, b->parts, b->ns, BALANCE_GUESS, b->counts, b->spare);
}

int train_open_balance(struct train *t, const struct speed_rank *each, struct err *e)
{
    struct balanced *b = t->balanced = mem_zalloc(sizeof *b);
    if (!b)
        return err_set(e, ERR_MEMORY, "no memory for shares of the batch");
    size_t world = (size_t)t->orders->world, parts = (size_t)train_parts(t);
    b->parts = train_parts(t);
    b->counts = mem_array(parts, sizeof *b->counts);
    b->spare = mem_array(parts, sizeof *b->spare);
    b->ns = mem_array(parts, sizeof *b->ns);
    b->all = mem_array(world, sizeof *b->all);
    b->figures = mem_array(world, sizeof *b->figures);
    b->other = mem_array(world, sizeof *b->other);
    if (!b->counts || !b->spare || !b->ns || !b->all || !b->figures || !b->other)
        return err_set(e, ERR_MEMORY, "no memory for shares of the batch");
    for (int i = 0; i < b->parts; i++) {
        int64_t first;
        data_share(t->spec->train.batch_sequences, b->parts, i, &first, &b->counts[i]);
    }
    find_odd_one(t, each);
    guess(t, each);
    write_text(t, false);
    beat_share(t->door->page, b->counts[train_part(t)]);
    return 0;
}

void train_close_balance(struct train *t)
{
    struct balanced *b = t->balanced;
    if (!b)
        return;
    mem_free(b->counts);
    mem_free(b->spare);
    mem_free(b->ns);
    mem_free(b->all);
    mem_free(b->figures);
    mem_free(b->other);
    mem_free(b);
}
