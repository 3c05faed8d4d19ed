/*
 * rounds: a rank leaves zeroes in the places of others, and all places are summed as whole numbers,
 * of which none changes another: so doubles travel as they are.
 */
#include "runtime/evaluate/rounds.h"

#include "base/clock.h"
#include "base/mem.h"
#include "runtime/data/data.h"
#include "runtime/door/beat.h"

#include <string.h>

#define ITEMS 4 /* of a part in a round: unlike ones even out, and a stop is heard soon */

#define WORDS ((int64_t)(sizeof(struct rounds_item) / sizeof(int32_t)))

static int look(const struct rounds *r, int64_t from, int64_t n, rounds_item_fn *item_fn,
    void *user, struct rounds_item *found, int32_t *stop, struct err *e)
{
    int64_t first, count;
    data_share(n, r->parts, r->part, &first, &count);
    beat_phase(r->door->page, WIRE_PHASE_EVALUATE);
    for (int64_t i = from + first; i < from + first + count; i++) {
        if (!r->together && atomic_load(&r->door->stop))
            break;
        struct err why = {0};
        struct rounds_item item = {0};
        int rc = item_fn(user, i, &item, &why);
        if (rc == -ERR_DRAINED) {
            *stop = 1;
            return 0;
        }
        if (rc && e)
            *e = why;
        if (rc)
            return rc;
        if (r->counts)
            found[i] = item;
    }
    *stop = atomic_load(&r->door->stop);
    return 0;
}

/* words: room for a round, and one more. */
static int exchange(const struct rounds *r, int64_t n, struct rounds_item *found, int32_t *words,
    int32_t stop, struct err *e)
{
    words[0] = stop;
    memcpy(words + 1, found, (size_t)n * sizeof *found);
    int rc = coll_allreduce(r->coll, words, 1 + n * WORDS, DTYPE_I32, COLL_SUM, e);
    if (rc)
        return rc;
    memcpy(found, words + 1, (size_t)n * sizeof *found);
    return words[0] ? err_set(e, ERR_DRAINED, "stopped on request") : 0;
}

struct rounds_item rounds_sum(const struct rounds_item *found, int64_t n)
{
    struct rounds_item sum = {0};
    for (int64_t i = 0; i < n; i++) {
        sum.loss += found[i].loss;
        sum.labels += found[i].labels;
        sum.tokens += found[i].tokens;
        for (int k = 0; k < 3; k++)
            sum.extra[k] += found[i].extra[k];
    }
    return sum;
}

static int tell(const struct rounds *r, const struct rounds_item *sum, int64_t done, int64_t n,
    double tokens, double seconds, struct err *e)
{
    beat_step(r->door->page, done);
    if (!r->tells)
        return 0;
    return door_send_fields(r->door, WIRE_STEP,
        (struct door_field[]){{"step", (double)done, NULL}, {"loss", sum->loss / sum->labels, NULL},
            {"tokens", sum->tokens, NULL},
            {"tokens_per_second", seconds > 0 ? tokens / seconds : 0, NULL},
            {"seconds", seconds / (double)n, NULL}, {NULL, 0, NULL}},
        e);
}

int rounds_run(const struct rounds *r, rounds_item_fn *item_fn, void *user,
    struct rounds_item *found, struct err *e)
{
    int64_t most = (int64_t)ITEMS * r->parts, n;
    struct rounds_item sum = {0};
    most = most < r->items ? most : r->items;
    mem_autofree int32_t *words = mem_array((size_t)(1 + most * WORDS), sizeof *words);
    if (!words)
        return err_set(e, ERR_MEMORY, "no memory to share an evaluation");
    for (int64_t from = 0; from < r->items; from += n) {
        int64_t begun = clock_ns();
        int32_t stop = 0;
        n = r->items - from < most ? r->items - from : most;
        int rc = look(r, from, n, item_fn, user, found, &stop, e);
        if (rc || (rc = exchange(r, n, found + from, words, stop, e)))
            return rc;
        struct rounds_item part = rounds_sum(found + from, n);
        sum.loss += part.loss;
        sum.labels += part.labels;
        sum.tokens += part.tokens;
        double seconds = (double)(clock_ns() - begun) * 1e-9;
        rc = tell(r, &sum, from + n, n, part.tokens, seconds, e);
        if (rc)
            return rc;
    }
    return 0;
}
