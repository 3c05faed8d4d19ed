/*
 * ckpt: checkpoints that any layout can read.
 *
 *     <path>/
 *         incarnation                     the greatest that began; an older one cannot commit
 *         .llmjob-owner                   of that incarnation
 *         step-00000025/                  a folder a step
 *             rank-00000-<hash>.safetensors   pieces: each with its tensor's name, whole and place
 *             manifest.json                   written last, renamed into place
 *         step-00000050.damaged/          one that was passed over, as it was
 *
 * A folder without a manifest is no checkpoint. Reading needs only the manifest, which names the
 * files with size and XXH3: any range or rectangle of a tensor is gathered from the pieces that
 * there are, whatever layout wrote them. An entry "name@offset" of shape (n) with the metadata
 * "total" is a range of the flattened tensor; one "name@row,column" of shape (h, w) with the
 * metadata "RxC" a rectangle of a matrix. Each element of a tensor stands in one piece: a
 * generation with a hole, or with an element twice, is damaged.
 * Writing: file, fsync, hash; barrier; rank 0 writes the manifest. The newest `keep` (at least 2)
 * generations stay. One whose hash does not match, or that cannot be read, is skipped for the one
 * before it (logged). Files that others put into the folder are left alone.
 */
#ifndef RUNTIME_CKPT_CKPT_H
#define RUNTIME_CKPT_CKPT_H

#include "base/err.h"
#include "kernels/dev.h"
#include "runtime/ckpt/piece.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define CKPT_IDENTITY_BYTES 8192
#define CKPT_LAYOUT_BYTES   48
#define CKPT_SOURCE_BYTES   256

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
    char layout[CKPT_LAYOUT_BYTES]; /* of that world, as "dp2 x tp2"; "": before version 3 */
    char source[CKPT_SOURCE_BYTES]; /* path of the model that was trained, its end; "" likewise */
    int64_t written_ms;             /* wall time; 0 likewise */
    double first_loss, loss, first_validation_loss, validation_loss; /* NaN: none */
    double epoch_loss; /* of the labels of the epoch that has begun, added up */
    int64_t epoch_labels;
    struct ckpt_epoch epochs[CKPT_EPOCHS];
    int epoch_count;
    struct ckpt_scale scale;
    char identity[CKPT_IDENTITY_BYTES]; /* of the training; "": version 1 */
    char spec_hash[65];                 /* version 1 only */
    /* In no manifest: of the incarnation, as given to ckpt_claim; and of ckpt_set_aside. */
    char owner[65], aside[64];
    int64_t aside_bytes;
    int64_t stored_step; /* of the newest on storage, when it was begun with; -1: there was none */
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
/* The same, but what is put stays in memory, and ckpt_finish, which another thread may call, writes
 * all of it. */
struct ckpt_memory { /* the caller's, of one writer at a time */
    char *at;
    int64_t bytes;
    _Atomic int64_t written; /* bytes, by ckpt_finish; any thread may look */
    _Atomic bool stop;       /* any thread's: ckpt_finish gives up soon, -ERR_DRAINED */
};
int ckpt_hold(const char *path, int64_t step, int rank, struct ckpt_memory *m,
    struct ckpt_writer **out, struct err *e);
/* Where the next `bytes` that are put may be made, so that putting them copies nothing; NULL: of
 * this writer nowhere, or there is no room for them. */
void *ckpt_place(const struct ckpt_writer *w, int64_t bytes);
/* Elements [offset, offset + count) of the flattened global tensor `name` of `total` elements; host
 * memory. No rank writes what another writes. ERR_MEMORY: there is no room to hold them. */
int ckpt_put(struct ckpt_writer *w, const char *name, int64_t total, int64_t offset, int64_t count,
    enum dtype t, const void *data, struct err *e);
/* The same of a rectangle, data (height, width). Those that follow one another, range on range or
 * rows below rows, become one entry. */
int ckpt_put_piece(struct ckpt_writer *w, const char *name, const struct ckpt_piece *p,
    enum dtype t, const void *data, struct err *e);
/* Closes, fsyncs and hashes this rank's file. hash: 17 bytes of hex. */
int ckpt_finish(struct ckpt_writer *w, char hash[17], int64_t *bytes, struct err *e);
/* Of a writer that holds: what it would write as a file stands in memory instead, from
 * CKPT_HEADER_BYTES below the ckpt_memory's `at` on. The same hash and bytes. */
int ckpt_finish_held(struct ckpt_writer *w, char hash[17], int64_t *bytes, struct err *e);
void ckpt_abandon(struct ckpt_writer *w); /* NULL or unfinished: removes its file */
/* Rank 0 after all finished: hashes and sizes by rank. -ERR_DRAINED when a newer incarnation,
 * or another of that number, has begun. */
int ckpt_commit(const char *path, const struct ckpt_state *s, int files, const char (*hashes)[17],
    const int64_t *bytes, int keep, struct err *e);

/* -- reading -- */
struct ckpt_reader;
/* The newest complete and intact generation of a step up to `limit`, every file of it hashed; *out
 * NULL and 0 when path holds none at all. ERR_CORRUPT when it holds some, but none that can be
 * read, and names the newest's file. */
int ckpt_open_newest(const char *path, int64_t limit, struct ckpt_reader **out,
    struct ckpt_state *state, struct err *e);
/* What the newest readable manifest says, without its tensors; *state is untouched when there is
 * none. */
int ckpt_peek(const char *path, struct ckpt_state *state, struct err *e);
/* That of a step. CKPT_HEADERS: without reading what the files hold, but for their headers. */
enum ckpt_depth { CKPT_HEADERS, CKPT_HASHES };
int ckpt_open_step(const char *path, int64_t step, enum ckpt_depth depth, struct ckpt_reader **out,
    struct ckpt_state *state, struct err *e);
/* One whose files lie somewhere else: read_fn gives bytes [at, at + bytes) of m's file `file`, and
 * they are known to be what m says. m is the reader's from now on, also after a failure. */
struct ckpt_manifest;
typedef int ckpt_read_fn(void *user, int file, void *to, int64_t bytes, int64_t at, struct err *e);
int ckpt_open_files(struct ckpt_manifest *m, ckpt_read_fn *read_fn, void *user,
    struct ckpt_reader **out, struct err *e);
void ckpt_close(struct ckpt_reader *r); /* NULL is fine */
/* Whether there is a tensor of that name. */
bool ckpt_has(const struct ckpt_reader *r, const char *name);
/* Gathers [offset, offset + count) of tensor `name`; ERR_CORRUPT when it is absent or of another
 * total or type. */
int ckpt_get(struct ckpt_reader *r, const char *name, int64_t total, int64_t offset, int64_t count,
    enum dtype t, void *data, struct err *e);
/* The same of a rectangle, into data (height, width); ERR_CORRUPT, too, where the checkpoint has
 * the tensor as rectangles of another shape. */
int ckpt_get_piece(struct ckpt_reader *r, const char *name, const struct ckpt_piece *p,
    enum dtype t, void *data, struct err *e);
/* Rank 0, once every rank has read the generation of s->step: those after it, which not all could
 * read, get the name "step-00000050.damaged" and are neither written over nor removed. s->aside:
 * that of the newest, "" for none; s->aside_bytes: of all that bear such a name, whenever they got
 * it. What cannot be renamed, or counted, is logged. -ERR_DRAINED as ckpt_commit. */
int ckpt_set_aside(const char *path, struct ckpt_state *s, struct err *e);

#endif
