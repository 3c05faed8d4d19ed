/*
 * tokens: a corpus as ids in a file, made once and mapped by every rank, so that memory does not
 * grow with the corpus. Little endian, in this order:
 *
 *     header   struct tokens_header
 *     ids      int32 each; in rows ~id where nothing is learnt from predicting it
 *     rows     struct tokens_row each, at a multiple of 8; running text has none
 *
 * The file is named by its key, a digest of all that its ids come from, and appears whole: it is
 * written beside its place, synced and renamed. Thread: read-only once opened.
 */
#ifndef RUNTIME_DATA_TOKENS_H
#define RUNTIME_DATA_TOKENS_H

#include "api/limits.h"
#include "base/err.h"
#include "base/io.h"

#include <stdbool.h>
#include <stdint.h>

struct tokens_header {
    char magic[8];
    uint32_t version, header_bytes;
    uint64_t key;
    int64_t ids, rows; /* rows -1: running text */
    int64_t skipped;   /* records of the source that were left out */
    uint64_t ids_digest, rows_digest;
    uint64_t digest; /* of the fields before it */
};

struct tokens_row { /* a document of its own, of at least two tokens */
    int64_t first;  /* in ids; it ends where the next one begins */
    int64_t learnt; /* offset of its first token that is learnt */
};

struct tokens {
    struct io_map map;
    struct tokens_header header;
    const int32_t *ids;
    const struct tokens_row *rows; /* NULL: running text */
};

/* Told every few megabytes, so that whoever waits knows of it; a failure ends the work. NULL: no
 * one. */
struct tokens_progress {
    int (*fn)(void *user, struct err *e);
    void *user;
};
int tokens_go_on(const struct tokens_progress *p, struct err *e);

int tokens_path(const char *folder, uint64_t key, char out[LIMIT_PATH_BYTES], struct err *e);
/* ERR_CORRUPT: not a file of tokens, or a damaged one, as far as header and size tell. */
int tokens_open(const char *path, struct tokens *out, struct err *e);
void tokens_close(struct tokens *t);
/* The same for every byte, ids included: each is below `vocab`. */
int tokens_verify(
    const struct tokens *t, int32_t vocab, const struct tokens_progress *p, struct err *e);

struct tokens_writer;
/* Makes the folder, too. */
int tokens_create(const char *folder, uint64_t key, struct tokens_writer **out, struct err *e);
int tokens_add(struct tokens_writer *w, const int32_t *ids, int64_t count, struct err *e);
/* The ids since the row before are a row. Either all ids are of rows or none. */
int tokens_end_row(struct tokens_writer *w, int64_t learnt, struct err *e);
int64_t tokens_written(const struct tokens_writer *w); /* ids */
/* The file appears; either frees the writer. */
int tokens_commit(struct tokens_writer *w, int64_t skipped, struct err *e);
void tokens_abandon(struct tokens_writer *w); /* NULL is fine */

/* Removes files of tokens from the folder but those of `keep`; a file that does not bear our name
 * and header stays. */
int tokens_sweep(const char *folder, const uint64_t *keep, int count, struct err *e);

#endif
