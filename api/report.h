/*
 * report: what crosses between the controller (or the standalone run) and the coordinator.
 *
 *   PUT /v1/desired   struct desired: to the agent of replica 0, idempotent, when it differs
 *   GET /v1/job       struct report: from it; bounded facts, no history beyond `attempts`
 *
 * Both need "Authorization: Bearer <token of the pod>" (or NAME_HEADER_TOKEN; secret_of_pod of
 * base/secret.h) and answer JSON. A decoder refuses what exceeds api/limits.h. Times are wall
 * milliseconds. Decoded strings live in the arena.
 */
#ifndef API_REPORT_H
#define API_REPORT_H

#include "base/buf.h"
#include "base/err.h"
#include "api/jobspec.h"
#include "base/json.h"
#include "api/limits.h"
#include "base/mem.h"

#include <stdbool.h>
#include <stdint.h>

struct desired_member {
    int replica;
    const char *pod, *uid, *node;
    const char *address; /* "host:port" of its agent; "" while the pod has none */
};

struct desired {
    int64_t generation;
    int64_t term; /* of this coordinator: greater than of any before it */
    int replicas;
    bool suspend;
    bool release;                   /* the outcome is recorded: agents may exit 0 */
    struct jobspec_elastic elastic; /* of the spec as it stands now */
    struct jobspec_restart restart;
    struct jobspec_health health;
    bool lists_adapters; /* of a model that is served under serve.adapterMemory: */
    struct jobspec_served_adapter *adapters; /* serve.adapters as they stand now */
    int adapter_count;
    struct desired_member *members; /* sorted by replica; those that exist now */
    int member_count;
};

enum job_state {
    JOB_WAITING, /* members missing */
    JOB_FORMING, /* world being formed, ranks loading */
    JOB_RUNNING, /* training or running steps */
    JOB_SERVING,
    JOB_STOPPING,  /* stopping at a boundary for a new world */
    JOB_SUSPENDED, /* desired.suspend or replicas 0: checkpoint committed, no ranks */
    JOB_COMPLETE,
    JOB_FAILED,
    JOB_STATES
};
const char *job_state_name(enum job_state s); /* "Waiting", ... */

struct report_rank {
    int rank, replica;
    const char *node;
    const char *phase; /* "load", "forward", "allreduce", ... */
    int64_t step;
    int64_t silent_ms; /* since its heartbeat moved */
    int64_t share;     /* sequences of a step that are its, of measured speed; 0: not told */
};

struct attempt {
    int64_t number;               /* = incarnation */
    int64_t started_ms, ended_ms; /* ended 0: the current one */
    const char *cause; /* of its end, a reason or cause of api/names.h: "RankFailed", "Scaled";
                          "" while current */
    int replica, rank; /* at fault, -1: none */
    const char *node;
    const char *exit_class; /* err_code_name */
    int64_t step;           /* reached */
    int64_t steps_lost;     /* beyond the checkpoint the next one resumed from */
    const char *log_tail;   /* last lines of the failed rank's stderr */
};

struct verdict {      /* kind "" : none */
    const char *kind; /* "Hang", "Straggler", "LostPeer", "BadDevice" */
    int replica, rank;
    const char *node, *operation, *message;
    int64_t since_ms;
};

struct report_alert { /* of streams that are watched; times are the stream's, 0: never */
    const char *name;
    bool firing;
    int64_t fired_ms, resolved_ms; /* last */
    const char *message;           /* what keeps it from what is watched; "" */
};

struct report {
    int64_t generation; /* of the desired state it follows */
    int64_t term;       /* greatest that this agent knows of; 0: none */
    int64_t incarnation;
    enum job_state state;
    int world_replicas; /* replicas 0..n-1 that the running world needs; 0: none. Surplus pods
                           may go when this is at most desired.replicas. */
    int connected;      /* members whose agent is joined */
    /* Of the world that runs; of a job that is over, of its last one. */
    int ranks, data_parallel, tensor, pipeline, context, expert, zero_stage;
    int64_t memory_per_rank_bytes;
    const char *layout_reason;  /* why it was chosen; "": it was told */
    const char *layout_balance; /* what measured speed came to; "": nothing is sized by it */

    int64_t step, steps, tokens;
    int64_t held_out; /* sequences kept from training for the validation loss */
    double loss, first_loss, validation_loss, first_validation_loss; /* NaN: not known */
    double validation_f1;    /* of entities, where labels are learnt; NaN: not known */
    double validation_match; /* of pairs: NDCG@10, or with labels Spearman's; NaN likewise */
    double tokens_per_second;
    double loss_scale; /* of FP16; NaN: none */
    int64_t skipped;   /* steps that changed nothing, their gradient not being finite by it */
    int64_t last_step_ms, eta_seconds;       /* eta -1: unknown */
    double loss_history[LIMIT_LOSS_HISTORY]; /* oldest first, evenly thinned */
    int loss_history_count;

    int64_t checkpoint_step, checkpoint_ms; /* step -1: none yet */
    const char *checkpoint_path;
    const char *checkpoint_damaged;   /* folder of the newest that was passed over; "": none */
    int64_t damaged_bytes;            /* of all that were, as the world began */
    const char *checkpoint_in_memory; /* what copies are kept, or why none; "": none are wanted */

    int restarts; /* attempts that ended by failure */
    struct verdict verdict;
    struct attempt *attempts; /* oldest first, at most LIMIT_ATTEMPTS */
    int attempt_count;
    struct report_rank *rank_rows;
    int rank_row_count;

    enum err_code failure;      /* JOB_FAILED: class, and the sentence that names file and line */
    const char *failure_reason; /* NAME_REASON_... */
    const char *failure_message;
    const char *serve_address; /* host:port when serving and ready, else "" */
    struct report_alert *alerts;
    int alert_count;
    int64_t adapters_list; /* report_adapters() of those that all have been looked at; else 0 */
    const char *adapters_wrong; /* what is wrong with some of them; "": nothing */
};

int desired_encode(const struct desired *d, struct buf *out, struct err *e);
/* Tells lists of adapters apart; from 1 on. */
int64_t report_adapters(const struct jobspec_served_adapter *adapters, int count);
/* A copy, NULL: no memory. */
struct jobspec_served_adapter *report_copy_adapters(
    const struct jobspec_served_adapter *from, int count, struct arena *a);
uint64_t desired_hash(const struct desired *d); /* of what desired_encode would write */
int desired_decode(const struct json *v, struct arena *a, struct desired *out, struct err *e);
int report_encode(const struct report *r, struct buf *out, struct err *e);
int report_decode(const struct json *v, struct arena *a, struct report *out, struct err *e);
/* What a report of a world of so many ranks may have at most. */
size_t report_limit_bytes(int64_t ranks);
/* The layout in short: "dp4 x tp2", "dp2 zero1"; "" without ranks. */
#define REPORT_LAYOUT_BYTES 128
void report_layout(const struct report *r, char out[REPORT_LAYOUT_BYTES]);
void report_init(struct report *r); /* zero with NaN losses, -1 steps, "" strings */

#endif
