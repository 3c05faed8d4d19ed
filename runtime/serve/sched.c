/*
 * sched: stops come before all else, then beginnings, then rows. The order is looked for anew each
 * time: there are a few tens of sequences.
 */
#include "runtime/serve/sched.h"

static int64_t pages_of(const struct sched_view *v, int64_t tokens)
{
    return (tokens + v->page_tokens - 1) / v->page_tokens;
}

static bool decodes(const struct sched_seq *s)
{
    return s->running && s->tokens - s->done == 1;
}

/* Pages that its next row takes beside those it has. */
static int64_t wanted(const struct sched_view *v, const struct sched_seq *s)
{
    int64_t pages = pages_of(v, s->done + 1);
    return decodes(s) && pages > s->pages ? pages - s->pages : 0;
}

/* -- the order -- */

void sched_count(struct sched_seq *seq, int count)
{
    for (int i = 0; i < count; i++) {
        struct sched_seq *q = &seq[i];
        q->before = 0;
        for (int j = 0; j < count; j++)
            q->before += seq[j].key == q->key && j != i &&
                (seq[j].priority < q->priority || (seq[j].priority == q->priority && j < i));
    }
}

/* Whether its turn comes before j's, not only because it came first. */
static bool goes_before(const struct sched_view *v, int i, int j)
{
    const struct sched_seq *a = &v->seq[i], *b = &v->seq[j];
    if (a->credit != b->credit)
        return a->credit;
    if (a->priority != b->priority)
        return a->priority < b->priority;
    return a->key != b->key && (a->before + 1) * b->weight < (b->before + 1) * a->weight;
}

static bool is_before(const struct sched_view *v, int i, int j)
{
    return goes_before(v, i, j) || (!goes_before(v, j, i) && i < j);
}

/* The next behind `after` of those that run, or of those that wait; after -1: the first; -1:
   there is none. */
static int next_of(const struct sched_view *v, bool running, int after)
{
    int next = -1;
    for (int i = 0; i < v->count; i++)
        if (v->seq[i].running == running && (after < 0 || is_before(v, after, i)) &&
            (next < 0 || is_before(v, i, next)))
            next = i;
    return next;
}

/* The last before `before` of those that may be stopped, which are all that run but the oldest;
   -1, likewise. */
static int last_to_stop(const struct sched_view *v, int before)
{
    int last = -1, oldest = -1;
    for (int i = 0; i < v->count; i++) {
        if (!v->seq[i].running)
            continue;
        if (oldest < 0)
            oldest = i;
        else if ((before < 0 || is_before(v, i, before)) && (last < 0 || is_before(v, last, i)))
            last = i;
    }
    return last;
}

/* -- who stops and who begins -- */

/* When those that decode lack pages; -1: they do not. */
static int whom_to_stop(const struct sched_view *v)
{
    int64_t want = 0;
    for (int i = 0; i < v->count; i++)
        want += wanted(v, &v->seq[i]);
    return want > v->pages_left ? last_to_stop(v, -1) : -1;
}

/* Each that runs keeps a page that it may soon want. */
static bool fits(const struct sched_view *v, int which, int running, int64_t pages_left)
{
    return running < v->most_running && pages_of(v, v->seq[which].tokens) + running <= pages_left;
}

/* Who gives way to `first`, if it then begins: those behind it that have drawn, from the end. */
static int who_gives_way(const struct sched_view *v, int first, int running)
{
    int which = -1;
    int64_t pages_left = v->pages_left;
    for (int i = last_to_stop(v, -1); i >= 0 && goes_before(v, first, i); i = last_to_stop(v, i)) {
        if (!v->seq[i].drew)
            continue;
        which = which < 0 ? i : which;
        pages_left += v->seq[i].pages;
        if (fits(v, first, --running, pages_left))
            return which;
    }
    return -1;
}

static bool change_who_runs(const struct sched_view *v, struct sched_step *s)
{
    int first = next_of(v, false, -1), running = 0;
    for (int i = 0; i < v->count; i++)
        running += v->seq[i].running;
    s->change = SCHED_STOP;
    s->which = whom_to_stop(v);
    if (s->which >= 0 || first < 0 || !v->may_begin)
        return s->which >= 0;
    s->change = SCHED_BEGIN;
    s->which = first;
    if (fits(v, first, running, v->pages_left))
        return true;
    s->change = SCHED_GIVE_WAY;
    s->which = who_gives_way(v, first, running);
    return s->which >= 0;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

struct sched_step sched_next(const struct sched_view *v, int64_t *rows)
{
    struct sched_step s = {0};
    for (int i = 0; i < v->count; i++)
        rows[i] = 0;
    if (change_who_runs(v, &s))
        return s;
    s = (struct sched_step){.change = SCHED_NONE, .which = -1};
    for (int i = 0; i < v->count; i++)
        s.rows += rows[i] = decodes(&v->seq[i]);
    int64_t left = least(v->chunk, v->rows - s.rows);
    for (int i = next_of(v, true, -1); i >= 0; i = next_of(v, true, i)) {
        const struct sched_seq *q = &v->seq[i];
        if (decodes(q))
            continue;
        rows[i] = least(left, q->tokens - q->done);
        left -= rows[i];
        s.rows += rows[i];
    }
    return s;
}

int64_t sched_chunk(double target_ms, double busy_ms, double rows_per_ms, int64_t step)
{
    double left_ms = target_ms - busy_ms > busy_ms ? target_ms - busy_ms : busy_ms;
    double rows = left_ms * rows_per_ms;
    int64_t whole = rows > (double)step ? (int64_t)(rows / (double)step) * step : (int64_t)rows;
    return whole < 1 ? 1 : whole;
}
