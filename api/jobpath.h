/*
 * jobpath: the paths of a job's spec, in one table: which there are, which of them the job writes,
 * and from which of them its output must keep away, because the folder of the output is replaced as
 * a whole. Pure: what is said here is said of texts; what links and mounts make of them is only
 * known where they stand (runtime/train/output).
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

#define JOBPATH_COUNT (25 + LIMIT_ADAPTERS + 2 * LIMIT_MEMBERS)
extern const struct jobpath jobpath_table[JOBPATH_COUNT];

const char *jobpath_of(const struct jobspec *spec, const struct jobpath *p);
/* Of a job: its output; NULL: it has none. */
const struct jobpath *jobpath_output(const struct jobspec *spec);
void jobpath_set(struct jobspec *spec, const struct jobpath *p, const char *path);

enum jobpath_relation {
    JOBPATH_APART,
    JOBPATH_EQUAL,
    JOBPATH_INSIDE,  /* a lies in b */
    JOBPATH_CONTAINS /* b lies in a */
};

/* By component; "//", "/./" and a "/" at the end mean nothing. Both absolute and without "..". */
enum jobpath_relation jobpath_relate(const char *a, const char *b);

/* Each path lies under a mountPath that lets it be written where it is, and the output below one,
 * apart from everything else. As the CEL of manifests/crd.yaml. */
int jobpath_check(const struct field_source *s, const struct jobspec *spec, struct err *e);

#endif
