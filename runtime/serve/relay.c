/*
 * relay: a head, then the message, as they lie in memory: the ranks of a world are the same
 * program. A first broadcast, of one size, holds most messages whole; of the others a second has
 * the rest.
 */
#include "runtime/serve/relay.h"

#include "base/mem.h"
#include "runtime/door/beat.h"

#include <assert.h>
#include <string.h>

#define FIRST_BYTES 1024

struct relay_head {
    int32_t order, unused;
    uint64_t bytes;
};

struct relay {
    struct coll *world;
    size_t limit;   /* of a message */
    uint8_t *bytes; /* head and message; FIRST_BYTES at least */
};

int relay_create(struct coll *world, size_t limit, struct relay **out, struct err *e)
{
    size_t room = sizeof(struct relay_head) + limit;
    struct relay *r = mem_zalloc(sizeof *r);
    if (r)
        *r = (struct relay){world, limit, mem_zalloc(room < FIRST_BYTES ? FIRST_BYTES : room)};
    if (!r || !r->bytes) {
        relay_destroy(r);
        return err_set(e, ERR_MEMORY, "no memory for messages of %zu bytes", limit);
    }
    *out = r;
    return 0;
}

void relay_destroy(struct relay *r)
{
    if (!r)
        return;
    mem_free(r->bytes);
    mem_free(r);
}

void *relay_message(struct relay *r)
{
    return r->bytes + sizeof(struct relay_head);
}

static int pass_rest(struct relay *r, size_t bytes, struct err *e)
{
    size_t all = sizeof(struct relay_head) + bytes;
    if (all <= FIRST_BYTES)
        return 0;
    return coll_broadcast(r->world, r->bytes + FIRST_BYTES, all - FIRST_BYTES, 0, e);
}

int relay_send(struct relay *r, enum relay_order order, size_t bytes, struct err *e)
{
    const struct relay_head h = {.order = (int32_t)order, .bytes = bytes};
    assert(bytes <= r->limit);
    memcpy(r->bytes, &h, sizeof h);
    int rc = coll_broadcast(r->world, r->bytes, FIRST_BYTES, 0, e);
    return rc ? rc : pass_rest(r, bytes, e);
}

static int receive(struct relay *r, struct relay_head *h, struct err *e)
{
    int rc = coll_broadcast(r->world, r->bytes, FIRST_BYTES, 0, e);
    if (rc)
        return rc;
    memcpy(h, r->bytes, sizeof *h);
    if (h->order < RELAY_RUN || h->order > RELAY_END || h->bytes > r->limit)
        return err_set(e, ERR_BUG, "rank 0 gives order %d of %llu bytes", h->order,
            (unsigned long long)h->bytes);
    return pass_rest(r, (size_t)h->bytes, e);
}

int relay_follow(struct relay *r, relay_run_fn *run_fn, void *user, enum wire_phase phase,
    struct wire_page *page, struct err *e)
{
    struct relay_head h = {.order = RELAY_REST};
    int rc = 0;
    while (!rc && h.order != RELAY_END) {
        if (h.order == RELAY_REST)
            beat_phase(page, WIRE_PHASE_SERVE_IDLE);
        if ((rc = receive(r, &h, e)) || h.order != RELAY_RUN)
            continue;
        beat_phase(page, phase);
        rc = run_fn(user, (size_t)h.bytes, e);
        beat(page);
    }
    return rc ? rc : err_set(e, ERR_DRAINED, "stopped on request");
}
