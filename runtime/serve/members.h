/*
 * members: the files of the models that answer as one (spec.serve.ensemble), and whether they may:
 * all do the same, have the same tokens, number by number, and the same labels as the job's model,
 * whose tokenizer reads for all of them. Nothing is loaded here.
 */
#ifndef RUNTIME_SERVE_MEMBERS_H
#define RUNTIME_SERVE_MEMBERS_H

#include "api/jobspec.h"
#include "api/wire.h"
#include "base/err.h"
#include "runtime/family/weights.h"
#include "runtime/text/tok.h"

struct members {
    struct members_file {
        const struct jobspec_member *is;
        struct weights *weights; /* the job's where it names none */
        bool own;
    } at[LIMIT_MEMBERS]; /* in the order of the spec */
    int count, of;       /* that are there, of so many */
};
struct members_share { /* what one of several ranks has: every ranks-th member, from its own on */
    int rank, ranks;   /* 0 ranks: one, which has all */
};

/* spec, w and tok, of the job's model, are borrowed; that one does `does`. ERR_USER names the
   member that differs, or is not there without spec.serve.ensemble.allowMissing. */
int members_open(const struct jobspec *spec, const struct members_share *share, struct weights *w,
    const struct tok *tok, enum wire_does does, struct members *out, struct err *e);
void members_done(struct members *m);
/* All are loaded: what was read of their files leaves memory. */
void members_release(struct members *m);

#endif
