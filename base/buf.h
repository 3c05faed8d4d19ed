/*
 * buf: a bounded growing byte buffer (after curl's dynbuf). Init cannot fail; content is always
 * followed by a NUL that len does not count; an append that fails (memory, or more than limit
 * bytes) frees the content and makes every later append fail too, so callers may check once at the
 * end with buf_ok().
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct buf {
    char *data; /* NULL while empty; NUL-terminated otherwise */
    size_t len;
    size_t cap;
    size_t limit; /* bytes, the NUL not counted */
    bool failed;
};

void buf_init(struct buf *b, size_t limit);
void buf_done(struct buf *b);  /* frees; NULL is fine; may be used again after buf_init */
void buf_reset(struct buf *b); /* empties, keeps the memory, clears failed */
int buf_add(struct buf *b, const void *data, size_t len); /* 0 or -ERR_MEMORY */
int buf_str(struct buf *b, const char *s);
int buf_char(struct buf *b, char c);
int buf_fill(struct buf *b, char c, size_t n); /* n times c */
int buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int buf_vprintf(struct buf *b, const char *fmt, va_list ap);
void buf_drop(struct buf *b, size_t n);    /* removes the first n bytes */
const char *buf_cstr(const struct buf *b); /* never NULL */
char *buf_take(struct buf *b); /* moves the content out (free with mem_free); NULL when failed */
bool buf_ok(const struct buf *b);

#define buf_auto __attribute__((cleanup(buf_done)))

#endif
