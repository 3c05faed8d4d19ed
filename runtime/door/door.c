/*
 * door: a socket, a lock for those who send, and the reader thread. Frames of the agent are trusted
 * to be well formed (a breach is a bug), but sizes and counts in them are still checked. The lock
 * is held for a whole frame, never while something else is waited for.
 */
#include "runtime/door/door.h"

#include "api/exitcode.h"
#include "api/limits.h"
#include "base/clock.h"
#include "base/log.h"

#include <math.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#define SEND_MS 30000 /* an agent that does not read for so long is stuck */
#define POLL_MS 1000

void door_init(struct door *d, int fd, struct wire_page *page)
{
    *d = (struct door){.page = page, .fd = fd, .end_ms = DOOR_END_MS};
    pthread_mutex_init(&d->send_lock, NULL);
    wire_reader_init(&d->reader);
}

/* -- sending -- */

int door_send(struct door *d, enum wire_type type, const void *data, size_t size, struct err *e)
{
    if (d->fd < 0)
        return 0;
    pthread_mutex_lock(&d->send_lock);
    int rc = wire_send(d->fd, type, data, (uint32_t)size, clock_ms() + SEND_MS, e);
    pthread_mutex_unlock(&d->send_lock);
    return rc;
}

int door_send_fields(struct door *d, enum wire_type type, const struct door_field *f, struct err *e)
{
    buf_auto struct buf b;
    struct jsonw w;
    buf_init(&b, LIMIT_FRAME_BYTES);
    jsonw_init(&w, &b);
    jsonw_open(&w, NULL, '{');
    for (; f->name; f++)
        if (f->text)
            jsonw_str(&w, f->name, f->text);
        else if (fabs(f->value) < 0x1p53 && f->value == floor(f->value))
            jsonw_int(&w, f->name, (int64_t)f->value);
        else
            jsonw_num(&w, f->name, f->value);
    jsonw_close(&w);
    if (jsonw_end(&w))
        return err_set(e, ERR_MEMORY, "no memory for a frame");
    return door_send(d, type, b.data, b.len, e);
}

int door_send_done(struct door *d, int64_t step, const char *output, struct err *e)
{
    atomic_store(&d->ending, true);
    if (output)
        return door_send_fields(d, WIRE_DONE,
            (struct door_field[]){
                {"step", (double)step, NULL}, {"output", 0, output}, {NULL, 0, NULL}},
            e);
    char text[64];
    snprintf(text, sizeof text, "{\"step\":%lld,\"drained\":true}", (long long)step);
    return door_send(d, WIRE_DONE, text, strlen(text), e);
}

void door_send_failed(struct door *d, const struct err *why)
{
    atomic_store(&d->ending, true);
    (void)door_send_fields(d, WIRE_FAILED,
        (struct door_field[]){
            {"class", 0, err_code_name(why->code)}, {"message", 0, why->text}, {NULL, 0, NULL}},
        NULL);
}

/* -- ending in time -- */

struct ending {
    struct door *door;
    int64_t ms;
    struct err why;
};

static void *end_process(void *arg)
{
    const struct ending *end = arg;
    struct timespec ts = {end->ms / 1000, end->ms % 1000 * 1000000};
    nanosleep(&ts, NULL);
    log_error("the device does not let go", LOG_I("rank", end->door->rank), LOG_ERR(&end->why));
    if (!atomic_load(&end->door->ending))
        door_send_failed(end->door, &end->why);
    _exit((int)exit_class_of(end->why.code));
}

void door_end_soon(struct door *d, const struct err *why)
{
    static struct ending end; /* the thread's, as long as the process lives */
    if (atomic_exchange(&d->limited, true))
        return;
    end = (struct ending){d, d->end_ms, *why};
    pthread_t thread;
    if (!pthread_create(&thread, NULL, end_process, &end))
        pthread_detach(thread);
}

/* -- the agent's frames -- */

int door_next(
    struct door *d, enum wire_type type, int64_t wait_ms, struct json **out, struct err *e)
{
    struct wire_frame f;
    int rc = wire_wait(&d->reader, d->fd, clock_ms() + wait_ms, &f, e);
    if (rc < 0)
        return rc;
    if (f.type != type)
        return err_set(e, ERR_BUG, "frame %d where %d is due", (int)f.type, (int)type);
    return json_parse_within(f.data, f.len, LIMIT_FRAME_VALUES, out, e);
}

static void take_frame(struct door *d, const struct wire_frame *f)
{
    if (f->type == WIRE_STOP)
        atomic_store(&d->stop, true);
    if (f->type == WIRE_CHECKPOINT)
        atomic_store(&d->checkpoint, true);
    if (!d->frame_fn(d->user, f) && f->type != WIRE_STOP && f->type != WIRE_CHECKPOINT)
        log_warn("unexpected frame", LOG_I("type", f->type));
}

static void *read_frames(void *arg)
{
    struct door *d = arg;
    struct wire_frame f;
    struct err e = {0};
    for (int rc = 0; rc >= 0;) {
        struct pollfd p = {.fd = d->fd, .events = POLLIN};
        while ((rc = wire_next(&d->reader, &f, &e)) == 1)
            take_frame(d, &f);
        if (rc >= 0 && poll(&p, 1, POLL_MS) > 0)
            rc = wire_read(&d->reader, d->fd, &e);
    }
    if (atomic_load(&d->ending))
        return NULL;
    log_error("the agent is gone", LOG_ERR(&e));
    /* The other thread may be stuck in a kernel or a driver: nothing to unwind is worth the wait,
     * not even a communicator, whose abort may wait itself. */
    _exit(EXIT_CLASS_PEER);
}

int door_listen(struct door *d, door_frame_fn *frame_fn, void *user, struct err *e)
{
    d->frame_fn = frame_fn;
    d->user = user;
    pthread_t reader;
    int rc = pthread_create(&reader, NULL, read_frames, d);
    if (rc)
        return err_sys(e, ERR_MEMORY, rc, "cannot start the reader thread");
    pthread_detach(reader);
    return 0;
}
