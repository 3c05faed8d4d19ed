/*
 * mesh: the messages between a coordinator and its members, and the coordinator's links to them.
 *
 * The coordinator dials GET /v1/mesh of every member's agent (its own by loopback); both prove
 * themselves first (agent/proof.h). A message is a JSON object as WebSocket text, "t" its type:
 *
 *   member -> coordinator
 *     hello    {replica, uid, pod, node, incarnation}: first; the greatest it has seen
 *     prepared {incarnation, ports:[..]}: its ranks wait at these collective listeners
 *     refused  {incarnation, term}: term 0: a prepare not above the greatest seen, which this is;
 *              else the term of another coordinator that it follows
 *     frame    {incarnation, local, type, payload}: a rank's frame, relayed
 *     exit     {incarnation, local, class, signal, asked, message, logTail}: once for each rank
 *     ended    {incarnation}: no rank of it lives any more
 *     beat     {incarnation, ranks:[[phase, step, silentMs, collective, in, operation,
 *              waitingFor], ..]}: each second
 *     leaving  {}: the pod was asked to go: drain, then let it go
 *   coordinator -> member
 *     prepare  {incarnation, term, secret, ranks, firstRank}: start that many ranks
 *     start    {incarnation, world, ranks:[..]}: the table of WIRE_START
 *     stop     {incarnation, mode}: "drain", "term" (SIGTERM, 2 s, SIGKILL) or "kill"
 *     release  {}: the outcome is recorded: exit 0
 *
 * A decoded message borrows from its json tree. A link redials with back-off until it is dropped.
 */
#ifndef AGENT_MESH_H
#define AGENT_MESH_H

#include "agent/health.h"
#include "agent/proof.h"
#include "base/buf.h"
#include "base/err.h"
#include "api/exitcode.h"
#include "base/json.h"
#include "api/limits.h"
#include "base/web.h"
#include "api/wire.h"

#include <stdbool.h>
#include <stdint.h>

#define MESH_PATH "/v1/mesh"

enum mesh_type {
    MESH_HELLO,
    MESH_PREPARED,
    MESH_REFUSED,
    MESH_FRAME,
    MESH_EXIT,
    MESH_ENDED,
    MESH_BEAT,
    MESH_LEAVING,
    MESH_PREPARE,
    MESH_START,
    MESH_STOP,
    MESH_RELEASE,
    MESH_TYPES
};

enum mesh_stop { MESH_DRAIN, MESH_TERM, MESH_KILL };

struct mesh_msg {
    enum mesh_type type;
    int64_t incarnation;
    /* hello */
    int replica;
    const char *uid, *pod, *node;
    int64_t term; /* prepare, refused */
    /* prepare, prepared */
    const char *secret;
    int ranks, first_rank;
    uint16_t ports[LIMIT_RANKS_PER_REPLICA];
    int port_count;
    /* start */
    int world;
    const char *table_json;   /* encoding: given as text */
    const struct json *table; /* decoding: as a tree */
    /* stop */
    enum mesh_stop mode;
    /* frame, exit */
    int local;
    enum wire_type frame;
    const char *payload_json;   /* encoding */
    const struct json *payload; /* decoding */
    enum exit_class class_;
    int signal;
    bool asked;
    const char *message, *log_tail;
    /* beat */
    struct health_rank beats[LIMIT_RANKS_PER_REPLICA];
    int beat_count;
};

int mesh_encode(const struct mesh_msg *m, struct buf *out, struct err *e);
/* ERR_DATA for what is no message of ours. */
int mesh_decode(const struct json *v, struct mesh_msg *out, struct err *e);
/* Encodes and queues; a socket that takes no more is closed. */
void mesh_send(struct web_socket *s, const struct mesh_msg *m);

/* -- the coordinator's links -- */
struct mesh;
struct mesh_fns {
    void (*message_fn)(void *user, int replica, const struct mesh_msg *m);
    /* It was open, and is being redialled. */
    void (*closed_fn)(void *user, int replica, const char *why);
};
/* of and uid (of this agent's pod) are borrowed. */
int mesh_create(struct web *w, const struct proof_identity *of, const char *uid,
    const struct mesh_fns *fns, void *user, struct mesh **out, struct err *e);
void mesh_destroy(struct mesh *m);
/* The term of links that are dialled from now on. */
void mesh_term(struct mesh *m, int64_t term);
/* Keeps a link to this pod; another pod or address redials. address "" only forgets the address. */
int mesh_keep(struct mesh *m, int replica, const char *uid, const char *address, struct err *e);
void mesh_forget(struct mesh *m, int replica);
/* Closes an open link, which is then redialled: for a member that does not do as told. */
void mesh_drop(struct mesh *m, int replica);
void mesh_tell(struct mesh *m, int replica, const struct mesh_msg *msg); /* nothing when not open */
/* Dials what is due, ends what does not prove itself in time. */
void mesh_tick(struct mesh *m, int64_t now_ms);

#endif
