/*
 * sched: stops come before all else, then beginnings, then rows.
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

/* The youngest that runs, when those that decode lack pages; -1: they do not. */
static int whom_to_stop(const struct sched_view *v)
{
    int64_t want = 0;
    int youngest = -1;
    for (int i = 0; i < v->count; i++) {
        want += wanted(v, &v->seq[i]);
        youngest = v->seq[i].running ? i : youngest;
    }
    return want > v->pages_left ? youngest : -1;
}

/* The oldest that waits, when there is a place for it; -1: nobody begins. Each that runs keeps a
   page that it may soon want. */
static int whom_to_begin(const struct sched_view *v)
{
    int first = -1, running = 0;
    for (int i = 0; i < v->count; i++) {
        running += v->seq[i].running;
        first = first < 0 && !v->seq[i].running ? i : first;
    }
    if (first < 0 || !v->may_begin || running >= v->most_running)
        return -1;
    return pages_of(v, v->seq[first].tokens) + running <= v->pages_left ? first : -1;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

struct sched_step sched_next(const struct sched_view *v, int64_t *rows)
{
    struct sched_step s = {.which = whom_to_stop(v)};
    for (int i = 0; i < v->count; i++)
        rows[i] = 0;
    if (s.which >= 0) {
        s.change = SCHED_STOP;
        return s;
    }
    s.which = whom_to_begin(v);
    if (s.which >= 0) {
        s.change = SCHED_BEGIN;
        return s;
    }
    for (int i = 0; i < v->count; i++)
        s.rows += rows[i] = decodes(&v->seq[i]);
    int64_t left = least(v->chunk, v->rows - s.rows);
    for (int i = 0; i < v->count; i++) {
        const struct sched_seq *q = &v->seq[i];
        if (!q->running || decodes(q))
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
