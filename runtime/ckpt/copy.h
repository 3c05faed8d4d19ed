/*
 * ckpt_copy: a rank's part of a checkpoint in memory that outlives the rank: a file of memory that
 * the pod's agent holds and hands to each rank that it starts. It is sparse, and has slots at fixed
 * places: of each rank of the pod two for its own part and two for that of a rank in another pod,
 * written in turn, so that one is whole while the other is written. A slot is a seal, then the
 * bytes that ckpt_finish would write as the rank's file. The seal is a manifest of that one file,
 * which says step, incarnation, world and hash; it is taken away before the first byte of the file
 * changes, and put there behind the last: a part without a seal is none.
 *
 * Slots are written by way of a mapping, one writer a slot; read by pread.
 */
#ifndef RUNTIME_CKPT_COPY_H
#define RUNTIME_CKPT_COPY_H

#include "base/err.h"
#include "runtime/ckpt/ckpt.h"

#include <stdbool.h>
#include <stdint.h>

#define CKPT_COPY_SEAL_BYTES ((int64_t)256 << 10)
/* Of a slot, beside what shard_write puts. */
#define CKPT_COPY_BESIDE     (CKPT_COPY_SEAL_BYTES + CKPT_HEADER_BYTES)
#define CKPT_COPY_SLOTS      4 /* of a rank of the pod */
enum ckpt_copy_kind { CKPT_COPY_OWN, CKPT_COPY_NEIGHBOURS };
/* local: of the pod's ranks; turn: 0 or 1. */
static inline int ckpt_copy_slot(int local, enum ckpt_copy_kind kind, int turn)
{
    return local * CKPT_COPY_SLOTS + (int)kind * 2 + turn;
}

/* -- writing -- */

struct ckpt_copy_slot {
    char *at;       /* mapped; NULL: not open */
    int64_t bytes;  /* of the mapping */
    int64_t sealed; /* bytes of the file that was sealed last */
    struct ckpt_memory memory;
};
/* For parts of up to so many bytes, all of which are allocated; what the slot holds stays until it
 * is begun. ERR_MEMORY: there are not so many. */
int ckpt_copy_open(int fd, int slot, int64_t bytes, struct ckpt_copy_slot *out, struct err *e);
void ckpt_copy_close(struct ckpt_copy_slot *s); /* what is sealed stays */
/* Gives the memory of a slot back, with what is in it. */
int ckpt_copy_drop(int fd, int slot, struct err *e);

/* Takes the seal away. A writer that holds what is put, for ckpt_copy_seal, or to be abandoned. */
int ckpt_copy_begin(struct ckpt_copy_slot *s, const char *path, int64_t step, int rank,
    struct ckpt_writer **out, struct err *e);
int ckpt_copy_seal(struct ckpt_copy_slot *s, struct ckpt_writer *w, const struct ckpt_state *state,
    int rank, struct err *e);

/* The same of a part that comes from another pod: its file goes to ckpt_copy_file, its seal is what
 * ckpt_copy_sealed gave there. NULL: this slot has no room for it. */
char *ckpt_copy_file(struct ckpt_copy_slot *s, int64_t bytes);
int64_t ckpt_copy_sealed(const struct ckpt_copy_slot *s, const char **text);
void ckpt_copy_break(struct ckpt_copy_slot *s);
void ckpt_copy_put_seal(struct ckpt_copy_slot *s, const char *text, int64_t bytes);

/* -- reading -- */

struct ckpt_copy { /* a part that is whole, as its seal says */
    int64_t step, incarnation;
    int64_t bytes;    /* of its file */
    int world;        /* that made it; 0: there is none */
    int rank;         /* whose part it is, in that world */
    int slot, holder; /* where it is; holder: the reader's to say */
    bool intact;      /* the file has been hashed */
    char hash[17];
};
/* What is in a slot; state may be NULL. What is no whole part, for whatever reason, is none. */
int ckpt_copy_look(
    int fd, int slot, struct ckpt_copy *out, struct ckpt_state *state, struct err *e);
/* ERR_CORRUPT: its bytes are not those of its hash. */
int ckpt_copy_check(int fd, const struct ckpt_copy *c, struct err *e);
int ckpt_copy_read(
    int fd, const struct ckpt_copy *c, void *to, int64_t bytes, int64_t at, struct err *e);

/* Of n parts in any number of memories, which it sorts, the newest generation of a step in
 * (above, limit] of which all parts are there: the greatest step, then the greatest incarnation.
 * Returns its first part, whose others follow by rank, each perhaps several times, the intact ones
 * first; -1: none is whole. Pure, whatever order they come in. */
int ckpt_copy_newest(struct ckpt_copy *all, int n, int64_t above, int64_t limit);

#endif
