/*
 * door: the rank's end of the socket to its agent (api/wire.h): frames out, frames in, and the
 * flags that frames raise.
 *
 * Two threads: the one that owns the model waits for the first frames by itself (door_next) and
 * then starts the reader (door_listen). The reader raises stop and checkpoint, which are looked at
 * where that is safe, shows every frame to frame_fn, and ends the process at once when the socket
 * closes, whatever the other thread is stuck in. Any thread may send. It lives as long as the
 * process does. Must not know what the frames between the first and the last are about.
 */
#ifndef RUNTIME_DOOR_DOOR_H
#define RUNTIME_DOOR_DOOR_H

#include "api/wire.h"
#include "base/err.h"
#include "base/json.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

/* From the reader thread, after the flags were raised; false: a frame that is not expected. */
typedef bool door_frame_fn(void *user, const struct wire_frame *f);

struct door {
    struct wire_page *page;        /* or NULL */
    _Atomic bool stop, checkpoint; /* asked by the agent */
    int rank;                      /* for the log */
    int64_t end_ms;                /* what door_end_soon leaves; DOOR_END_MS */

    /* private to door.c */
    int fd;
    struct wire_reader reader;
    pthread_mutex_t send_lock;
    _Atomic bool ending;  /* the last frame is out: a closed socket is no loss */
    _Atomic bool limited; /* by door_end_soon */
    door_frame_fn *frame_fn;
    void *user;
};

/* fd -1 (tests, benches): what is sent is dropped. */
void door_init(struct door *d, int fd, struct wire_page *page);
/* The next frame, which must be of this type; its JSON. Before door_listen. */
int door_next(
    struct door *d, enum wire_type type, int64_t wait_ms, struct json **out, struct err *e);
/* Starts the reader thread. user lives as long as the process does. */
int door_listen(struct door *d, door_frame_fn *frame_fn, void *user, struct err *e);

int door_send(struct door *d, enum wire_type type, const void *data, size_t size, struct err *e);
/* A JSON object; the list ends with a NULL name. text NULL: the number, NaN becomes null. */
struct door_field {
    const char *name;
    double value;
    const char *text;
};
int door_send_fields(
    struct door *d, enum wire_type type, const struct door_field *fields, struct err *e);
/* WIRE_DONE; output NULL: stopped as asked. */
int door_send_done(struct door *d, int64_t step, const char *output, struct err *e);
/* WIRE_FAILED with class and message; its own failure is ignored: the process is about to end. */
void door_send_failed(struct door *d, const struct err *why);
/* For a failure that leaves the device busy, so that giving its memory or its communicator back may
   wait for ever: tells it and ends the process after end_ms, unless that has ended before. The
   first call counts. From any thread. */
#define DOOR_END_MS 10000
void door_end_soon(struct door *d, const struct err *why);

#endif
