/*
 * recall: a generation out of the memories that outlived ranks (runtime/ckpt/copy.h), as a reader
 * of a checkpoint. Ranks tell each other what their pods' memories hold; of the newest generation
 * whose parts are all there each part is hashed where it is, and what is not as it was sealed does
 * not count. What lies in another pod comes over the world's collective: whoever misses bytes, and
 * whoever has finished, calls for a round, in which all say what they miss and the holders' bytes
 * are summed up with the others' zeros. So every rank of the world must go through the same three
 * calls, and none of them returns before all have come to its end.
 */
#ifndef RUNTIME_TRAIN_RECALL_H
#define RUNTIME_TRAIN_RECALL_H

#include "runtime/ckpt/ckpt.h"
#include "runtime/coll/coll.h"

struct recall_conf {
    struct coll *coll; /* of the world */
    int rank, world;
    const struct wire_peer *peers; /* (world) */
    int fd;                        /* this pod's memory; -1: there is none */
};

struct recall;
/* The newest whole generation of a step in (above, limit]; *out NULL: there is none. All ranks find
 * the same. */
int recall_find(const struct recall_conf *c, int64_t above, int64_t limit, struct recall **out,
    struct ckpt_state *state, struct err *e);
/* Reads its headers. ERR_CORRUPT on all ranks: it makes no checkpoint, as one of them found. */
int recall_open(struct recall *r, struct ckpt_reader **out, struct err *e);
/* When this rank has read what it wants, or has failed to: until all have. -ERR_PEER on all where
 * one has failed. */
int recall_end(struct recall *r, bool failed, struct err *e);
void recall_destroy(struct recall *r); /* NULL is fine; the reader is closed before */

#endif
