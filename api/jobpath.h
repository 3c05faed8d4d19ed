/*
 * jobpath: the paths of a job's spec, in one table: which there are, which of them the job writes,
 * and from which of them its output must keep away, because the folder of the output is replaced as
 * a whole; and those of serve.adapters, of which neither is so. Rules of manifests/crd.yaml compare
 * them as texts; what links and mounts make of them is only known where they stand
 * (runtime/train/output).
 */
#ifndef API_JOBPATH_H
#define API_JOBPATH_H

#include "base/err.h"
#include "base/field.h"
#include "api/jobspec.h"

#include <stdbool.h>
#include <stddef.h>

struct jobpath {
    const char *field; /* below spec: "train.output" */
    size_t offset;     /* of a const char * in struct jobspec, NULL when absent */
    bool written;      /* not on storage that is readOnly */
    bool apart;        /* from the output */
    bool output;       /* the folder that is replaced as a whole */
};

extern const struct jobpath jobpath_table[];
extern const int jobpath_count;

const char *jobpath_of(const struct jobspec *spec, const struct jobpath *p);
/* Of a job: its output; NULL: it has none. */
const struct jobpath *jobpath_output(const struct jobspec *spec);
/* All of them: how many a spec has places for, those of the table first, and the one of a path,
   where NULL is when it is absent. */
int jobpath_places(const struct jobspec *spec);
const char **jobpath_place(struct jobspec *spec, int i);

#endif
