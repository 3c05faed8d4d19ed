/*
 * kept_file: a file of embeddings, each by the key of what it is of. A header, the keys in their
 * order, then records of a key, the numbers and their sum: all of it is verified when it is read,
 * and a file is whole under its name or not there. It is never changed. Others' files are told by
 * the name and the header's mark, and are neither replaced nor removed. Knows no encoder.
 */
#ifndef RUNTIME_SERVE_KEPT_FILE_H
#define RUNTIME_SERVE_KEPT_FILE_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define KEPT_FILE_NAME 64
#define KEPT_FILE_KEY  32

struct kept_key { /* of what is embedded: a digest */
    char hex[KEPT_FILE_KEY];
};

struct kept_file {
    char name[KEPT_FILE_NAME]; /* in its folder */
    int fd;
    int64_t dim, count;
    struct kept_key *keys; /* (count) in their order */
};

/* May a file of this name be one of that encoder's (a digest)? unfinished: not whole yet. */
bool kept_file_bears_name(const char *name, uint64_t encoder, bool *unfinished);
/* ERR_DATA: it is none of ours; ERR_CORRUPT: it bears our mark and is damaged, and out can be
   removed and is to be closed; ERR_USER: it has more than `most`; ERR_MEMORY. */
int kept_file_open(const char *folder, const char *name, uint64_t encoder, int64_t dim,
    int64_t most, struct kept_file *out, struct err *e);
void kept_file_close(struct kept_file *f);
/* Where the key stands; -1: it does not. */
int64_t kept_file_find(const struct kept_file *f, const struct kept_key *key);
/* scratch: kept_file_record(dim) bytes. ERR_CORRUPT: it is not what was written. */
int kept_file_read(const struct kept_file *f, int64_t i, float *row, void *scratch, struct err *e);
int64_t kept_file_record(int64_t dim);
/* Unless another file has its name by now. */
int kept_file_remove(const char *folder, const struct kept_file *f, struct err *e);

/* A row of those that are written: row (dim). */
typedef int kept_file_row_fn(void *user, int64_t i, float *row, struct err *e);
struct kept_file_new {
    uint64_t encoder;
    int64_t dim, count;
    const struct kept_key *keys; /* (count) in their order, each once */
    kept_file_row_fn *row_fn;
    void *user;
};
/* A file with all of them is there, written now or before; name (KEPT_FILE_NAME). Nothing is
   synced: what a power cut leaves is found to be damaged. */
int kept_file_write(const char *folder, const struct kept_file_new *n, char *name, struct err *e);

#endif
