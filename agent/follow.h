/*
 * follow: what grows: the lines of a file, or the files of a directory, in order and each once.
 *
 * A file is read on across rotation: when another one has its name, the old one is read until
 * nothing has come for FOLLOW_SETTLE_MS, then the new one from its beginning; one that got shorter
 * begins anew. After a break the file that was read is looked for beside the name, by its inode
 * and first line: so one rotation in a break loses nothing; of several, those in between are not
 * read. A directory's files, regular ones whose names do not begin with a dot, come whole, by when
 * they changed last (ctime) and then by name, once that is FOLLOW_SETTLE_MS ago: so one that is
 * still written, or moved into place, is neither cut nor missed. Reads at most FOLLOW_BYTES of a
 * line or a file; waits for nothing but the storage, which may be for good: agent/intake. One
 * thread.
 */
#ifndef AGENT_FOLLOW_H
#define AGENT_FOLLOW_H

#include "base/err.h"
#include "base/json.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FOLLOW_SETTLE_MS  1000
#define FOLLOW_BYTES      (256 << 10)
#define FOLLOW_NAME_BYTES 256

struct follow;

struct follow_place {      /* up to where it was read */
    int64_t inode, offset; /* of a file; inode 0: none yet */
    int64_t first;         /* a hash of its first line: inodes come again; 0: not known */
    int64_t us;            /* of a directory's file; -1: none yet */
    char name[FOLLOW_NAME_BYTES];
};

struct follow_item {
    const char *text; /* (len), until the next call; of a file without NULs */
    size_t len;
    const char *name; /* of a directory's file; NULL: it is a line */
    int64_t ms;       /* when that changed last; of a line 0 */
    bool cut;         /* the rest was longer than FOLLOW_BYTES; of a line nothing is there */
};

/* path is borrowed. It need not exist yet. */
int follow_create(const char *path, bool directory, struct follow **out, struct err *e);
void follow_destroy(struct follow *f);
/* 1 and the next one; 0: there is none now; or -code, and it may be tried again. */
int follow_next(struct follow *f, int64_t wall_ms, struct follow_item *out, struct err *e);
struct follow_place follow_place(const struct follow *f); /* behind what came last */
/* Before the first follow_next: where it goes on. */
void follow_go(struct follow *f, const struct follow_place *p);
/* Its members, into an open object; */
void follow_place_write(const struct follow_place *p, bool directory, struct jsonw *w);
/* and back: what is damaged, absent or of another kind is the beginning. */
struct follow_place follow_place_read(const struct json *v);

#endif
