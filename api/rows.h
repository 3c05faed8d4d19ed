/*
 * rows: the words in which tables for base/field are written here. TABLE is the struct that a table
 * describes, defined around it; a row stands in braces: {ROW("seed", I64, seed, "0"), RANGE(0, 9)}.
 * Rows that two tables share stand here as well, once: their structs have the same members.
 */
#ifndef API_ROWS_H
#define API_ROWS_H

#include "api/limits.h"
#include "base/field.h"

#include <stddef.h>

#define COUNT(a) (sizeof a / sizeof *(a))
#define ROW(path_, kind_, member, def_) \
    .path = (path_), .kind = FIELD_##kind_, .offset = offsetof(TABLE, member), .def = (def_)
#define RANGE(min_, max_) .min = (min_), .max = (max_)
#define COUNTED(member)   .count_offset = offsetof(TABLE, member)
#define TABLE_OF(rows_) \
    { \
        rows_, COUNT(rows_), sizeof(TABLE) \
    }

/* What may change while the job runs: of a spec, and of the desired state made of it. */
#define MIN_REPLICAS \
    ROW("elastic.minReplicas", INT, elastic.min_replicas, "1"), RANGE(1, LIMIT_REPLICAS)
#define WAIT_SECONDS \
    ROW("elastic.waitSeconds", INT, elastic.wait_seconds, "60"), RANGE(0, LIMIT_WAIT_SECONDS)
#define MAX_RESTARTS \
    ROW("restart.maxRestarts", INT, restart.max_restarts, "10"), RANGE(0, LIMIT_RESTARTS)
#define WINDOW_SECONDS \
    ROW("restart.windowSeconds", INT, restart.window_seconds, "3600"), RANGE(1, LIMIT_SECONDS)
#define HANG_SECONDS \
    ROW("health.hangSeconds", INT, health.hang_seconds, "0"), RANGE(0, LIMIT_WAIT_SECONDS)
#define STRAGGLER_FACTOR \
    ROW("health.stragglerFactor", NUM, health.straggler_factor, "2"), RANGE(1, 100), \
        .min_open = true

#endif
