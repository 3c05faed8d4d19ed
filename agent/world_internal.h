/*
 * world_internal: the state of a world, which world.c (decisions), world_facts.c (what it hears)
 * and world_report.c (what is told of it, and how it comes back) share.
 */
#ifndef AGENT_WORLD_INTERNAL_H
#define AGENT_WORLD_INTERNAL_H

#include "agent/world.h"

enum world_phase { IDLE, PREPARING, LOADING, RUNNING, DRAINING, ENDING };
enum final_state { OPEN, COMPLETE, FAILED };
enum severity { NO_FAULT, SYMPTOM, CAUSE, FATAL };

struct seat { /* a member */
    int replica;
    char pod[LIMIT_SUBDOMAIN_BYTES], uid[LIMIT_NAME_BYTES], node[LIMIT_SUBDOMAIN_BYTES],
        address[LIMIT_ADDRESS_BYTES];
    bool listed; /* in desired.members */
    bool wanted; /* listed and below desired.replicas */
    bool joined, leaving;
    bool target; /* scratch of choose_target */
    bool in_world, prepared, ended;
    int first_rank;
    uint16_t ports[LIMIT_RANKS_PER_REPLICA];
};

struct world_rank {
    int seat, local;
    bool loaded, exited;
    enum exit_class class_;
};

struct world_fault {
    enum severity severity;
    enum exit_class class_;
    const char *cause; /* of the attempt's end */
    int replica, rank;
    int64_t since_ms;
    char message[256];
    char log_tail[LIMIT_LOG_TAIL_BYTES + 1];
};

struct past { /* an attempt with its strings */
    struct attempt a;
    char cause[24], node[LIMIT_SUBDOMAIN_BYTES], exit_class[16];
    char log_tail[LIMIT_LOG_TAIL_BYTES + 1];
};

struct world {
    struct world_conf conf;
    struct seat *seats; /* by replica */
    int seat_count;
    bool has_desired, suspend, release, released;
    int64_t generation;
    int64_t term;       /* in which it coordinates */
    int64_t known_term; /* greatest that it knows of */
    bool superseded;
    int replicas;
    struct jobspec_elastic elastic;
    struct jobspec_restart restart;

    enum world_phase phase;
    enum final_state final;
    int64_t greatest; /* incarnation, of anyone */
    int64_t incarnation;
    int64_t phase_ms;   /* when the phase began */
    int64_t missing_ms; /* since when members are missing, 0: none is */
    int64_t not_before_ms;
    const char *stop_cause;
    struct world_fault fault;
    struct world_fault
        left; /* a leaving member was lost with ranks: the cause if one misses them */

    struct world_rank *ranks;
    struct health_rank *rows;
    struct health_busy *busy;
    int rank_count;
    int last_ranks; /* of the newest world, running or not */

    struct progress progress;
    struct past past[LIMIT_ATTEMPTS];
    int past_count;
    bool lost_known; /* steps_lost of the attempt before is settled */
    int restarts, failures_in_a_row;
    /* A ring of the newest budgeted restarts: as many as a budget can hold. */
    int64_t restart_ms[LIMIT_RESTARTS];
    int restart_count;

    struct health_verdict verdict;
    char verdict_kind[16]; /* "": none */
    int verdict_replica;
    int64_t verdict_since_ms;
    char failure_message[256];
    const char *failure_reason;
    enum err_code failure;
};

#define WORLD_SYMPTOM_MS 2500 /* a busy node tells late what the others already suffer from */

/* -- world.c -- */
int64_t world_together(const struct world *w);               /* ranks that share one model */
struct seat *world_seat(const struct world *w, int replica); /* or NULL */
void world_fail(struct world *w, enum err_code class_, const char *reason, const char *message);

/* -- world_facts.c -- */
struct world_fault world_cause(
    enum exit_class c, const char *cause, int replica, int rank, struct world_now now);
bool world_note_fault(
    struct world *w, const struct world_fault *f); /* it is the one that decides now */

#endif
