/*
 * listed: the adapters of a model that `llmjob run` serves (spec.serve.adapters), which under
 * spec.serve.adapterMemory are what the job file says, whenever that changes.
 */
#ifndef CLI_LISTED_H
#define CLI_LISTED_H

#include "api/jobspec.h"
#include "api/report.h"
#include "base/err.h"
#include "base/mem.h"

struct listed {          /* zero: nothing was edited */
    struct arena *arena; /* holds the desired state's adapters then */
    char wrong[320];     /* as was said */
};

void listed_done(struct listed *l);
/* What a changed file says: moved into the folders of this machine (now is changed), and d's. 1: it
   is another list, 0: it is not, or such a job's may not change. */
int listed_reread(struct listed *l, struct jobspec *now, const char *storage, struct desired *d,
    struct arena *scratch, struct err *e);
/* What is wrong with one, if that is news; else NULL. */
const char *listed_wrong(struct listed *l, const struct report *r);

#endif
