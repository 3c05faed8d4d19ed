/*
 * echo: what the programs of a run task print, shown to who runs the job on this machine: whole
 * lines, the replica before each, in the order in which a replica's log has them.
 */
#ifndef CLI_ECHO_H
#define CLI_ECHO_H

#include "cli/crew.h"

struct echo {
    int64_t at[CREW_MEMBERS]; /* bytes of each replica's log that were shown */
};

/* Writes to fd what has come since the last call, at most a MiB a replica, and of a line that has
 * no end yet nothing; the last call shows up to a GiB, and such a line too. A log that cannot be
 * read has nothing to show. */
int echo_news(struct echo *x, const struct crew *c, bool last, int fd, struct err *e);

#endif
