/*
 * ckpt_folder: what stands in a checkpoint's folder, by name: a folder a step, in it a manifest and
 * a file a rank, the temporaries of both, and the claim beside them. Only what bears a name that
 * the writer gives is ever removed: the folder is the user's, and may hold files of his. Whoever
 * removes holds the folder's lock.
 */
#ifndef RUNTIME_CKPT_FOLDER_H
#define RUNTIME_CKPT_FOLDER_H

#include "api/limits.h"
#include "runtime/ckpt/manifest.h"

#define CKPT_FOLDER_OWNER ".llmjob-owner" /* of the claim */

/* printf into a path; ERR_USER when it does not fit. */
int ckpt_folder_path(char out[LIMIT_PATH_BYTES], struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int ckpt_folder_step(const char *path, int64_t step, char out[LIMIT_PATH_BYTES], struct err *e);
int ckpt_folder_manifest(const char *path, int64_t step, char out[LIMIT_PATH_BYTES], struct err *e);

/* The steps that have a folder, newest first; an absent path has none. Freed by the caller. */
int ckpt_folder_list(const char *path, int64_t **out, int *count, struct err *e);
/* Whether a step is a generation. What cannot be told is an error, not an answer. */
int ckpt_folder_committed(const char *path, int64_t step, bool *out, struct err *e);

/* Whether a file of the folder of a step is as its manifest says: its size, and if asked its hash.
 * ERR_CORRUPT, or ERR_DATA where it is absent, names it. */
int ckpt_folder_check(const char *folder, const struct ckpt_file *f, bool hashed, struct err *e);

/* All folders of steps, those that were set aside among them, newest first. Freed by the caller. */
struct ckpt_folder_entry {
    int64_t step;
    bool aside;
    char name[64];
};
int ckpt_folder_all(const char *path, struct ckpt_folder_entry **out, int *count, struct err *e);

/* Removes the writer's files of a step but those of `keep` (NULL: all, and the folder itself if
 * nothing else is in it), the manifest first. */
int ckpt_folder_clear(
    const char *path, int64_t step, const struct ckpt_manifest *keep, struct err *e);
/* Renames the folder of a step to "step-00000050.damaged", or "....damaged-2" and so on where there
 * is one already; name is what it came to. */
int ckpt_folder_set_aside(const char *path, int64_t step, char name[64], struct err *e);
/* How many there are of these, and the bytes of the files in them. */
int ckpt_folder_aside(const char *path, int *count, int64_t *bytes, struct err *e);
/* What saves that never ended left behind, of all steps; generations stay as they are, also those
 * whose manifest cannot be read. */
int ckpt_folder_sweep(const char *path, struct err *e);

#endif
