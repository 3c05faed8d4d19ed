/*
 * local: makes a job of the cluster a job of this machine: each storage entry becomes a folder
 * here, and every path of the spec that lies under its mountPath is moved into that folder. Where a
 * folder for an entry comes from, in order: the mapping NAME=DIR given; the mountPath itself when
 * it exists here; llmjob-data/NAME below the working folder.
 */
#ifndef CLI_LOCAL_H
#define CLI_LOCAL_H

#include "api/jobspec.h"
#include "base/mem.h"

/* mapping: "data=/srv/x,scratch=y" or "". Folders are made when missing. The spec is changed in
 * place, also on failure. */
int local_map(struct jobspec *spec, const char *mapping, struct arena *a, struct err *e);

/* The path moved from under `from` to under `to`; path itself when it does not lie there; NULL when
 * out of memory. */
const char *local_move(const char *path, const char *from, const char *to, struct arena *a);

#endif
