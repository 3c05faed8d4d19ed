/*
 * json: the only file that includes cJSON. Parsing is bounded (bytes and depth) and strict about
 * trailing bytes; reading is by typed getters with a default or by checked getters that name the
 * path at fault; writing is by the streaming writer below, which prints 64-bit integers exactly.
 *
 * cJSON keeps numbers as doubles: an integer beyond 2^53 read here is refused (json_i64 ->
 * ERR_DATA), and an object that came from a server is never written back. Ownership: json_parse
 * returns a tree that the caller destroys; every other pointer is borrowed from that tree.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct json; /* one value of a tree */

#define JSON_DEPTH       64 /* open brackets at once, of what json_parse and json_print take */
#define JSON_VALUES      ((size_t)64 << 10) /* of json_parse: what a stranger may make us hold */
#define JSON_FILE_VALUES ((size_t)1 << 20)  /* of json_read_file */

/* RFC 8259 to the letter, and no NUL character even when escaped; ERR_DATA with the byte offset.
 * A value costs about 100 bytes however short its text: so their number has a limit of its own. */
int json_parse(const char *text, size_t len, struct json **out, struct err *e);
int json_parse_within(
    const char *text, size_t len, size_t values, struct json **out, struct err *e);
int json_read_file(const char *path, size_t limit, struct json **out, struct err *e);
int json_read_file_within(
    const char *path, size_t limit, size_t values, struct json **out, struct err *e);
void json_destroy(struct json *root); /* NULL is fine */
#define json_auto __attribute__((cleanup(json_destroy_at)))
void json_destroy_at(struct json **root);

/* Building a tree (for base/yaml); NULL on memory failure; the parent takes the child. */
struct json *json_new_object(void);
struct json *json_new_array(void);
struct json *json_new_string(const char *s);
struct json *json_new_number(double n);
struct json *json_new_bool(bool b);
struct json *json_new_null(void);
/* Both take the child even on failure; a NULL container or child is -ERR_MEMORY, so calls may be
 * nested. */
int json_put(struct json *object, const char *key, struct json *child);
int json_push(struct json *array, struct json *child);

/* Navigation: NULL in, NULL out. Keys are case-sensitive. */
struct json *json_get(const struct json *object, const char *key);
struct json *json_path(const struct json *root, const char *dotted); /* "status.conditions" */
struct json *json_first(const struct json *array_or_object);
struct json *json_next(const struct json *item);
const char *json_key(const struct json *item); /* its name inside an object, or NULL */
size_t json_count(const struct json *array_or_object);
#define json_each(item, container) \
    for (struct json *item = json_first(container); item; item = json_next(item))

bool json_is_object(const struct json *v);
bool json_is_array(const struct json *v);
bool json_is_string(const struct json *v);
bool json_is_number(const struct json *v);
bool json_is_bool(const struct json *v);
bool json_is_null(const struct json *v);

/* Lenient getters: def when absent or of another type. */
const char *json_str(const struct json *object, const char *key, const char *def);
int64_t json_int(const struct json *object, const char *key, int64_t def);
double json_num(const struct json *object, const char *key, double def);
bool json_bool(const struct json *object, const char *key, bool def);
const char *json_string_value(const struct json *v); /* NULL when not a string */
double json_number_value(const struct json *v);      /* 0 when not a number */
bool json_bool_value(const struct json *v);

/* Checked getter: a whole number of at most 2^53; absent, of another type or beyond: ERR_DATA, *out
 * untouched. */
int json_i64(const struct json *object, const char *key, int64_t *out, struct err *e);

/* Prints a tree (what this program built or parsed from a file of its own). */
int json_print(const struct json *v, struct buf *out);

/*
 * The writer: commas and quotes are its own affair. key may be NULL inside arrays and at the root.
 *   struct jsonw w; jsonw_init(&w, &buf); jsonw_open(&w, NULL, '{'); jsonw_int(&w, "step", 3);
 *   jsonw_close(&w); return jsonw_end(&w);
 */
struct jsonw {
    struct buf *out;
    int depth;
    char close[32]; /* the closing bracket of each open level */
    bool comma[32];
};
void jsonw_init(struct jsonw *w, struct buf *out);
void jsonw_open(struct jsonw *w, const char *key, char bracket); /* '{' or '[' */
void jsonw_close(struct jsonw *w);
void jsonw_str(struct jsonw *w, const char *key, const char *value); /* NULL value: null */
/* bad UTF-8 -> U+FFFD */
void jsonw_strn(struct jsonw *w, const char *key, const char *value, size_t len);
void jsonw_int(struct jsonw *w, const char *key, int64_t value);
/* The shortest that reads back; NaN: null. */
void jsonw_num(struct jsonw *w, const char *key, double value);
void jsonw_bool(struct jsonw *w, const char *key, bool value);
void jsonw_null(struct jsonw *w, const char *key);
/* json: already JSON, of our own making */
void jsonw_raw(struct jsonw *w, const char *key, const char *json);
int jsonw_end(struct jsonw *w); /* 0, or -ERR_MEMORY when the buffer failed; asserts depth 0 */

#endif
