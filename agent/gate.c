/*
 * gate: callers stand in the order in which they came. A socket that is no caller has proved
 * itself. It decides nothing about terms: that is the member's affair.
 */
#include "agent/gate.h"

#include "agent/mesh.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <string.h>

#define WARN_MS 60000 /* a stranger must not fill the log */

struct gate_caller {
    struct web_socket *socket;
    bool challenged;
    struct proof proof;
    int64_t until_ms;
};

struct gate {
    struct proof_identity of;
    const char *uid;
    struct gate_fns fns;
    void *user;
    struct gate_caller callers[GATE_CALLERS];
    int count;
    int64_t warn_ms; /* when the next failed proof is worth a line */
};

static int find(const struct gate *g, const struct web_socket *s)
{
    for (int i = 0; i < g->count; i++)
        if (g->callers[i].socket == s)
            return i;
    return -1;
}

static void forget(struct gate *g, int i)
{
    g->count--;
    memmove(&g->callers[i], &g->callers[i + 1], sizeof *g->callers * (size_t)(g->count - i));
}

/* It stays a caller until it is closed, so that nothing of it gets through. */
static void turn_away(struct gate_caller *k, const char *why)
{
    log_debug("a mesh link without proof was closed", LOG_S("why", why));
    web_close(k->socket);
}

static void socket_open(void *user, struct web_socket *s)
{
    struct gate *g = user;
    web_socket_limit(s, PROOF_BYTES);
    if (g->count == GATE_CALLERS) {
        struct web_socket *oldest = g->callers[0].socket;
        forget(g, 0);
        web_close(oldest);
    }
    g->callers[g->count++] = (struct gate_caller){.socket = s, .until_ms = clock_ms() + PROOF_MS};
}

static void hear(struct gate *g, int i, const char *text, size_t len)
{
    struct gate_caller *k = &g->callers[i];
    buf_auto struct buf answer;
    struct err e = {0};
    buf_init(&answer, PROOF_BYTES);
    if (!k->challenged) {
        int rc = proof_challenge(&k->proof, &g->of, g->uid, text, len, &answer, &e);
        k->challenged = true;
        if (rc || web_send(k->socket, answer.data, answer.len))
            turn_away(k, e.text);
        return;
    }
    if (proof_check(&k->proof, text, len, &e)) {
        if (clock_ms() >= g->warn_ms) {
            log_warn("a mesh link failed its proof", LOG_ERR(&e));
            g->warn_ms = clock_ms() + WARN_MS;
        }
        turn_away(k, e.text);
        return;
    }
    struct web_socket *s = k->socket;
    struct proof proven = k->proof;
    forget(g, i);
    web_socket_limit(s, LIMIT_FRAME_BYTES);
    g->fns.open_fn(g->user, s, proven.term, proven.coordinator);
}

static void socket_message(void *user, struct web_socket *s, const char *text, size_t len)
{
    struct gate *g = user;
    int i = find(g, s);
    if (i >= 0)
        hear(g, i, text, len);
    else
        g->fns.message_fn(g->user, s, text, len);
}

static void socket_closed(void *user, struct web_socket *s, const char *why)
{
    struct gate *g = user;
    int i = find(g, s);
    if (i >= 0)
        forget(g, i);
    else
        g->fns.closed_fn(g->user, s, why);
}

int gate_create(struct web *w, const struct proof_identity *of, const char *uid,
    const struct gate_fns *fns, void *user, struct gate **out, struct err *e)
{
    static const struct web_socket_fns socket_fns = {socket_open, socket_message, socket_closed};
    struct gate *g = mem_zalloc(sizeof *g);
    if (!g)
        return err_set(e, ERR_MEMORY, "out of memory");
    *g = (struct gate){.of = *of, .uid = uid, .fns = *fns, .user = user};
    int rc = web_accept_sockets(w, MESH_PATH, &socket_fns, g, e);
    if (rc) {
        mem_free(g);
        return rc;
    }
    *out = g;
    return 0;
}

void gate_destroy(struct gate *g)
{
    mem_free(g);
}

void gate_tick(struct gate *g, int64_t now_ms)
{
    for (int i = 0; i < g->count; i++)
        if (now_ms >= g->callers[i].until_ms) {
            turn_away(&g->callers[i], "no proof in time");
            g->callers[i].until_ms = INT64_MAX;
        }
}
