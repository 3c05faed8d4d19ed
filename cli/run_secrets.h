/*
 * run_secrets: what a job has from Secrets in a cluster, where there is none: API keys from a file,
 * what webhooks want to see from a folder. They are put where an agent looks for them.
 */
#ifndef CLI_RUN_SECRETS_H
#define CLI_RUN_SECRETS_H

#include "api/jobspec.h"
#include "base/err.h"

struct run_secrets {
    const char *file;           /* of the job, for errors */
    const char *api_key_file;   /* or "" */
    const char *webhook_folder; /* that has a file for each webhookKey; or "" */
};

/* What the job names is given, and what is given it takes. API keys hold whether or not the job
 * asks for them: it does then. */
int run_secrets_check(const struct run_secrets *s, struct jobspec *spec, struct err *e);
/* Into job_dir, of mode 0600. */
int run_secrets_write(
    const struct run_secrets *s, const struct jobspec *spec, const char *job_dir, struct err *e);

#endif
