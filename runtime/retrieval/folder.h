/*
 * folder: what files a folder has, and those in it: a walk of a few entries at a time, so that
 * nobody waits for a large one. Names that begin with a dot are passed over, and so are folders
 * that are links; a file may be one, as those of a mounted ConfigMap are. Thread: one.
 */
#ifndef RUNTIME_RETRIEVAL_FOLDER_H
#define RUNTIME_RETRIEVAL_FOLDER_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define FOLDER_DEPTH 16
#define FOLDER_FILES 8192 /* at most */

struct folder_file {
    char *name; /* from the folder on: "policy/ch-archive.txt" */
    int64_t size, changed_ns;
};

struct folder;

/* ERR_DATA: it is none. */
int folder_open(const char *path, struct folder **out, struct err *e);
void folder_close(struct folder *f);
/* Looks at so many more entries; *over: at all, and then folder_files has them. ERR_USER: there are
   too many files, or folders in folders; ERR_DATA: a folder cannot be read. */
int folder_walk(struct folder *f, int entries, bool *over, struct err *e);
/* In the order of their bytes; valid until the folder is closed. */
const struct folder_file *folder_files(const struct folder *f, int *count);

#endif
