/*
 * health: heartbeat rows of all ranks -> a verdict. Pure: rows and the time in, verdict out; no
 * handle, no clock.
 *
 * Hang: no rank's heartbeat moved for max(10 s, five median steps), or health.hangSeconds; loading,
 * checkpointing and the like get a minute, and so does training until a step has been timed. The
 * verdict names the rank that is outside the collective that the others wait in, else the one that
 * they wait for, and says what the network knows (a rank's note). The first rank of a server has
 * the requests: while it serves its silence counts whatever the others do. Straggler: over the last
 * half minute a rank computed (was outside collectives) more than `factor` times as much as the
 * median of the others, who waited for it. One observation a second.
 */
#ifndef AGENT_HEALTH_H
#define AGENT_HEALTH_H

#include "api/wire.h"

#include <stdbool.h>
#include <stdint.h>

struct health_rank { /* a rank's heartbeat page as its agent saw it */
    enum wire_phase phase;
    int64_t step;
    int64_t silent_ms; /* since its beat moved */
    uint64_t collective;
    bool in_collective;
    uint32_t operation;
    int waiting_for;            /* rank, -1: none */
    int64_t share;              /* sequences of a step that are its; 0: not told */
    char note[WIRE_NOTE_BYTES]; /* what its network knows of its wait; "": nothing */
};

struct health_conf {
    int64_t hang_ms; /* 0: max(10 s, five median steps); a minute until one was timed */
    double straggler_factor;
};

enum health_kind { HEALTH_WELL, HEALTH_HANG, HEALTH_STRAGGLER };
struct health_verdict {
    enum health_kind kind;
    int rank; /* at fault */
    int64_t silent_ms;
    char operation[32]; /* the collective others wait in, or the phase the rank is in */
    char message[340];  /* a node and a rank's whole sentence */
};

/* The straggler's memory: how busy each rank was, an exponential mean over about thirty
 * observations. */
struct health_busy {
    double share;
    int observations;
};

/*
 * ranks: by rank; median_step_ms: 0 while unknown. busy: count entries, zeroed when a world starts,
 * updated by this call. *out says HEALTH_WELL when nothing is wrong.
 */
void health_judge(const struct health_conf *conf, const struct health_rank *ranks, int count,
    int64_t median_step_ms, struct health_busy *busy, struct health_verdict *out);

#endif
