/*
 * trials: a search on this machine: its trials are runs of this very program, so many at a time,
 * each with a job file, a log and folders of its own. What has ended stands in search.json beside
 * the checkpoints, so a search that was stopped goes on where it was. The last run writes the best
 * trial's model, each time that a search comes to its end.
 */
#ifndef CLI_TRIALS_H
#define CLI_TRIALS_H

#include "api/jobspec.h"
#include "cli/lease.h"

struct trials_conf {
    const struct jobspec *spec; /* that search_wanted, with its storage on this machine */
    const char *agent, *rank;   /* programs */
    bool keep;                  /* the logs of what went well */
    /* On spec's output, held until the run that writes there takes it; or NULL. */
    struct folder_lease *output_lease;
    int signals; /* signalfd: the first signal suspends, the second kills */
};

/* *status: as of llmjob run. */
int trials_run(const struct trials_conf *conf, int *status, struct err *e);

#endif
