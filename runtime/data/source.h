/*
 * source: the files that a path of the user's stands for: a file; a folder, all files in it but
 * hidden ones and folders; or a pattern of glob(7) for files. In order of their names, bytewise, so
 * that it is the same everywhere.
 *
 * What ends in .gz (RFC 1952, members one behind another) or .zst (RFC 8878, frames likewise, with
 * windows up to 128 MiB) is unpacked, into a file without a name in a folder that the caller gives:
 * memory does not grow with it. Without a folder it is unpacked in memory, up to a bound.
 */
#ifndef RUNTIME_DATA_SOURCE_H
#define RUNTIME_DATA_SOURCE_H

#include "api/jobspec.h"
#include "base/err.h"
#include "base/io.h"
#include "runtime/data/tokens.h"

#define SOURCE_FILES        100000
#define SOURCE_MEMORY_BYTES (1 << 30) /* of one that is unpacked in memory */

struct source {
    char **paths;
    int count, capacity;
};

/* ERR_DATA: there is none, or more than SOURCE_FILES. */
int source_list(const char *path, struct source *out, struct err *e);
void source_done(struct source *s);

/* The length of a path without .gz or .zst. */
size_t source_stem(const char *path);
/* A file's text, unpacked into `folder`, NULL: into memory, where it is packed. ERR_DATA: damaged,
 * or more than memory is for. */
int source_map(const char *path, const char *folder, const struct tokens_progress *p,
    struct io_map *out, struct err *e);

/* What format Auto takes a file for, by the end of its name but for .gz and .zst; FORMAT_AUTO: it
 * does not know. A .json may be anything: it is never guessed. */
enum data_format source_format(const char *path);
/* ERR_USER: a file of Parquet, by the end of its name or what it begins with (text may be NULL);
   says what makes JSONL of it. */
int source_check(const char *path, const char *text, size_t size, struct err *e);

#endif
