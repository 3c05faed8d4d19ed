/*
 * gguf: one GGUF file (versions 2 and 3, little-endian), mapped and checked once at open: every
 * count, length and offset in 64 bits against the file's size; names unique; tensors aligned,
 * inside the file and not overlapping. What this header hands out points into the mapping (strings
 * are not NUL-terminated) and lives until close. Source: ggml/docs/gguf.md. Errors are ERR_DATA and
 * name the file. Thread: read-only after open.
 */
#ifndef RUNTIME_FILES_GGUF_H
#define RUNTIME_FILES_GGUF_H

#include "base/err.h"
#include "kernels/dev.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GGUF_NAME_BYTES 128 /* a tensor's name with the NUL */

struct gguf;

enum gguf_type { /* of values */
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPES
};

struct gguf_str {
    const char *s;
    size_t len;
};

struct gguf_tensor {
    char name[GGUF_NAME_BYTES];
    enum dtype type;
    int dims;
    int64_t shape[4]; /* row-major: the file's order reversed */
    const uint8_t *data;
    int64_t bytes;
};

/* The number by which files know a type of tensors; -1: they do not. */
int gguf_tensor_type(enum dtype t);

int gguf_open(const char *path, struct gguf **out, struct err *e);
/* From memory that outlives the object; path is only for messages. */
int gguf_parse(const void *data, size_t size, const char *path, struct gguf **out, struct err *e);
void gguf_close(struct gguf *g);
/* The file's pages leave this process' memory; they come back when they are read. */
void gguf_release(const struct gguf *g);
const char *gguf_path(const struct gguf *g);
const void *gguf_bytes(const struct gguf *g, size_t *size); /* the whole file */

int gguf_tensor_count(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, int i); /* by offset */

int64_t gguf_key_count(const struct gguf *g);
struct gguf_str gguf_key_name(const struct gguf *g, int64_t i);     /* by name */
bool gguf_key_number(const struct gguf *g, int64_t i, double *out); /* or truth value; else false */
/* Its value as the file has it, of an array element type and count too. */
void gguf_key_value(
    const struct gguf *g, int64_t i, enum gguf_type *type, const void **value, size_t *bytes);
bool gguf_has(const struct gguf *g, const char *key);
/* Checked getters: ERR_DATA when absent, of another type, or out of [low, high]. */
int gguf_int(
    const struct gguf *g, const char *key, int64_t low, int64_t high, int64_t *out, struct err *e);
int gguf_num(const struct gguf *g, const char *key, double *out, struct err *e);
int gguf_string(const struct gguf *g, const char *key, struct gguf_str *out, struct err *e);
bool gguf_bool(const struct gguf *g, const char *key, bool def);

/* Arrays, allocated for the caller (mem_free): of strings, of any integer type, of F32 or F64. */
int gguf_strings(
    const struct gguf *g, const char *key, struct gguf_str **out, int64_t *count, struct err *e);
int gguf_ints(const struct gguf *g, const char *key, int64_t **out, int64_t *count, struct err *e);
int gguf_nums(const struct gguf *g, const char *key, double **out, int64_t *count, struct err *e);
/* An array of bytes, where it stands. */
int gguf_byte_array(const struct gguf *g, const char *key, struct gguf_str *out, struct err *e);

#endif
