/*
 * members: the files of the models that answer as one (spec.serve.ensemble), and whether they may:
 * all do the same, have the same tokens, number by number, and the same labels as the job's model,
 * whose tokenizer reads for all of them. Nothing is loaded here.
 *
 * Ranks may have some of them each, in turn: of those that are there the one at place i, in the
 * order of the spec, is rank i % ranks's, so that rank 0 has one. Where members may be missing, one
 * is there if all ranks find its files.
 */
#ifndef RUNTIME_SERVE_MEMBERS_H
#define RUNTIME_SERVE_MEMBERS_H

#include "api/jobspec.h"
#include "api/wire.h"
#include "base/err.h"
#include "runtime/coll/coll.h"
#include "runtime/family/weights.h"
#include "runtime/text/tok.h"

struct members {
    struct members_file {
        const struct jobspec_member *is;
        struct weights *weights; /* the job's where it names none */
        bool own;
    } at[LIMIT_MEMBERS]; /* this rank's, in the order of the spec */
    int count;           /* of these; */
    int there, of;       /* that are there, in all ranks, of so many */
};
struct members_share { /* what one of several ranks has */
    struct coll *coll; /* theirs; borrowed; NULL: this one has all */
    int rank, ranks;   /* 1 without */
};

/* spec, w and tok, of the job's model, are borrowed; that one does `does`. All ranks call. ERR_USER
   names the member that differs, or is not there without spec.serve.ensemble.allowMissing. */
int members_open(const struct jobspec *spec, const struct members_share *share, struct weights *w,
    const struct tok *tok, enum wire_does does, struct members *out, struct err *e);
void members_done(struct members *m);
/* All are loaded: what was read of their files leaves memory. */
void members_release(struct members *m);

#endif
