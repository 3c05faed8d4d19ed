/*
 * ckpt_manifest: manifest.json of one generation: the training's state and the files that belong to
 * it. The text carries its own XXH3, so a damaged manifest is told from a good one. Pure but for
 * reading and writing the one file.
 */
#ifndef RUNTIME_CKPT_MANIFEST_H
#define RUNTIME_CKPT_MANIFEST_H

#include "base/buf.h"
#include "runtime/ckpt/ckpt.h"

struct ckpt_file {
    char name[64];
    char hash[17];
    int64_t bytes;
};

struct ckpt_manifest {
    struct ckpt_state state;
    struct ckpt_file *files; /* by rank */
    int file_count;
};

void ckpt_file_name(int rank, const char hash[17], char out[64]);
int ckpt_file_rank(const char *name); /* -1: it is no name of a file's */
/* Its text, and back: `text` is used up. */
int ckpt_manifest_print(const struct ckpt_manifest *m, struct buf *out, struct err *e);
int ckpt_manifest_parse(struct buf *text, struct ckpt_manifest *out, struct err *e);
int ckpt_manifest_write(const char *path, const struct ckpt_manifest *m, struct err *e);
/* ERR_CORRUPT names what is wrong; ERR_DATA when there is none. */
int ckpt_manifest_read(const char *path, struct ckpt_manifest *out, struct err *e);
void ckpt_manifest_done(struct ckpt_manifest *m);

#endif
