/*
 * intake: follows a source (agent/follow) in a thread beside the loop (agent/aside), since the
 * folder may be one of a network that does not answer. INTAKE_ITEMS lines or files at most, or
 * beyond the first INTAKE_BYTES of them, wait to be taken. Between two looks that bring nothing
 * INTAKE_FILE_MS pass, or INTAKE_DIRECTORY_MS. Functions that are not about its life never wait
 * for the disk.
 */
#ifndef AGENT_INTAKE_H
#define AGENT_INTAKE_H

#include "agent/follow.h"

#define INTAKE_ITEMS        64
#define INTAKE_BYTES        (256 << 10)
#define INTAKE_FILE_MS      200
#define INTAKE_DIRECTORY_MS 1000
#define INTAKE_END_MS       1000 /* that the thread has to end */

struct intake;

struct intake_view {
    bool begun;
    int waiting;      /* to be taken */
    bool whole;       /* as many as can wait, or all there is: no more comes right away */
    bool behind;      /* something is still to be taken, or to be read, or nobody knows */
    int64_t late_ms;  /* as aside_late_ms */
    struct err fails; /* the last look; ERR_NONE: it did not */
};

int intake_create(const char *path, bool directory, struct intake **out, struct err *e);
/* A thread that does not come back from the disk is left. */
void intake_destroy(struct intake *r);
/* Once: reads, from that place on. */
void intake_begin(struct intake *r, const struct follow_place *from);
struct intake_view intake_view(struct intake *r);
/* False: none waits. The item lives until the next call. */
bool intake_next(struct intake *r, struct follow_item *out);
/* What was taken so far is done with: from here on another intake may begin. */
void intake_mark(struct intake *r);
void intake_write(const struct intake *r, struct jsonw *w); /* that place, into an open object */

#endif
