/*
 * dev: one computing device as a rank sees it, and the registry of kinds.
 *
 * A kind ("cpu", "cpu-ref", later "cuda" from the plugin libllmjob-cuda.so) is chosen at run time
 * by name. A struct dev belongs to one thread. Operations (kernels/ops.h) are asynchronous: they
 * return nothing, run in the order they were called, and their first failure sticks until
 * dev_sync() reports it. Device memory must not be assumed readable by the host: use dev_upload /
 * dev_download.
 */
#ifndef KERNELS_DEV_H
#define KERNELS_DEV_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dtype {
    DTYPE_F32,
    DTYPE_BF16,
    DTYPE_F16,
    DTYPE_I32,
    DTYPE_Q8_0, /* blocks of 32: f16 scale, 32 x i8 (34 bytes); GGUF layout */
    DTYPE_Q4_0, /* blocks of 32: f16 scale, 16 bytes (18 bytes) */
    DTYPE_Q4_1, /* blocks of 32: f16 scale, f16 min, 16 bytes (20 bytes) */
    DTYPE_Q5_0, /* blocks of 32: f16 scale, 4 bytes of fifth bits, 16 bytes (22 bytes) */
    DTYPE_Q5_1, /* blocks of 32: f16 scale, f16 min, 4 bytes, 16 bytes (24 bytes) */
    DTYPE_Q4_K, /* super-blocks of 256 (144 bytes) */
    DTYPE_Q5_K, /* super-blocks of 256 (176 bytes) */
    DTYPE_Q6_K, /* super-blocks of 256 (210 bytes) */
    DTYPE_U8,
    DTYPES
};
const char *dtype_name(enum dtype t); /* "f32", "bf16", "q4_1", ... */
int64_t dtype_block(enum dtype t);    /* elements a block: 1, 32, 256 */
int64_t dtype_block_bytes(enum dtype t);
/* Bytes of count elements (a multiple of the block), or -1 on overflow or a ragged count. */
int64_t dtype_bytes(enum dtype t, int64_t count);

static inline float bf16_to_f32(uint16_t h)
{
    union {
        uint32_t u;
        float f;
    } v = {.u = (uint32_t)h << 16};
    return v.f;
}
static inline uint16_t f32_to_bf16(float f) /* round to nearest even; NaN stays NaN */
{
    union {
        float f;
        uint32_t u;
    } v = {.f = f};
    if ((v.u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((v.u >> 16) | 0x40u);
    return (uint16_t)((v.u + 0x7fffu + ((v.u >> 16) & 1u)) >> 16);
}
float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f);

/* The same of either type of 16 bits. */
static inline float half_to_f32(enum dtype t, uint16_t h)
{
    return t == DTYPE_F16 ? f16_to_f32(h) : bf16_to_f32(h);
}
static inline uint16_t f32_to_half(enum dtype t, float f)
{
    return t == DTYPE_F16 ? f32_to_f16(f) : f32_to_bf16(f);
}

struct dev;
struct ops;
struct driver_comms;

struct dev_info {
    char kind[16]; /* "cpu" */
    char name[96]; /* processor or GPU name */
    int threads;
    int64_t memory_bytes;
    bool host_readable; /* device pointers may be dereferenced by the host */
};

/* index: which device of the kind; threads: 0 = those the process may use. Unknown kind:
   ERR_USER. */
int dev_open(const char *kind, int index, int threads, struct dev **out, struct err *e);
void dev_close(struct dev *d);
const struct ops *dev_ops(const struct dev *d);
/* Collectives between devices of the kind (kernels/driver.h), or NULL: it has none. */
const struct driver_comms *dev_comms(const struct dev *d);
void dev_describe(const struct dev *d, struct dev_info *out);
/* Whether quant_matmul gives a row the same bits whatever the other rows are and however many, at
   the speed of the kind's best product; every other operation of serving does. */
bool dev_rows_alike(const struct dev *d);

/* 64-byte aligned, zeroed; ERR_MEMORY names the size. Called at start only, never inside a step. On
   the CPU a page of large blocks takes its memory when it is first written. */
int dev_alloc(struct dev *d, size_t bytes, void **out, struct err *e);
/* As dev_alloc, for what is written piece by piece, here and there, and perhaps never whole: small
   pages. */
int dev_reserve(struct dev *d, size_t bytes, void **out, struct err *e);
void dev_free(struct dev *d, void *p);
void dev_upload(struct dev *d, void *dst, const void *host, size_t bytes);
void dev_download(
    struct dev *d, void *host, const void *src, size_t bytes); /* waits for src to be ready */
void dev_zero(struct dev *d, void *dst, size_t bytes);
void dev_copy(struct dev *d, void *dst, const void *src, size_t bytes);
int dev_sync(struct dev *d, struct err *e); /* waits; returns and clears the first failure */

/*
 * Recordings: what is called between begin and end is kept instead of run; each launch runs it
 * again, in order with other work, with the same arguments and whatever their memory then holds.
 * It should have run once before (what is loaded or chosen at a first call may not be loaded
 * there), and may be operations, dev_copy and dev_zero only: anything else makes end fail. A
 * recording is freed before its device is closed and before the memory it uses is.
 */
/* Whether the kind can; the CPU kinds cannot, and the caller enqueues anew. */
bool dev_can_record(const struct dev *d);
int dev_record_begin(struct dev *d, struct err *e); /* ERR_BUG: the kind cannot */
/* Always ends it. The first failure of what was called comes back from here. */
int dev_record_end(struct dev *d, void **recording, struct err *e);
void dev_record_launch(struct dev *d, void *recording);
void dev_record_free(struct dev *d, void *recording); /* NULL: nothing */

#endif
