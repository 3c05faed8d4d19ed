/*
 * ckpt_saver: writes a rank's part of a checkpoint, and commits a generation, on a thread of its
 * own while its owner computes. A part is put into memory first: what that holds is written, as it
 * was then. One thing at a time: nothing is begun before what was begun last has ended. It decides
 * nothing: when a part is taken and when all are there to be committed is its owner's to know.
 *
 * All functions are the owner's, one thread. Files are those that ckpt_begin, ckpt_finish and
 * ckpt_commit make, to the byte.
 */
#ifndef RUNTIME_CKPT_SAVER_H
#define RUNTIME_CKPT_SAVER_H

#include "base/err.h"
#include "runtime/ckpt/ckpt.h"

#include <stdbool.h>
#include <stdint.h>

/* What a destroyed saver has left to end in, before it is left behind. */
#define CKPT_SAVER_END_MS 2000

struct ckpt_saver;
/* Of parts of up to so many bytes, all of which are allocated. */
int ckpt_saver_create(int64_t bytes, struct ckpt_saver **out, struct err *e);
/* NULL is fine. A part that is being written is given up, a commit waited for. What a bad disk
 * holds up keeps its thread and its memory: the process is about to end. */
void ckpt_saver_destroy(struct ckpt_saver *s);

/* A writer that holds what is put; given to ckpt_saver_write, or abandoned. */
int ckpt_saver_begin(struct ckpt_saver *s, const char *path, int64_t step, int rank,
    struct ckpt_writer **out, struct err *e);
/* Files that must last as the checkpoint does are fsynced first; they stay open until it ends. */
#define CKPT_SAVER_BESIDE 2
void ckpt_saver_write(
    struct ckpt_saver *s, struct ckpt_writer *w, const int beside[CKPT_SAVER_BESIDE], int count);
/* ckpt_commit's; hashes and bytes stay as they are until it ends. */
struct ckpt_generation {
    const char *path;
    const struct ckpt_state *state;
    int files;
    const char (*hashes)[17];
    const int64_t *bytes;
    int keep;
};
void ckpt_saver_commit(struct ckpt_saver *s, const struct ckpt_generation *g);

/* Waits for at most wait_ms; has what was begun last ended, or was there nothing? */
bool ckpt_saver_ended(struct ckpt_saver *s, int64_t wait_ms);
/* Bytes of the part that are written, for whoever waits. */
int64_t ckpt_saver_written(const struct ckpt_saver *s);
/* How it ended: 0, or as ckpt_finish or ckpt_commit fail. hash, bytes: of the part that was written
 * last, as ckpt_finish gives them. */
int ckpt_saver_result(const struct ckpt_saver *s, char hash[17], int64_t *bytes, struct err *e);

#endif
