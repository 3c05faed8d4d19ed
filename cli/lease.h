/*
 * lease: one process on a folder at a time: a file that is locked (flock) as long as its holder
 * lives, however it ends, and says who that is. A second one is told at once. Across machines it
 * holds where the file system carries locks, as NFS does.
 */
#ifndef CLI_LEASE_H
#define CLI_LEASE_H

#include "api/limits.h"
#include "base/err.h"

struct folder_lease {
    int fd;                           /* -1: none */
    char path[LIMIT_PATH_BYTES + 32]; /* of a file in or beside a folder of the spec */
};

/* 0: taken, with a line about this process, which ends with `what` ("/jobs/a.yaml"). -ERR_USER:
 * held, and the text says by whom. -ERR_RETRY: there can be no lock there, and why. */
int lease_take(const char *path, const char *what, struct folder_lease *out, struct err *e);
void lease_drop(struct folder_lease *l); /* and removes the file */

#endif
