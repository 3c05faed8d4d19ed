/*
 * ckpt: checkpoints that any layout can read.
 *
 *     <path>/
 *         incarnation                     the greatest that began; an older one cannot commit
 *         .llmjob-owner                   of that incarnation
 *         step-00000025/                  a folder a step
 *             rank-00000-<hash>.safetensors   slices: each with its tensor's name, total and offset
 *             manifest.json                   written last, renamed into place
 *
 * A folder without a manifest is no checkpoint. Reading needs only the manifest, which names the
 * files with size and XXH3: slices are gathered by global offset, whatever layout wrote them.
 * Writing: file, fsync, hash; barrier; rank 0 writes the manifest. The newest `keep` (at least 2)
 * generations stay. One whose hash does not match, or that cannot be read, is skipped for the one
 * before it (logged). Files that others put into the folder are left alone.
 */
#ifndef RUNTIME_CKPT_CKPT_H
#define RUNTIME_CKPT_CKPT_H

#include "base/err.h"
#include "kernels/dev.h"

#include <stdbool.h>
#include <stdint.h>

#define CKPT_IDENTITY_BYTES 8192

enum ckpt_score { CKPT_SCORE_F1, CKPT_SCORE_MATCH, CKPT_SCORES };
/* An epoch that was whole; NaN: not looked at. */
struct ckpt_epoch {
    int64_t epoch, step;
    double loss, validation_loss, scores[CKPT_SCORES];
};
#define CKPT_EPOCHS 256 /* the newest are kept */

/* Of the loss, in FP16 (runtime/train/scale.h). */
struct ckpt_scale {
    double scale;           /* a power of two; 0: none */
    int64_t clean, skipped; /* steps since it changed, and those of all that changed nothing */
};

struct ckpt_state {  /* what a manifest says beside tensors */
    int64_t step;    /* steps completed */
    int64_t samples; /* data position: samples consumed */
    int64_t tokens;
    uint64_t seed;
    int64_t incarnation;
    int world;
    double first_loss, loss, first_validation_loss, validation_loss; /* NaN: none */
    double epoch_loss; /* of the labels of the epoch that has begun, added up */
    int64_t epoch_labels;
    struct ckpt_epoch epochs[CKPT_EPOCHS];
    int epoch_count;
    struct ckpt_scale scale;
    char identity[CKPT_IDENTITY_BYTES]; /* of the training; "": version 1 */
    char spec_hash[65];                 /* version 1 only */
    char owner[65]; /* of the incarnation, as given to ckpt_claim; in no manifest */
};

#define CKPT_HEADER_BYTES (1 << 20) /* of a rank's file, at most */

/* -- writing, by each rank -- */
struct ckpt_writer;
/* Rank 0, at start: raises <path>/incarnation and removes what unfinished saves left, before
 * another rank writes. Two halves of a job that cannot see each other may come to the same number:
 * owner (up to 64 characters) tells them apart, and the second is refused as an older one is
 * (ERR_DRAINED). ERR_DATA: what stands there is no incarnation. */
int ckpt_claim(const char *path, int64_t incarnation, const char *owner, struct err *e);
int ckpt_begin(const char *path, int64_t step, int rank, struct ckpt_writer **out, struct err *e);
/* Elements [offset, offset + count) of the flattened global tensor `name` of `total` elements; host
 * memory. */
int ckpt_put(struct ckpt_writer *w, const char *name, int64_t total, int64_t offset, int64_t count,
    enum dtype t, const void *data, struct err *e);
/* Closes, fsyncs and hashes this rank's file. hash: 17 bytes of hex. */
int ckpt_finish(struct ckpt_writer *w, char hash[17], int64_t *bytes, struct err *e);
void ckpt_abandon(struct ckpt_writer *w); /* NULL or unfinished: removes its file */
/* Rank 0 after all finished: hashes and sizes by rank. -ERR_DRAINED when a newer incarnation,
 * or another of that number, has begun. */
int ckpt_commit(const char *path, const struct ckpt_state *s, int files, const char (*hashes)[17],
    const int64_t *bytes, int keep, struct err *e);

/* -- reading -- */
struct ckpt_reader;
/* The newest complete and intact generation of a step up to `limit`; *out NULL and 0 when path
 * holds none at all. ERR_CORRUPT when it holds some, but none that can be read. */
int ckpt_open_newest(const char *path, int64_t limit, struct ckpt_reader **out,
    struct ckpt_state *state, struct err *e);
/* What the newest readable manifest says, without its tensors; *state is untouched when there is
 * none. */
int ckpt_peek(const char *path, struct ckpt_state *state, struct err *e);
void ckpt_close(struct ckpt_reader *r);
/* Gathers [offset, offset + count) of tensor `name`; ERR_CORRUPT when absent, of another total or
 * type, or with gaps. */
int ckpt_get(struct ckpt_reader *r, const char *name, int64_t total, int64_t offset, int64_t count,
    enum dtype t, void *data, struct err *e);

#endif
