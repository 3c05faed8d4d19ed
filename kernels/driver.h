/*
 * driver: what a kind of device implements, and the first bytes of every struct dev.
 *
 * kernels/dev.c looks a driver up by its kind and forwards each dev_* call to it. The two CPU
 * drivers are linked in; another one comes as a plugin, lib`llmjob-<kind>.so`, that exports
 * driver_plugin_fn under DRIVER_PLUGIN_SYMBOL. A plugin carries its own copy of base and is refused
 * when its abi number differs. Only dev.c, drivers and runtime/coll/nccl.c (for the communicators)
 * include this.
 */
#ifndef KERNELS_DRIVER_H
#define KERNELS_DRIVER_H

#include "base/err.h"
#include "kernels/dev.h"
#include "kernels/ops.h"

/* To raise when a struct of this file, struct ops or an operation's arguments change. */
#define DRIVER_ABI           10u
#define DRIVER_PLUGIN_SYMBOL "llmjob_driver"

/*
 * Collectives between devices of one kind, without the host: NCCL. All calls belong to the device's
 * thread, except abort. Operations are enqueued behind the device's work so far, run beside what is
 * enqueued later, and are ordered before later work by `join`. A failure of a call or of the
 * network comes back from here or from `poll`; then the communicator may only be aborted or
 * destroyed.
 */
#define DRIVER_COMM_ID_BYTES 128
struct driver_comm;
enum driver_reduce { DRIVER_SUM, DRIVER_MAX };
struct driver_message { /* between this rank and another */
    void *data;
    size_t bytes;
    int peer;
    bool receive; /* else data is sent, and only read */
};

struct driver_comms {
    int (*unique_id)(uint8_t id[DRIVER_COMM_ID_BYTES], struct err *e); /* on one rank */
    /* Collective; ERR_HANG after timeout_ms. After a failure *out, unless NULL, is there to be
       destroyed, which may wait: only the caller can say for how long. */
    int (*create)(struct dev *d, const uint8_t id[DRIVER_COMM_ID_BYTES], int rank, int world,
        int64_t timeout_ms, struct driver_comm **out, struct err *e);
    /* The ranks of equal colour, ordered by key: one communicator a layout axis. Collective. */
    int (*split)(struct driver_comm *c, int colour, int key, int64_t timeout_ms,
        struct driver_comm **out, struct err *e);
    void (*destroy)(struct driver_comm *c); /* after a failure: aborts instead */
    void (*abort)(struct driver_comm *c);   /* from any thread; ends what is under way */
    /* Device memory that the network reads and writes directly; zeroed; freed by destroy. */
    int (*alloc)(struct driver_comm *c, size_t bytes, void **out, struct err *e);
    int (*allreduce)(struct driver_comm *c, void *data, int64_t count, enum dtype t,
        enum driver_reduce op, struct err *e); /* in place */
    /* In place, of slices: rank i's is [first[i], first[i + 1]) of data's elements, first has
       world + 1 entries. Reduce-scatter spoils what is outside of the rank's own. */
    int (*reduce_scatter)(struct driver_comm *c, void *data, const int64_t *first, enum dtype t,
        enum driver_reduce op, struct err *e);
    int (*allgather)(
        struct driver_comm *c, void *data, const int64_t *first, size_t element, struct err *e);
    /* All n at once; only those take part whom a message is from or for. Messages of a pair meet in
       the order they are listed and called in; both ends tell the same size. */
    int (*exchange)(
        struct driver_comm *c, const struct driver_message *messages, int n, struct err *e);
    int (*broadcast)(struct driver_comm *c, void *data, size_t bytes, int root, struct err *e);
    /* 0: everything enqueued has ended; 1: not yet; negative: it failed. Never blocks. */
    int (*poll)(struct driver_comm *c, struct err *e);
    void (*join)(struct driver_comm *c); /* the device's later work waits for it */
    /* What the network's own watch says about a wait that does not end, as a clause of one
       line;
       "": nothing. Takes a few seconds at most. */
    void (*explain)(char *out, size_t size);
};

struct driver {
    uint32_t abi;
    const char *kind;
    /* Returns a device whose base.driver, base.ops are set. */
    int (*open)(int index, int threads, struct dev **out, struct err *e);
    void (*close)(struct dev *d);
    void (*describe)(const struct dev *d, struct dev_info *out);
    int (*alloc)(struct dev *d, size_t bytes, void **out, struct err *e);
    void (*free)(struct dev *d, void *p);
    void (*upload)(struct dev *d, void *dst, const void *host, size_t bytes);
    void (*download)(struct dev *d, void *host, const void *src, size_t bytes);
    void (*zero)(struct dev *d, void *dst, size_t bytes);
    void (*copy)(struct dev *d, void *dst, const void *src, size_t bytes);
    const struct driver_comms *comms; /* NULL: the kind has none */
    /* Work between begin and end is recorded instead of run, and replayed by each launch with
       the same pointers (decoding: one launch a token). NULL: the kind cannot, callers enqueue
       anew. */
    int (*record_begin)(struct dev *d, struct err *e);
    int (*record_end)(struct dev *d, void **recording, struct err *e);
    void (*record_launch)(struct dev *d, void *recording);
    void (*record_free)(struct dev *d, void *recording);
    void (*wait)(struct dev *d); /* until every operation has ended; failures go to dev_fail */
    bool rows_alike;             /* dev_rows_alike */
    int (*reserve)(struct dev *d, size_t bytes, void **out, struct err *e); /* NULL: as alloc */
};
typedef const struct driver *driver_plugin_fn(void);

struct dev { /* a driver embeds it as the first member of its own structure */
    const struct driver *driver;
    const struct ops *ops;
    void *plugin;       /* dlopen handle, or NULL */
    struct err failure; /* the first failure since the last dev_sync */
};

/* Records a failure of an operation; the first one stays. */
static inline void dev_fail(struct dev *d, const struct err *e)
{
    if (d->failure.code == ERR_NONE)
        d->failure = *e;
}

#endif
