/*
 * trace: spans are put down when they end, so the file is in no order; those who show it sort. A
 * file is whole or not there: it is renamed into its place.
 */
#include "runtime/door/trace.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define SPANS      (1 << 16)
#define SPAN_BYTES 200 /* of text, at most */

struct trace_span {
    int64_t begun, ended; /* ns */
    const char *name, *what;
    int64_t number;
    enum trace_line line;
};

struct trace {
    char *path;
    int rank;
    int64_t from, end; /* steps [from, end) */
    int64_t step;      /* that is recorded; 0: none */
    int64_t begun;     /* ns, of it */
    int64_t wall_ns;   /* of the wall clock, less the other's */
    _Atomic int count; /* of spans; those beyond SPANS are lost */
    struct trace_span spans[SPANS];
};

int trace_create(const struct trace_conf *conf, struct trace **out, struct err *e)
{
    struct trace *t = mem_zalloc(sizeof *t);
    if (!t || !(t->path = mem_strdup(conf->path))) {
        mem_free(t);
        return err_set(e, ERR_MEMORY, "no memory for a trace");
    }
    t->rank = conf->rank;
    t->from = conf->from_step;
    t->end = conf->from_step + conf->steps;
    t->wall_ns = clock_wall_ms() * 1000000 - clock_ns();
    *out = t;
    return 0;
}

void trace_destroy(struct trace *t)
{
    if (!t)
        return;
    mem_free(t->path);
    mem_free(t);
}

int64_t trace_begin(const struct trace *t)
{
    return t && t->step ? clock_ns() : 0;
}

void trace_end(struct trace *t, int64_t begun, enum trace_line line, const char *name,
    const char *what, int64_t number)
{
    if (!begun)
        return;
    int i = atomic_fetch_add(&t->count, 1);
    if (i < SPANS)
        t->spans[i] = (struct trace_span){begun, clock_ns(), name, what, number, line};
}

/* -- the file -- */

/* Microseconds. */
static void put_time(struct buf *b, const char *name, int64_t ns)
{
    buf_printf(b, ",\"%s\":%lld.%03d", name, (long long)(ns / 1000), (int)(ns % 1000));
}

static void put_name(struct buf *b, const struct trace *t, enum trace_line line, const char *name)
{
    buf_printf(b,
        "{\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"name\":\"thread_name\",\"args\":{\"name\":\"%s\"}},"
        "\n",
        t->rank, (int)line, name);
}

static void put_span(struct buf *b, const struct trace *t, const struct trace_span *s)
{
    buf_printf(b, ",\n{\"ph\":\"X\",\"pid\":%d,\"tid\":%d,\"name\":\"%s\"", t->rank, (int)s->line,
        s->name);
    put_time(b, "ts", s->begun + t->wall_ns);
    put_time(b, "dur", s->ended - s->begun);
    if (s->what)
        buf_printf(b, ",\"args\":{\"%s\":%lld}", s->what, (long long)s->number);
    buf_char(b, '}');
}

static int write_file(struct trace *t, struct err *e)
{
    int count = atomic_load(&t->count), kept = count < SPANS ? count : SPANS;
    buf_auto struct buf b;
    buf_init(&b, (uint32_t)(kept + 4) * SPAN_BYTES);
    buf_printf(&b, "{\"displayTimeUnit\":\"ms\",\"otherData\":{\"lost\":%d},\"traceEvents\":[\n",
        count - kept);
    put_name(&b, t, TRACE_RANK, "rank");
    put_name(&b, t, TRACE_NETWORK, "network");
    buf_printf(&b,
        "{\"ph\":\"M\",\"pid\":%d,\"name\":\"process_name\",\"args\":{\"name\":\"rank %d\"}}",
        t->rank, t->rank);
    for (int i = 0; i < kept; i++)
        put_span(&b, t, &t->spans[i]);
    buf_printf(&b, "\n]}\n");
    if (!buf_ok(&b))
        return err_set(e, ERR_MEMORY, "no memory for %s", t->path);
    return io_write_file(t->path, b.data, b.len, 0644, e);
}

int trace_step(struct trace *t, int64_t step, struct err *e)
{
    if (!t)
        return 0;
    int64_t last = t->step;
    if (last)
        trace_end(t, t->begun, TRACE_RANK, "step", "step", last);
    t->step = step >= t->from && step < t->end ? step : 0;
    t->begun = trace_begin(t);
    return last && !t->step ? write_file(t, e) : 0;
}
