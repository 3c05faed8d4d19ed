/*
 * field: a C struct described by a table, one row a JSON leaf; from the table come decoding (types,
 * bounds, defaults, an error that names the path) and encoding. api/jobspec and api/report are
 * tables for this file.
 *
 * A row's path is dotted and relative to the object that the table describes; rows of one parent
 * stand together, so that encoding opens each parent once. A numeric value outside the row's bounds
 * means "absent": it is not encoded, and comes from the default of a row that may be missing.
 * Decoded strings and items live in the arena. Nothing here knows the meaning of a field; what
 * crosses fields is the caller's affair.
 */
#ifndef BASE_FIELD_H
#define BASE_FIELD_H

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum field_kind {
    FIELD_BOOL,    /* bool */
    FIELD_INT,     /* int */
    FIELD_I64,     /* int64_t, and uint64_t below 2^53 */
    FIELD_NUM,     /* double */
    FIELD_STR,     /* const char *; min and max count bytes */
    FIELD_ENUM,    /* an enum; info: const char *const names[], NULL at the end */
    FIELD_STRINGS, /* const char *[max] in the struct; item_max bytes each */
    FIELD_NUMBERS, /* double[max] in the struct; null is NaN */
    FIELD_ITEMS,   /* pointer to structs in the arena; info: their struct field_table */
    FIELD_INLINE,  /* structs [max] in the struct itself; info as FIELD_ITEMS */
    FIELD_CUSTOM,  /* info: struct field_custom */
    FIELD_GROUP,   /* an object that may be absent as a whole: then its rows are skipped; info:
                      field_present_fn */
};

extern const char field_none[]; /* def of a string that may be absent: NULL then */

struct field {
    const char *path;
    enum field_kind kind;
    size_t offset;
    const char *def; /* as text, lists with commas; NULL: required */
    double min, max; /* of a value, a string's bytes or a list's length; both 0: not bounded */
    bool min_open, max_open; /* the bound itself is outside */
    size_t count_offset;     /* int beside a list */
    int item_max;
    const void *info;
    const struct field_format *format; /* of a string or a list's strings, or NULL */
};

struct field_table {
    const struct field *rows;
    size_t count;
    size_t size; /* of the struct */
};

struct field_format {
    bool (*ok)(const char *s);
    const char *want; /* "an absolute path" */
};

typedef bool field_present_fn(const void *base);

struct field_source {   /* where a decoded object comes from */
    const char *prefix; /* "spec" */
    bool strict;        /* a member that no row describes is an error */
    enum err_code code; /* of everything that is wrong with the object */
    struct arena *arena;
};

struct field_custom {
    /* path is whole; v is never NULL or null; at points at the member */
    int (*decode)(const struct field_source *s, const char *path, const struct json *v, void *at,
        struct err *e);
    void (*encode)(struct jsonw *w, const char *key, const void *at);
    bool (*absent)(const void *at);
    size_t size; /* of the member, for field_hash: its bytes are its value; 0: not hashed */
};

/* Fills the struct at out; on failure out is partly filled, so decode into a temporary. */
int field_decode(const struct field_table *t, const struct field_source *s,
    const struct json *object, void *out, struct err *e);
/* Writes the members into the object that w has open. */
void field_encode(const struct field_table *t, const void *in, struct jsonw *w);
/* Likewise, with the groups that `given`, from which the struct was decoded, has. */
void field_encode_given(
    const struct field_table *t, const void *in, const struct json *given, struct jsonw *w);

/* Over what field_encode would write, without writing it: equal texts have equal hashes, and
 * different ones, but for chance, different. Custom rows need a size. */
uint64_t field_hash(const struct field_table *t, const void *in);

/* Is v within the row's bounds? */
bool field_inside(const struct field *f, double v);

/* "prefix.path: sentence", with the source's code. */
int field_refuse(const struct field_source *s, const char *path, struct err *e, const char *fmt,
    ...) __attribute__((format(printf, 4, 5)));

#endif
