/*
 * health: one pass over the rows for a hang, one for a straggler. It judges and does nothing: what
 * ends an incarnation that hangs is agent/world.
 */
#include "agent/health.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HANG_MIN_MS      10000
#define HANG_SLOW_MS     60000 /* reading a model or writing a checkpoint takes a while */
#define HANG_STEPS       5
#define BUSY_WEIGHT      (1.0 / 15)
#define BUSY_MIN_SAMPLES 20
#define BUSY_MIN_SHARE   0.5 /* below it nobody waits long for this rank */

static bool is_slow_phase(enum wire_phase p)
{
    return p == WIRE_PHASE_START || p == WIRE_PHASE_CONNECT || p == WIRE_PHASE_LOAD ||
        p == WIRE_PHASE_CHECKPOINT || p == WIRE_PHASE_EXPORT;
}

/* Until a step has been timed nobody knows what is long: in the first one kernels are compiled or
 * loaded, and a network connects. Serving has no steps. */
static bool is_first_work(
    const struct health_conf *conf, const struct health_rank *r, int64_t median_step_ms)
{
    return !conf->hang_ms && !median_step_ms && r->phase < WIRE_PHASE_SERVE_IDLE;
}

static int64_t hang_limit(const struct health_conf *conf, const struct health_rank *ranks,
    int count, int64_t median_step_ms)
{
    int64_t limit = conf->hang_ms;
    if (!limit) {
        limit = HANG_STEPS * median_step_ms;
        if (limit < HANG_MIN_MS)
            limit = HANG_MIN_MS;
    }
    for (int i = 0; i < count; i++)
        if (limit < HANG_SLOW_MS &&
            (is_slow_phase(ranks[i].phase) || is_first_work(conf, &ranks[i], median_step_ms)))
            return HANG_SLOW_MS;
    return limit;
}

/* Who holds the others up: outside the collective, else most behind, else most waited for. */
static int find_culprit(const struct health_rank *ranks, int count)
{
    int best = 0, in = 0;
    for (int i = 0; i < count; i++)
        in += ranks[i].in_collective;
    if (in < count) {
        best = -1;
        for (int i = 0; i < count; i++) {
            if (ranks[i].in_collective)
                continue;
            if (best < 0 || ranks[i].collective < ranks[best].collective ||
                (ranks[i].collective == ranks[best].collective &&
                    ranks[i].silent_ms > ranks[best].silent_ms))
                best = i;
        }
        return best;
    }
    bool level = true;
    for (int i = 1; i < count; i++) {
        if (ranks[i].collective != ranks[0].collective)
            level = false;
        if (ranks[i].collective < ranks[best].collective)
            best = i;
    }
    if (!level)
        return best;
    /* All in the same one: follow who waits for whom; a rank that waits for none, or a ring's
     * end. */
    int at = 0;
    for (int hops = 0; hops < count; hops++) {
        int next = ranks[at].waiting_for;
        if (next < 0 || next >= count || next == at)
            return at;
        at = next;
    }
    return at;
}

/* What the network of any rank knows: it looks at the whole world. */
static const char *find_note(const struct health_rank *ranks, int count)
{
    for (int i = 0; i < count; i++)
        if (*ranks[i].note)
            return ranks[i].note;
    return "";
}

static bool judge_hang(const struct health_conf *conf, const struct health_rank *ranks, int count,
    int64_t median_step_ms, struct health_verdict *out)
{
    int64_t least = INT64_MAX, limit = hang_limit(conf, ranks, count, median_step_ms);
    bool serves = ranks->phase > WIRE_PHASE_SERVE_IDLE && !ranks->in_collective;
    bool alone = serves && ranks->silent_ms >= limit;
    for (int i = 0; i < count; i++)
        if (ranks[i].silent_ms < least)
            least = ranks[i].silent_ms;
    if (least < limit && !alone)
        return false;
    int rank = alone ? 0 : find_culprit(ranks, count);
    const struct health_rank *r = &ranks[rank];
    const char *operation = wire_phase_name(r->phase);
    for (int i = 0; i < count; i++)
        if (ranks[i].in_collective)
            operation = wire_operation_name(ranks[i].operation);
    out->kind = HEALTH_HANG;
    out->rank = rank;
    out->silent_ms = r->silent_ms;
    snprintf(out->operation, sizeof out->operation, "%s", operation);
    bool waited_for = false;
    for (int i = 0; i < count; i++)
        waited_for = waited_for || (i != rank && ranks[i].in_collective);
    const char *what = !waited_for ? "is silent in"
        : r->in_collective         ? "holds up"
                                   : "is not in, but the others wait in,";
    const char *note = find_note(ranks, count);
    snprintf(out->message, sizeof out->message, "rank %d %s %s: step %lld, silent for %lld s%s%s",
        rank, what, operation, (long long)r->step, (long long)(r->silent_ms / 1000),
        *note ? "; " : "", note);
    return true;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void judge_straggler(const struct health_conf *conf, const struct health_rank *ranks,
    int count, struct health_busy *busy, struct health_verdict *out)
{
    int slowest = 0;
    for (int i = 0; i < count; i++) {
        double now = ranks[i].in_collective ? 0 : 1;
        struct health_busy *b = &busy[i];
        b->share = b->observations ? b->share + BUSY_WEIGHT * (now - b->share) : now;
        b->observations++;
        if (b->share > busy[slowest].share)
            slowest = i;
    }
    if (count < 2 || busy[slowest].observations < BUSY_MIN_SAMPLES ||
        busy[slowest].share < BUSY_MIN_SHARE)
        return;
    double others[64]; /* of a large world a sample is as good as all */
    int n = 0, stride = 1 + (count - 1) / 64;
    for (int i = 0; i < count && n < 64; i += stride)
        if (i != slowest)
            others[n++] = busy[i].share;
    if (n == 0)
        return;
    qsort(others, (size_t)n, sizeof *others, by_value);
    double median = others[n / 2];
    if (busy[slowest].share <= conf->straggler_factor * median)
        return;
    out->kind = HEALTH_STRAGGLER;
    out->rank = slowest;
    out->silent_ms = ranks[slowest].silent_ms;
    snprintf(out->operation, sizeof out->operation, "%s", wire_phase_name(ranks[slowest].phase));
    snprintf(out->message, sizeof out->message,
        "rank %d computes %.0f%% of the time, the others %.0f%%: they wait for it", slowest,
        100 * busy[slowest].share, 100 * median);
}

/* Waiting for requests is a server's work: that of the rank that has them, and the others wait for
   it in a collective. */
static bool is_idle(const struct health_rank *ranks, int count)
{
    int waiting = 0, in = 0;
    for (int i = 0; i < count; i++) {
        in += ranks[i].in_collective;
        waiting += !ranks[i].in_collective && ranks[i].phase == WIRE_PHASE_SERVE_IDLE;
    }
    return waiting > 0 && waiting + in == count;
}

void health_judge(const struct health_conf *conf, const struct health_rank *ranks, int count,
    int64_t median_step_ms, struct health_busy *busy, struct health_verdict *out)
{
    *out = (struct health_verdict){.kind = HEALTH_WELL, .rank = -1};
    if (count <= 0 || is_idle(ranks, count))
        return;
    if (!judge_hang(conf, ranks, count, median_step_ms, out) && conf->straggler_factor > 0)
        judge_straggler(conf, ranks, count, busy, out);
}
