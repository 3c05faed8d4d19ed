/*
 * ensemble: several models that go on with texts as one: a pass runs each over the same parts, and
 * what all say of a token is averaged (average.h) before it is drawn. Each has keys and values of
 * its own in a cache of its own, over the same pages: which of them are whose is said once, for
 * all. Where a device gives a row the same bits whatever the other rows are, so does the average.
 *
 * Ranks may have some of the members each (spec.serve.ensemble.ranks, members.h). All run the same
 * passes (team.h), and rank 0 has what all members say (chorus.h), in their order: its averages
 * are, to the bit, those of a rank that has all of them.
 *
 * Opened, planned and loaded in this order; what is planned is what is allocated. One thread.
 */
#ifndef RUNTIME_SERVE_ENSEMBLE_H
#define RUNTIME_SERVE_ENSEMBLE_H

#include "api/jobspec.h"
#include "api/wire.h"
#include "base/err.h"
#include "runtime/family/weights.h"
#include "runtime/model/engine.h"
#include "runtime/text/tok.h"

struct ensemble;

struct ensemble_conf { /* borrowed, until destroy */
    const struct jobspec *spec;
    struct weights *weights; /* the job's model */
    const struct tok *tok;   /* its */
    struct dev *dev;         /* NULL: it is not loaded */
    struct wire_page *page;  /* a beat a layer; or NULL */
    int parts;               /* of a pass, at most */
    struct coll *coll;       /* of the ranks that have some each; NULL: this one has all */
    int rank;
};

struct ensemble_facts {
    int count, of;       /* members that are there, in all ranks, of so many */
    int64_t context;     /* tokens of a sequence: what all have */
    int64_t parameters;  /* of this rank's */
    int64_t bytes;       /* of these, with a cache of one sequence */
    int64_t page_bytes;  /* what a page more takes in their caches */
    int64_t logit_bytes; /* of these, for logits on the host */
};

/* Nothing is allocated on the device; all ranks call. ERR_USER, ERR_DATA: as members_open, or a
   member's adapter or context; it is named. */
int ensemble_open(const struct ensemble_conf *c, struct ensemble **out, struct err *e);
void ensemble_destroy(struct ensemble *s);
void ensemble_tell(const struct ensemble *s, struct ensemble_facts *out);
/* Bytes that this rank's i-th member takes, with a cache of one sequence; *name: borrowed. */
int64_t ensemble_member(const struct ensemble *s, int i, const char **name);
/* ERR_MEMORY, with what each member takes. */
int ensemble_require(const struct ensemble *s, int64_t budget_bytes, struct err *e);
/* One member after another; pages: of each cache, at least those of a sequence. */
int ensemble_load(struct ensemble *s, int64_t pages, struct err *e);

/* engine_run's contract, of parts without adapters: logits and what is drawn are the average's, on
   rank 0; others have neither. */
int ensemble_run(struct ensemble *s, struct engine_part *parts, int n, struct err *e);
/* The same, or where s is NULL engine_run of g: what is served is the one or the other. */
int ensemble_pass(
    struct ensemble *s, struct engine *g, struct engine_part *parts, int n, struct err *e);

#endif
