/*
 * safetensors: one .safetensors file, mapped and checked once at open: header length, types, shapes
 * and offsets in 64 bits against the file's size; the tensors fill the data exactly, without holes
 * or overlap (as the format asks). What this header hands out lives until close. Source:
 * github.com/huggingface/safetensors, "Format". Errors are ERR_DATA and name the file. Thread:
 * read-only after open.
 */
#ifndef RUNTIME_FILES_SAFETENSORS_H
#define RUNTIME_FILES_SAFETENSORS_H

#include "base/buf.h"
#include "base/err.h"
#include "kernels/dev.h"

#include <stddef.h>
#include <stdint.h>

#define SAFETENSORS_NAME_BYTES    192
/* Of a header: its text, and its values (ten a tensor), of which each costs 100 bytes. So opening
 * takes at most 120 MiB; the reference allows 100 MiB of text, which would take 5 GiB. */
#define SAFETENSORS_HEADER_LIMIT  (16 << 20)
#define SAFETENSORS_HEADER_VALUES ((size_t)1 << 20)

/* The type of 64-bit whole numbers, which models carry along and do not compute with: such a tensor
   has its place in the file, and no reader. */
#define SAFETENSORS_UNREAD DTYPES

struct safetensors;

struct safetensors_tensor {
    char name[SAFETENSORS_NAME_BYTES];
    enum dtype type;     /* F32, BF16, F16, I32, U8, or SAFETENSORS_UNREAD */
    int dims;            /* 0 to 4 */
    int64_t shape[4];    /* 0: of no elements, and no place in the file */
    const uint8_t *data; /* NULL where only the header was read */
    int64_t offset;      /* of the data in the file */
    int64_t bytes;
};

int safetensors_open(const char *path, struct safetensors **out, struct err *e);
int safetensors_parse(
    const void *data, size_t size, const char *path, struct safetensors **out, struct err *e);
/* From the first bytes of a file of file_size, for one that is read piece by piece. */
int safetensors_parse_header(const void *head, size_t size, size_t file_size, const char *path,
    struct safetensors **out, struct err *e);
void safetensors_close(struct safetensors *s);
/* The file's pages leave this process' memory; they come back when they are read. */
void safetensors_release(const struct safetensors *s);
int safetensors_count(const struct safetensors *s);
const struct safetensors_tensor *safetensors_at(const struct safetensors *s, int i); /* by name */
const struct safetensors_tensor *safetensors_find(const struct safetensors *s, const char *name);
const char *safetensors_metadata(const struct safetensors *s, const char *key); /* or NULL */
const void *safetensors_bytes(const struct safetensors *s, size_t *size);       /* the whole file */

/* Writing: one entry a tensor, in file order, then the header with its length before it, padded to
   8 bytes or, if greater, to pad_to bytes in all (-ERR_USER when it does not fit). metadata: pairs
   of key and value, NULL-ended, or NULL. */
struct safetensors_entry {
    char name[SAFETENSORS_NAME_BYTES];
    enum dtype type;
    int dims;
    int64_t shape[4];
    int64_t bytes;
};
int safetensors_header(const struct safetensors_entry *entries, int count,
    const char *const *metadata, size_t pad_to, struct buf *out, struct err *e);

#endif
